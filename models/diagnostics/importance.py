"""Which inputs a member's models split on: gain by group of targets, variable and level."""

from __future__ import annotations

import numpy as np
import polars as pl

from features.schemas.schema import Schema
from models.member import Member


def importance(member: Member, schema: Schema) -> pl.DataFrame | None:
    """Gain of a member's features, summed over folds and over the targets of each group.

    A model that serves several targets counts for each of them in equal parts.

    Returns:
        ``group`` (of targets), ``variable`` and ``level`` (of the feature, -1 for a scalar),
        ``gain`` (in squared standard deviations of the targets, times rows) and ``share`` of the
        group's gain, largest first; None for models that have no such thing.
    """
    if not all((cell.path / "importance.npy").is_file() for fold in member.cells for cell in fold):
        return None
    columns = [schema.target_columns[target] for target in member.targets]
    upstream = [(f"{base.name}.{name}", -1) for base in member.spec.inputs_from for name in columns]
    frames = []
    for fold in member.cells:
        view = fold[0].model().view
        named = [*zip(view.feature_names, view.levels.tolist(), strict=True), *upstream]
        by_group: dict[str, np.ndarray] = {}
        for cell, served in zip(fold, member.sets, strict=True):
            gain = np.load(cell.path / "importance.npy").astype(np.float64) / len(served)
            for position in served:
                group = schema.target_groups[member.targets[position]]
                by_group[group] = by_group.get(group, 0.0) + gain
        for group, gain in by_group.items():
            frames.append(
                pl.DataFrame(
                    {
                        "group": group,
                        "variable": [name.removesuffix(f"_{level}") for name, level in named],
                        "level": [level for _, level in named],
                        "gain": gain,
                    }
                )
            )
    by = pl.concat(frames).group_by("group", "variable", "level", maintain_order=True)
    summed = by.agg(pl.col("gain").sum())  # in one order, for the same bytes each time
    return summed.with_columns(
        share=pl.col("gain") / pl.col("gain").sum().over("group").replace(0.0, 1.0)
    ).sort("group", "gain", "variable", "level", descending=[False, True, False, False])
