"""One blender per file, each defining ``BLENDER``; found by file name."""
