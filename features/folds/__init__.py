"""Who validates whom: plans, schemes, embargo, auxiliary sources."""
