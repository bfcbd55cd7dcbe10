"""Prediction intervals and how often they hold."""
