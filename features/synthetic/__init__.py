"""Generated data: columns of air simulated with simple, honest physics; no download, no licence."""

from features.synthetic.columns import SyntheticColumns, simulate
from features.synthetic.files import write_dataset

__all__ = ["SyntheticColumns", "simulate", "write_dataset"]
