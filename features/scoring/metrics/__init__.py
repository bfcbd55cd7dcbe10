"""One metric per file, each defining ``METRIC``; found by file name."""
