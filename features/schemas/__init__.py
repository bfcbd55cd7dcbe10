"""One file per data set, each defining ``SCHEMA``; found by file name."""
