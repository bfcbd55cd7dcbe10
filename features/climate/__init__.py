"""What is known of the atmosphere: physics, derived features, regimes."""
