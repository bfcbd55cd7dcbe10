"""One model family per file, each defining ``MODEL``; found by file name."""
