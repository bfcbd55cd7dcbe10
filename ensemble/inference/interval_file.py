"""Intervals of test rows in a Parquet file, written while the submission is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from ensemble.inference.predict import Predicted
from ensemble.inference.sample import row_order
from ensemble.inference.submission import write_table
from ensemble.stacking.blend import Blend
from ensemble.uncertainty.intervals import Intervals
from features.core.errors import ClimstackError
from features.core.files import atomic_path, release, scratch_array
from features.core.folders import temporary_folder
from features.core.types import Array
from features.store.store import Store


@contextmanager
def interval_file(
    path: str | Path,
    intervals: Intervals,
    *,
    blend: Blend,
    test: Store,
    blocks: Iterable[Predicted],
    sample_submission: str | Path | None = None,
) -> Iterator[Iterator[Array]]:
    """Note the intervals of predicted blocks as they pass by; write the file at the end.

    Inside the block stand the final outputs for the submission. When it ends well, ``path`` gets
    the id and ``TARGET_low`` and ``TARGET_high`` of every target, rows in the submission's order.
    Memory stays bounded: until then the ends lie in a scratch file beside ``path``.

    Args:
        path: ends in ``.parquet``.
        intervals: calibrated with the stack that made the blend.
        blend: that made the outputs.
        test: the rows that are predicted.
        blocks: predictions of all its rows, in its order.
        sample_submission: as for :func:`ensemble.inference.submission.write_submission`.

    Raises:
        ClimstackError: another suffix, intervals of another blend, or a sample submission with
            other ids.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise ClimstackError(f"{path} ends in '{path.suffix}': intervals need a .parquet file")
    intervals.require(blend)
    order = row_order(test.schema, test.sample_ids, sample_submission)
    names = [f"{name}_{end}" for end in ("low", "high") for name in test.schema.target_columns]
    with temporary_folder(path.parent, "intervals") as scratch:
        ends = scratch_array(scratch / "ends.npy", "<f8", (len(test), len(names)))
        yield _passing(intervals, blend, blocks, ends)
        with atomic_path(path) as made:
            ids = pl.DataFrame({test.schema.id_name: test.sample_ids})
            write_table(made, ids, names, ends, order)


def _passing(
    intervals: Intervals, blend: Blend, blocks: Iterable[Predicted], ends: Array
) -> Iterator[Array]:
    start, n_targets = 0, ends.shape[1] // 2
    for block in blocks:
        here = slice(start, start + len(block.outputs))
        ends[here, :n_targets], ends[here, n_targets:] = intervals.apply(
            blend, block.outputs, block.predictions, block.heads, block.inputs
        )
        release(ends)
        start = here.stop
        yield block.outputs
