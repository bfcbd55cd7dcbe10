"""Rows on disk: stores, their writer, conversion, shuffled reading."""
