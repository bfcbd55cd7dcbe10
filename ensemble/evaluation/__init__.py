"""Held-out rows, walked and scored."""
