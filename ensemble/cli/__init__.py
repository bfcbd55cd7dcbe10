"""What a person types and reads on a terminal."""
