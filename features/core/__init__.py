"""What every room uses: errors, settings, files, the registry, scores."""
