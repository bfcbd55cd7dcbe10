"""Predictions of new rows that were made elsewhere, found by the ids of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.files import scratch_array
from features.core.types import Array
from features.store.store import Store
from models.external import Wanted, read_predictions
from models.member import Member
from models.spec import ModelSpec


def read_given(members: Sequence[Member], store: Store, out: Path) -> dict[str, Path]:
    """Predictions of members that were fitted elsewhere, in a file each, (n_targets, n_samples).

    Args:
        members: some; those that were fitted here are left out.
        store: the rows to predict.
        out: folder for the files.

    Returns:
        The file of each, by the member's name.

    Raises:
        ClimstackError: see :func:`look_up`.
    """
    files: dict[str, Path] = {}
    for member in members:
        if member.spec.external is not None:
            file = out / f"given-{member.spec.name}.npy"
            values = scratch_array(file, "<f8", (len(member.targets), len(store)))
            look_up(member.spec, store, member.targets, values.T)
            files[member.spec.name] = file
    return files


def look_up(
    spec: ModelSpec, store: Store, targets: NDArray[np.intp], out: Array | None = None
) -> None:
    """Look predictions that were made elsewhere up in their file.

    Args:
        spec: an external model.
        store: the rows to predict.
        targets: indices of its targets.
        out: filled in, (n_samples, len(targets)); None only looks whether they are there.

    Raises:
        ClimstackError: the model has no file, or it is not one of these rows: see
            :func:`models.external.read_predictions`.
    """
    if spec.external is None or spec.external.test is None:
        raise ClimstackError(
            f"model '{spec.name}' was fitted elsewhere, and its predictions of the {len(store)}"
            f" rows of {store.called} are not given: write them into a file with the column"
            f" '{store.schema.id_name}', name it in its [[models]] as test, and run again"
        )
    needed = np.ones(len(store), np.bool_)
    wanted = Wanted(
        ids=store.sample_ids,
        id_name=store.schema.id_name,
        needed=needed,
        what=f"rows of {store.called}",
        others=True,
    )
    columns = [store.schema.target_columns[target] for target in targets]
    read_predictions(spec.external.test, wanted, columns, out)
