"""What a score is: the metric of each target, and how they become one number."""
