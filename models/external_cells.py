"""An external member: its file of out-of-fold predictions, checked and taken into cells."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError, DataWarning
from features.core.files import file_hash, npy_rows, release, scratch_array
from features.core.folders import temporary_folder
from features.core.metrics import r2_from_sums
from features.core.types import Array, Rows
from features.folds.folded import FoldedStore
from features.store.matrix import BLOCK_ROWS
from models.external import External, Wanted, check_folds, read_predictions
from models.member import Member, cell_keys, read_member
from models.oof import CellStore
from models.spec import ModelSpec

CLOSE, SOME, NONE = 0.9, 0.3, 0.05  # correlations of predictions with the truth
CHANCE = 4.0  # correlations of what does not go together are rarely beyond so many over sqrt(rows)
OTHER_UNIT = 5.0  # so many times too large, or standard deviations off, is no error of a model
TOO_SMALL = 50.0  # one that is fitted too little says too little, but hardly by so much
SHOWN = 4


def take_in(
    data: FoldedStore,
    spec: ModelSpec,
    cells: CellStore,
    targets: NDArray[np.intp] | None = None,
) -> Member:
    """An external member with its predictions in cells, read from its file the first time.

    Args:
        data: training rows and their folds.
        spec: the member; names its files.
        cells: where finished cells live.
        targets: indices of the targets that are modelled; None for the schema's.

    Raises:
        ClimstackError: the file is not what it should be: see :func:`models.external
            .read_predictions`; its folds are others; or predictions are in another unit.
    """
    targets = data.store.schema.modelled_targets if targets is None else np.asarray(targets)
    keys = [cell_keys(data, spec, targets, fold)[0] for fold in range(data.plan.n_folds)]
    missing = [fold for fold, key in enumerate(keys) if cells.find(key) is None]
    if missing:
        served = spec.served(data.store.schema, targets)
        with temporary_folder(cells.path, "external") as scratch:
            values = _read(data, spec, served, scratch)
            found = _Agreement.of(data, served, values)
            _judge(spec, [keys[0].targets[i] for i in range(len(served))], found)
            _tell_lacking(data, spec, targets, served)
            for fold in missing:
                folder = scratch / f"fold-{fold}"
                folder.mkdir()
                shape = (len(data.plan.valid_rows(fold)), len(served))
                with npy_rows(folder / "oof.npy", "<f8", shape) as add:
                    for rows in _parts(data.plan.valid_rows(fold)):
                        add(values[rows])
                        release(values)
                score = {"seconds": 0.0, "peak_memory_mb": 0, "r2": found.r2[fold].tolist()}
                score["slope"] = found.slope.tolist()
                cells.write(keys[fold], None, folder, score)
    return replace(read_member(data, spec, cells, targets), computed=len(missing))


def _read(data: FoldedStore, spec: ModelSpec, served: NDArray[np.intp], scratch: Path) -> Array:
    """Predictions of all rows of the store that a fold holds out, (n_samples, n_served)."""
    store, plan, external = data.store, data.plan, _external(spec)
    wanted = Wanted(
        ids=store.sample_ids,
        id_name=store.schema.id_name,
        needed=plan.fold >= 0,
        what="validated rows",
    )
    columns = [store.schema.target_columns[target] for target in served]
    values = scratch_array(scratch / "values.npy", "<f8", (len(store), len(columns)))
    place = read_predictions(external.oof, wanted, columns, values)
    if external.oof_sha256 not in (None, file_hash(Path(external.oof))):
        raise ClimstackError(
            f"{external.oof} is not the file that oof_sha256 of model '{spec.name}' speaks of:"
            " give that file, or remove oof_sha256"
        )
    if external.folds is not None:
        check_folds(external, place, plan.fold, wanted)
    return values


def _external(spec: ModelSpec) -> External:
    if spec.external is None:
        raise ValueError(f"model '{spec.name}' is fitted here")
    return spec.external


def _parts(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))


@dataclass(frozen=True, kw_only=True)
class _Agreement:
    """How predictions and truth agree, each target on the rows that have it, (n_served,) each.

    Attributes:
        rows: how many there are.
        r2: of each fold, (n_folds, n_served).
        correlation: over all folds; 0 where one of the two is constant.
        slope: of the truth on the prediction; 1 where the prediction is constant.
        offset: mean error in standard deviations of the truth.
        spread: standard deviation of the predictions over that of the truth.
    """

    rows: int
    r2: Array
    correlation: Array
    slope: Array
    offset: Array
    spread: Array

    @classmethod
    def of(cls, data: FoldedStore, served: NDArray[np.intp], values: Array) -> _Agreement:
        """Two passes over the held-out rows: means, then what lies around them."""
        plan, shape = data.plan, (data.plan.n_folds, len(served))
        truth = data.store.require_targets()

        def blocks() -> Iterator[tuple[int, Array, Array]]:
            for fold in range(plan.n_folds):
                for rows in _parts(plan.valid_rows(fold)):
                    y, p = truth[rows][:, served], np.array(values[rows])
                    p[np.isnan(y)] = np.nan  # a missing truth is left out
                    yield fold, y, p
                    release(values)

        n, sum_y, sum_p = np.zeros((3, *shape))
        at_y, at_p = (np.full(shape[1], np.nan) for _ in range(2))
        for fold, y, p in blocks():
            for at, block in ((at_y, y), (at_p, p)):  # near values: a constant is exactly 0 away
                first = block[np.argmax(~np.isnan(block), axis=0), np.arange(shape[1])]
                at[np.isnan(at)] = first[np.isnan(at)]
            n[fold] += (~np.isnan(y)).sum(0)
            sum_y[fold] += np.nansum(y - at_y, axis=0)
            sum_p[fold] += np.nansum(p - at_p, axis=0)
        at_y, at_p = np.nan_to_num(at_y), np.nan_to_num(at_p)
        total = np.maximum(n.sum(0), 1)
        mean_y, mean_p = sum_y.sum(0) / total, sum_p.sum(0) / total
        own = sum_y / np.maximum(n, 1)
        error, deviation = np.zeros((2, *shape))
        yy, pp, yp = np.zeros((3, shape[1]))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for fold, y, p in blocks():
                error[fold] += np.nansum((y - p) ** 2, axis=0)
                y, p = y - at_y, p - at_p
                deviation[fold] += np.nansum((y - own[fold]) ** 2, axis=0)
                y, p = y - mean_y, p - mean_p
                yy += np.nansum(y * y, axis=0)
                pp += np.nansum(p * p, axis=0)
                yp += np.nansum(y * p, axis=0)
            both = (yy > 0) & (pp > 0)
            away = at_p + mean_p - at_y - mean_y
            return cls(
                rows=int(n.sum(0).max()),
                r2=r2_from_sums(error, deviation),
                correlation=np.where(both, yp / np.sqrt(yy) / np.sqrt(pp), 0.0),
                slope=np.where(both, yp / pp, 1.0),
                offset=np.where(both, away / np.sqrt(yy / total), 0.0),
                spread=np.where(both, np.sqrt(pp) / np.sqrt(yy), 0.0),
            )


def _judge(spec: ModelSpec, names: list[str], found: _Agreement) -> None:
    """Refuse what is in another unit; warn of what looks so, or looks shuffled."""
    file = _external(spec).oof
    if not np.isfinite(found.r2).all():
        at = int((~np.isfinite(found.r2)).any(0).argmax())
        raise ClimstackError(f"{file}: column '{names[at]}' has values too large to square")
    near = np.abs(found.correlation) > CLOSE
    size = np.abs(found.slope)
    other = (size > TOO_SMALL) | (size < 1 / OTHER_UNIT)
    wrong = near & (other | (found.slope < 0) | (np.abs(found.offset) > OTHER_UNIT))
    if wrong.any():
        at = int(wrong.argmax())
        what = (
            f"the truth is {found.slope[at]:.4g} times the prediction"
            if other[at] or found.slope[at] < 0
            else f"the prediction is {found.offset[at]:+.3g} standard deviations of the truth off"
        )
        raise ClimstackError(
            f"{file}: {wrong.sum()} of {len(names)} columns are in another unit than the training"
            f" data, as '{names[at]}', whose correlation with the truth is"
            f" {found.correlation[at]:.3f} while {what}: write them in the schema's units"
        )
    doubtful = (found.correlation > SOME) & (other | (size > OTHER_UNIT))
    if doubtful.any():
        at = int(doubtful.argmax())
        _warn(
            f"{file}: {doubtful.sum()} of {len(names)} columns may be in another unit than the"
            f" training data, or fitted too little, as '{names[at]}': the truth is"
            f" {found.slope[at]:.4g} times the prediction where they go together (correlation"
            f" {found.correlation[at]:.2f})"
        )
    varies = found.spread > 0
    best = float(found.correlation[varies].max(initial=0.0))
    chance = max(NONE, CHANCE / np.sqrt(found.rows))
    if varies.any() and best < chance and np.median(found.spread[varies]) > chance:
        _warn(
            f"{file}: no column goes with the truth (the highest correlation is {best:.3f}), though"
            f" they vary {np.median(found.spread[varies]):.2f} times as much as it: the rows look"
            " shuffled, so see that each prediction stands beside the id of its own row"
        )


def _tell_lacking(
    data: FoldedStore, spec: ModelSpec, targets: NDArray[np.intp], served: NDArray[np.intp]
) -> None:
    """Say which targets a file does not have."""
    lacking = [data.store.schema.target_columns[t] for t in np.setdiff1d(targets, served)]
    if lacking and not spec.targets:
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        _warn(
            f"{_external(spec).oof} lacks {len(lacking)} of {len(targets)} targets, so model"
            f" '{spec.name}' does not serve {', '.join(lacking[:SHOWN])}{more}"
        )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, DataWarning, stacklevel=4)
