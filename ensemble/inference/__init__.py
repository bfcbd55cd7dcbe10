"""Predictions of a run on new rows, and the files they go into."""
