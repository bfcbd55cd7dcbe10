"""Stacking from sufficient statistics: the pass over rows on disk, and every blend solved from it.

    python benchmarks/bench_stack.py scale [--rows 2000000] [--plot docs/stack_rows.svg]
    python benchmarks/bench_stack.py peers

``scale`` writes members' predictions to disk, streams them once and solves all linear blends,
cross-fitted; parts and all of the rows show that the cost is a straight line. ``peers`` solves the
same problems with a loop of ``scipy.optimize.nnls`` over rows and with the package ``hillclimbers``
(which needs ``pip install climstack[bench]``, as plots do). Members are the truth with shared and
own errors.
"""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from common import Options
from scipy.optimize import nnls

from ensemble import Candidate, available_blenders, candidates
from ensemble.stacking.candidate import POOLINGS
from ensemble.stacking.moments import Moments
from features.core.files import scratch_array

N_FOLDS, N_BLOCKS, BLOCK_ROWS = 5, 40, 4096


def write_members(folder, n_rows, n_targets, n_members, seed=0):
    """Predictions (n_members files) and truth as memory maps, (n_rows, n_targets) float64."""
    rng = np.random.default_rng(seed)
    names = [*(f"member-{i}" for i in range(n_members)), "truth"]
    maps = [scratch_array(folder / f"{name}.npy", "<f8", (n_rows, n_targets)) for name in names]
    skill = rng.uniform(0.3, 1.0, (n_members, n_targets))
    for start in range(0, n_rows, BLOCK_ROWS):
        here = slice(start, min(start + BLOCK_ROWS, n_rows))
        shape = (here.stop - start, n_targets)
        truth, shared = rng.standard_normal((2, *shape))
        maps[-1][here] = truth
        for i in range(n_members):
            own = rng.standard_normal(shape)
            maps[i][here] = 0.9 * truth + 0.3 * shared + skill[i] * own
    for each in maps:
        each.flush()
    del maps
    os.sync()
    return [folder / f"{name}.npy" for name in names]


def stream(files, n_rows, n_targets):
    """Blocks of rows read from disk, each in one fold and one block of time."""
    edges = np.linspace(0, n_rows, N_BLOCKS + 1).astype(int)
    with contextlib.ExitStack() as opened:
        handles = [opened.enter_context(file.open("rb")) for file in files]
        for handle in handles:  # the pages that writing left in memory are dropped
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            version = np.lib.format.read_magic(handle)
            assert version == (1, 0)
            np.lib.format.read_array_header_1_0(handle)
        for block in range(N_BLOCKS):
            for start in range(edges[block], edges[block + 1], BLOCK_ROWS):
                n = min(BLOCK_ROWS, edges[block + 1] - start)
                read = [
                    np.fromfile(handle, np.float64, n * n_targets).reshape(n, n_targets)
                    for handle in handles
                ]
                yield block * N_FOLDS // N_BLOCKS, block, read[:-1], read[-1]


def cross_fitted(moments, candidate, groups):
    """Squared error over folds with weights from the others, in units of the truth's variance."""
    error = np.zeros(len(groups))
    by_fold = moments.by_fold()
    for fold in by_fold.fold_names:
        weights = candidate.weights(by_fold.without(fold), groups)
        error += by_fold.folds([fold]).squared_error(*weights).sum(0)
    return float((error / by_fold.merged().comoment[0, :, -1, -1]).mean())


def scale(n_rows, n_targets, n_members):
    """Seconds of the pass over parts of the rows: (rows, seconds) of each."""
    folder = Path(tempfile.mkdtemp(prefix="bench_stack."))
    try:
        # In a process of its own, so that what it maps does not count.
        writer = multiprocessing.Process(
            target=write_members, args=(folder, n_rows, n_targets, n_members)
        )
        writer.start()
        writer.join()
        files = [*(folder / f"member-{i}.npy" for i in range(n_members)), folder / "truth.npy"]
        size = sum(file.stat().st_size for file in files) / 1e9
        print(f"{n_rows} rows x {n_targets} targets x {n_members} members, {size:.1f} GB on disk")
        points = []
        for share in (0.125, 0.25, 0.5, 0.75, 1.0):
            some, start = int(share * n_rows), time.perf_counter()
            moments = Moments.of_blocks(stream(files, some, n_targets))
            points.append((some, time.perf_counter() - start))
            print(f"pass over {some} rows: {points[-1][1]:.1f} s", flush=True)
        slope = np.array([seconds / rows for rows, seconds in points]) * 1e6
        print(f"seconds per million rows: {slope.min():.1f} to {slope.max():.1f}")
        groups = [str(target // 10) for target in range(n_targets)]
        linear = available_blenders()
        start = time.perf_counter()
        for candidate in candidates(linear, POOLINGS):
            before = time.perf_counter()
            error = cross_fitted(moments, candidate, groups)
            seconds = time.perf_counter() - before
            print(f"  {candidate.name:<26} honest R2 {1 - error:.4f}  {seconds:.2f} s")
        print(f"all linear blends, cross-fitted: {time.perf_counter() - start:.1f} s")
        few = n_rows // 4
        known = Moments.of_blocks(
            (fold, block, predictions[:-1], truth)
            for fold, block, predictions, truth in stream(files, few, n_targets)
        )
        start = time.perf_counter()
        assert Moments.of_blocks(stream(files, few, n_targets), known).n_members == n_members
        print(f"one more member, {few} rows: {time.perf_counter() - start:.1f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory {peak:.0f} MB")
        return points
    finally:
        shutil.rmtree(folder)


def plot(points, file):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    rows, seconds = np.array(points).T
    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    axes.plot(rows / 1e6, seconds, "o", color="#0072b2")
    axes.plot([0, rows[-1] / 1e6], [0, seconds @ rows / (rows @ rows) * rows[-1]], color="#999999")
    axes.set(xlabel="million rows", ylabel="seconds of the pass", xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


def mean_squared_error(y_true, y_pred):
    return float(((y_true - y_pred) ** 2).mean())


def r2_of(weights, members, truth):
    """Mean R2 over targets of the blends, offset left out."""
    found = []
    for target in range(truth.shape[1]):
        rows = np.stack([member[:, target] for member in members], axis=1)
        residual = truth[:, target] - rows @ weights[:, target]
        found.append(1 - residual.var() / truth[:, target].var())
    return float(np.mean(found))


def nnls_on_rows(members, truth):
    """The obvious loop."""
    found = []
    for target in range(truth.shape[1]):
        rows = np.stack([member[:, target] for member in members], axis=1)
        y = truth[:, target]
        found.append(nnls(rows - rows.mean(0), y - y.mean())[0])
    return np.stack(found, axis=1)


def climb(members, truth):
    """Mean R2 of the blends of hillclimbers, with its own settings and negative weights."""
    import pandas
    from hillclimbers import climb_hill

    found = []
    for target in range(truth.shape[1]):
        table = pandas.DataFrame({str(i): m[:, target] for i, m in enumerate(members)})
        with contextlib.redirect_stdout(io.StringIO()):
            _, blend = climb_hill(
                train=pandas.DataFrame({"y": truth[:, target]}),
                oof_pred_df=table,
                test_pred_df=table.head(2),
                target="y",
                objective="minimize",
                eval_metric=partial(mean_squared_error),
                negative_weights=True,
                plot_hill=False,
                return_oof_preds=True,
            )
        error = ((truth[:, target] - blend) ** 2).mean()
        found.append(1 - error / truth[:, target].var())
    return float(np.mean(found))


def timed(seconds, name, function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    seconds.setdefault(name, []).append(time.perf_counter() - start)
    return result


def peers(n_rows, n_targets, n_members, rounds):
    folder = Path(tempfile.mkdtemp(prefix="bench_stack."))
    try:
        files = write_members(folder, n_rows, n_targets, n_members)
        *members, truth = (np.load(file) for file in files)
    finally:
        shutil.rmtree(folder)

    def one_pass():
        return Moments.of_blocks(
            (0, 0, [member[i : i + BLOCK_ROWS] for member in members], truth[i : i + BLOCK_ROWS])
            for i in range(0, n_rows, BLOCK_ROWS)
        )

    groups = [str(target) for target in range(n_targets)]
    seconds, scores = {}, {}
    for _ in range(rounds):
        moments = timed(seconds, "pass", one_pass)
        for name in ("nnls", "hill_climb_signed"):
            solve = Candidate(name, "target").weights
            weights, _ = timed(seconds, name, solve, moments, groups)
            scores[name] = r2_of(weights, members, truth)
        weights = timed(seconds, "scipy nnls on rows", nnls_on_rows, members, truth)
        scores["scipy nnls on rows"] = r2_of(weights, members, truth)
    pairs = [("nnls", "scipy nnls on rows")]
    if importlib.util.find_spec("hillclimbers") is None:
        print("hillclimbers is not installed")
    else:
        scores["hillclimbers"] = timed(seconds, "hillclimbers", climb, members, truth)
        pairs.append(("hill_climb_signed", "hillclimbers"))
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    print(f"{n_rows} rows x {n_targets} targets x {n_members} members")
    print(f"medians of {rounds} rounds, hillclimbers once")
    for name, value in middle.items():
        score = f"  R2 {scores[name]:.5f}" if name in scores else ""
        print(f"  {name:<20} {value:9.4f} s{score}")
    for own, peer in pairs:
        after = middle[peer] / middle[own]
        whole = middle[peer] / (middle[own] + middle["pass"])
        print(f"{own} against {peer}: {after:.0f}x after the pass, {whole:.1f}x with it")


def main() -> None:
    options = Options(__doc__)
    options.add_argument("part", choices=["scale", "peers"], nargs="?")
    options.add_argument("--rows", type=int, default=2_000_000)
    options.add_argument("--plot", type=Path, help="where to draw the pass")
    asked = options.parse()
    if asked.part == "scale" or (asked.quick and asked.part is None):
        points = scale(*((8_000, 4, 4) if asked.quick else (asked.rows, 40, 12)))
        if asked.plot:
            plot(points, asked.plot)
    if asked.part != "scale":
        peers(*((4_000, 3, 4, 1) if asked.quick else (100_000, 8, 12, 5)))


if __name__ == "__main__":
    main()
