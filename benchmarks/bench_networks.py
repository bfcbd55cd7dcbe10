"""Networks beside LightGBM, at an equal budget per fold: the six architectures on the real rows.

Each architecture's ``laptop`` preset trains on one fold for the same minutes: the speeds of all are
measured first, on a machine that should be quiet, and the epochs of each are what fits. The recipe
is a plain ConvNeXt of seven blocks of 128 channels on fewer inputs (profiles, and a dozen derived
ones), batches of 256, SmoothL1 with beta 0.5, AdamW with a one-cycle rate, no average of weights,
no augmentation. LightGBM and ridge run with their defaults. Then the honest blend of
the best network and LightGBM: weights per target from three of four blocks of the fold's validation
time, scored on the fourth.

Needs CLIMSTACK_REAL_DATA, but with ``--quick``. Folds and cells stay under RUNS, so a second call
continues.

    python benchmarks/bench_networks.py [NETWORK ...] [--runs RUNS] [--minutes 10]

A network is an architecture, or ``recipe``.
"""

import json
import logging
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import Options, make_store, spread_targets
from scipy.optimize import nnls

from ensemble import load_experiment, open_run
from features import FoldedStore, time_blocks
from features.core import registry
from models import CellStore, FoldData, ModelSpec, cross_validate, load_family
from models.seq2seq.layout import Layout
from models.seq2seq.trainer import predict, train

FOLD = 1
EXPERIMENT = Path(__file__).parents[1] / "configs" / "leap_real.toml"
ARCHITECTURES = registry.names("models.seq2seq.architectures")
RECIPE = (
    "state_t", "state_u", "state_v", "pbuf_ozone", "pbuf_CH4", "pbuf_N2O", "log10_state_q0001",
    "log10_state_q0002", "log10_state_q0003", "root_state_q0001", "root_state_q0002",
    "root_state_q0003", "relative_humidity", "difference_t", "difference_rh", "difference_u",
    "difference_v", "stability",
)  # fmt: skip
RECIPE_SETTINGS = {
    "preset": "tiny", "dim": 128, "depth": 7, "kernel": 7, "expansion": 4, "batch_size": 256,
    "learning_rate": 2e-3, "ema_decay": 0.0, "warmup": 0.3, "weight_decay": 0.01, "soft_clip": 30.0,
}  # fmt: skip
SPEED_ROWS = 2_560


def job_of(data, targets, spec, folder):
    """The job of one fold of a network, and what it sees of the fold."""
    family = load_family(spec.family)
    seen = FoldData(data=data, fold=FOLD, targets=targets, kind=family.view)
    return family.prepare(seen, spec.parsed, folder), seen


def rows_per_second(job, n_rows: int) -> float:
    """Speed of a network in training: one short epoch after a warm-up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("fit_features", "fit_targets"):
            rows = np.load(job.folder / f"{name}.npy", mmap_mode="r")[:n_rows]
            np.save(folder / f"{name}.npy", rows)
        short = replace(job, folder=folder, settings=replace(job.settings, epochs=1))
        train(short)
        start = time.perf_counter()
        train(short)
        batch = min(job.settings.batch_size, len(rows))
        return len(rows) // batch * batch / (time.perf_counter() - start)


def epochs_for(job, how) -> int:
    n_rows = len(np.load(job.folder / "fit_targets.npy", mmap_mode="r"))
    speed = rows_per_second(job, 32 if how.quick else SPEED_ROWS)
    return max(1, int(how.minutes * 60 * speed / n_rows))


def recipe_job(data, targets, folder):
    """The job of the plain recipe, what it sees of the fold, and which of the features."""
    spec = ModelSpec(name="recipe", family="convnext1d", params=RECIPE_SETTINGS)
    job, seen = job_of(data, targets, spec, folder)
    names, levels = seen.feature_names, seen.feature_levels.tolist()
    variables = [name.removesuffix(f"_{level}") for name, level in zip(names, levels, strict=True)]
    raw = set(data.store.schema.input_columns)
    shown = [
        i for i, (name, variable) in enumerate(zip(names, variables, strict=True))
        if (variable in RECIPE if levels[i] >= 0 else name in raw)
    ]  # fmt: skip
    layout = Layout.of([names[i] for i in shown], [levels[i] for i in shown], 60)
    shape = job.spec.shape
    shape = replace(
        shape,
        n_features=layout.n_columns,
        in_profile=layout.profile.tolist(),
        in_scalar=layout.scalar.tolist(),
        in_mean=[shape.in_mean[i] for i in shown],
        in_std=[shape.in_std[i] for i in shown],
    )
    features = np.load(folder / "fit_features.npy")[:, shown]
    np.save(folder / "fit_features.npy", np.ascontiguousarray(features))
    return replace(job, spec=replace(job.spec, shape=shape)), seen, shown


def recipe(data, targets, epochs, folder):
    """Predictions of the plain recipe for the fold's validation rows."""
    job, seen, shown = recipe_job(data, targets, folder)
    job = replace(job, settings=replace(job.settings, epochs=epochs))
    network = job.spec.build()
    network.load_state_dict(train(job)[""])
    valid = seen.arrays(data.plan.valid_rows(FOLD))[0][:, shown]
    outputs = predict(network, valid, torch.device("cpu"))[0].astype(np.float64)
    return seen.scaler.inverse(outputs)


def honest_blend(truth, time_of, members):
    """The blend by weights per target from other blocks of time, (n, n_targets)."""
    blocks = np.searchsorted(np.quantile(np.unique(time_of), [0.25, 0.5, 0.75]), time_of)
    found = np.empty_like(truth)
    for block in np.unique(blocks):
        rest, here = blocks != block, blocks == block
        for target in range(truth.shape[1]):
            z, mean = truth[rest, target], truth[rest, target].mean()
            x = np.stack([m[rest, target] - mean for m in members], 1)
            scale = z.std() or 1.0
            weights = nnls(x / scale, (z - mean) / scale)[0]
            found[here, target] = mean + sum(
                w * (m[here, target] - mean) for w, m in zip(weights, members, strict=True)
            )
    return found


@contextmanager
def opened(runs: Path, quick: bool):
    """Rows with their folds, where cells lie, and the targets: the experiment's, or a few."""
    if quick:
        store, embargo = make_store(runs, quick)
        data = FoldedStore(store, time_blocks(store.time, 3, embargo))
        yield data, CellStore(runs / "cells"), spread_targets(store, 12)
        return
    experiment = load_experiment(EXPERIMENT)
    with open_run(experiment, runs / experiment.name) as run:
        yield run.data, run.cells, run.train_store.schema.modelled_targets


def measure_epochs(names: list[str], data, targets, notes: Path, how) -> dict[str, dict]:
    """The epochs of each network that fit into the minutes; noted, so that they stay."""
    facts = json.loads(notes.read_text()) if notes.is_file() else {}
    for name in [name for name in names if name not in facts]:
        with tempfile.TemporaryDirectory() as temporary:
            if name == "recipe":
                job = recipe_job(data, targets, Path(temporary))[0]
            else:
                job = job_of(data, targets, network_spec(name, how), Path(temporary))[0]
            facts[name] = {"epochs": epochs_for(job, how)}
            notes.write_text(json.dumps(facts))
    return facts


def network_spec(name: str, how, **params) -> ModelSpec:
    preset = "tiny" if how.quick else "laptop"
    return ModelSpec(name=name, family=name, params={"preset": preset} | params)


def main(runs: Path, how) -> None:
    names = how.networks
    with opened(runs, how.quick) as (data, cells, targets):
        rows, predicted = data.plan.valid_rows(FOLD), {}
        truth = data.store.targets[rows][:, targets]

        def fit(spec):
            member = cross_validate(data, spec, cells, targets=targets, folds=[FOLD])
            predicted[spec.name] = member.oof(0)
            return member

        for family in ("ridge", "lightgbm"):
            fit(ModelSpec(name=family, family=family))
        facts = measure_epochs(names, data, targets, runs / "networks.json", how)
        for name in [name for name in names if name != "recipe"]:
            member = fit(network_spec(name, how, epochs=facts[name]["epochs"]))
            parameters = member.models(0)[0].fitted.weights[""].values()
            facts[name]["parameters"] = sum(p.numel() for p in parameters)
        file = runs / "recipe.npy"
        if "recipe" in names and not file.is_file():
            with tempfile.TemporaryDirectory() as temporary:
                epochs = facts["recipe"]["epochs"]
                np.save(file, recipe(data, targets, epochs, Path(temporary)))
        if file.is_file():
            predicted["recipe"] = np.load(file)
        table = {name: scores(data.store, targets, truth, each) for name, each in predicted.items()}
        networks = [name for name in table if name in ARCHITECTURES]
        best = max(networks, key=lambda name: table[name]["all"])
        blend = honest_blend(truth, data.store.time[rows], [predicted[best], predicted["lightgbm"]])
        blended = scores(data.store, targets, truth, blend)
        table[f"nnls/target of {best} and lightgbm"] = blended
    show(table, facts)


def scores(store, targets, truth, values) -> dict[str, float]:
    """The LEAP score and mean R2 by group, negatives as 0; a fold's own variance."""
    spread = ((truth - truth.mean(0)) ** 2).sum(0)
    r2 = np.clip(1 - ((truth - values) ** 2).sum(0) / np.where(spread > 0, spread, np.inf), 0, None)
    names = [store.schema.target_columns[t] for t in targets]
    n_free = len(store.schema.target_columns) - len(store.schema.modelled_targets)
    whole = np.concatenate([r2, np.ones(n_free)])
    found = {"all": float(whole.mean())}
    for variable in store.schema.targets:
        here = [i for i, name in enumerate(names) if name in variable.columns]
        group = variable.name if variable.n_levels > 1 else "surface"
        found.setdefault(group, []).extend(r2[here])
    return {key: float(np.mean(value)) for key, value in found.items() if np.size(value)}


def show(table, facts) -> None:
    groups = list(next(iter(table.values())))
    print("| model | parameters | epochs | " + " | ".join(groups) + " |")
    print("|---" * (len(groups) + 3) + "|")
    for name, found in sorted(table.items(), key=lambda item: -item[1]["all"]):
        fact = facts.get(name, {})
        print(
            f"| {name} | {fact.get('parameters', '')} | {fact.get('epochs', '')} | "
            + " | ".join(f"{found[group]:.3f}" for group in groups)
            + " |"
        )


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("models.seq2seq").setLevel(logging.INFO)
    options = Options(__doc__)
    options.add_argument("networks", nargs="*")
    options.add_argument("--runs", help="folder that keeps what is done")
    options.add_argument("--minutes", type=float, default=10.0)
    asked = options.parse()
    if asked.quick:
        asked.minutes = 0.0  # one epoch
    every = ["convnext1d", "recipe"] if asked.quick else [*ARCHITECTURES, "recipe"]
    asked.networks = asked.networks or every
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(asked.runs or temporary), asked)
