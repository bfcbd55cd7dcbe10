"""HTML pages of figures and tables that need nothing else."""
