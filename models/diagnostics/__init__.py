"""Questions asked of models: what they cost, what they split on, whether two stores differ."""
