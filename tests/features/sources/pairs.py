"""A NetCDF pair as plain values, to be changed by a test and then written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features import Store

STAMP = "0002-02-28-01200"
CLASSIC = "NETCDF3_64BIT_DATA"


@dataclass
class Laid:
    """A variable as it is laid in the file."""

    values: np.ndarray
    dimensions: tuple[str, ...]
    dtype: Any = "f8"
    attributes: dict[str, Any] = field(default_factory=dict)

    def turn(self) -> None:
        """Profiles from the ground up."""
        if self.dimensions == ("lev", "ncol"):
            self.values = self.values[::-1]


Files = dict[str, dict[str, Laid]]


def pair_of(store: Store, n_columns: int) -> Files:
    """The first rows of a store as variables of ``mli`` and ``mlo``."""
    schema, rows = store.schema, slice(0, n_columns)
    inputs, targets = store.inputs[rows], store.targets[rows]

    def laid(values: np.ndarray) -> Laid:
        return Laid(values, ("lev", "ncol") if values.ndim == 2 else ("ncol",))

    before = {v.name: inputs[:, schema.slice_of(v.name)].T.squeeze() for v in schema.inputs}
    after = {}
    for variable in schema.targets:
        values = targets[:, schema.slice_of(variable.name)].T.squeeze()
        name = variable.name.replace("ptend_", "state_")
        after[name] = before[name] + 1200 * values if name in before else values
    return {
        kind: {name: laid(values) for name, values in held.items()}
        for kind, held in (("mli", before), ("mlo", after))
    }


def dump(folder: Path, files: Files, form: str = CLASSIC, **about: Any) -> Path:
    """Write the pair; ``about`` are attributes of both files."""
    import netCDF4

    folder.mkdir(exist_ok=True)
    for kind, variables in files.items():
        with netCDF4.Dataset(folder / f"E3SM-MMF.{kind}.{STAMP}.nc", "w", format=form) as data:
            data.setncatts(about)
            for name, laid in variables.items():
                for dimension, n in zip(laid.dimensions, np.shape(laid.values), strict=True):
                    if dimension not in data.dimensions:
                        data.createDimension(dimension, n)
                fill = laid.attributes.get("_FillValue")
                order = "big" if str(laid.dtype).startswith(">") else "native"
                made = data.createVariable(
                    name, laid.dtype, laid.dimensions, fill_value=fill, endian=order
                )
                made.setncatts({k: v for k, v in laid.attributes.items() if k != "_FillValue"})
                made.set_auto_maskandscale(False)
                made[...] = laid.values
    return folder
