"""What an experiment asks for, and where a run keeps its files."""
