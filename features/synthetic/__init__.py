"""Generated data: columns of air simulated with simple, honest physics; no download, no licence.

And small tables of other kinds: :mod:`features.synthetic.tables`.
"""

from features.synthetic.columns import SyntheticColumns, simulate, synthetic_grid
from features.synthetic.files import write_dataset
from features.synthetic.tables import write_table

__all__ = ["SyntheticColumns", "simulate", "synthetic_grid", "write_dataset", "write_table"]
