"""Moments, blenders and blends."""
