"""How a value becomes learnable: the tabular view, scaling, missing values."""
