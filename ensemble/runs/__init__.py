"""A run's stages, its planner, and what starts them."""
