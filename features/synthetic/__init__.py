"""Generated data: columns of air simulated with simple, honest physics; no download, no licence."""

from features.synthetic.columns import SyntheticColumns, simulate, synthetic_grid
from features.synthetic.files import write_dataset

__all__ = ["SyntheticColumns", "simulate", "synthetic_grid", "write_dataset"]
