"""What a fitted estimator keeps of its run: the cells, wherever they lie, and the blend."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.experiment.folder import RunFolder
from ensemble.inference.predict import predict
from ensemble.stacking.blend import Blend
from features.core.types import Array
from features.schemas.schema import Schema
from features.store.store import Store
from models.member import Member


class Place:
    """The folder of a run: a named one, or a temporary one that is gone with this object.

    A pickle of a temporary one takes the cells along.
    """

    def __init__(self, named: Path | None = None) -> None:
        self.named = None if named is None else named.resolve()
        self.path = self.named or self._temporary()

    def _temporary(self) -> Path:
        path = Path(tempfile.mkdtemp(prefix="climstack-"))
        weakref.finalize(self, _remove, path, os.getpid())
        return path

    def __getstate__(self) -> dict[str, Any]:
        cells = RunFolder(self.path).cells
        files = () if self.named is not None else sorted(cells.rglob("*"))
        held = {str(f.relative_to(self.path)): f.read_bytes() for f in files if f.is_file()}
        return {"named": self.named, "files": held}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.named = state["named"]
        self.path = self.named or self._temporary()
        for name, data in state["files"].items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What predictions need.

    Attributes:
        place: where the cells lie.
        members: the base learners.
        blend: what is done to their predictions.
        schema: of the rows.
    """

    place: Place
    members: Sequence[Member]
    blend: Blend
    schema: Schema

    def predict(self, inputs: Array, n_jobs: int) -> Array:
        """Outputs of all targets, (n, n_targets)."""
        cells = RunFolder(self.place.path).cells
        members = [_moved(member, cells) for member in self.members]
        with tempfile.TemporaryDirectory(prefix="climstack-") as scratch:
            rows = Store.from_arrays(Path(scratch) / "rows", inputs, schema=self.schema)
            blocks = predict(self.blend, members, rows, scratch=Path(scratch), n_jobs=n_jobs)
            return np.concatenate(list(blocks))


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked
        shutil.rmtree(path, ignore_errors=True)


def _moved(member: Member, cells: Path) -> Member:
    """The same member where its cells lie now."""
    moved = [[replace(cell, path=cells / cell.path.name) for cell in fold] for fold in member.cells]
    return replace(member, cells=moved)
