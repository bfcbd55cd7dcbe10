"""What a column means: variables, levels, units, roles, weights, rules."""
