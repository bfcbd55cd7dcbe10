"""What the tree families share: windows of levels, bins, engines."""
