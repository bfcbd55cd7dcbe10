"""Networks over a column of air: architectures, and one trainer for all of them.

Everything here imports with torch, lightning and NumPy alone.
"""
