"""Networks beside LightGBM, at an equal budget per fold: the six architectures on the real rows.

Each architecture's ``laptop`` preset trains on one fold for the same minutes: the speeds of all are
measured first, on a machine that should be quiet, and the epochs of each are what fits. The recipe
is a plain ConvNeXt of seven blocks of 128 channels on fewer inputs (profiles, and a dozen derived
ones), batches of 256, SmoothL1 with beta 0.5, AdamW with a one-cycle rate, no average of weights,
no augmentation. LightGBM and ridge run with their defaults. Then the honest blend of
the best network and LightGBM: weights per target from three of four blocks of the fold's validation
time, scored on the fourth.

Needs CLIMSTACK_REAL_DATA. Folds and cells stay under RUNS, so a second call continues.

Usage: python benchmarks/bench_networks.py [RUNS [MINUTES [ARCHITECTURE ...]]]
"""

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from ensemble import load_experiment
from ensemble.runs.pipeline import open_run
from features import FoldedStore
from features.core import registry
from models import FoldData, ModelSpec, cross_validate, load_family
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


def job_of(store, plan, spec, folder):
    """The job of one fold of an experiment's network."""
    family = load_family(spec.family)
    data = FoldData(
        data=FoldedStore(store, plan),
        fold=FOLD,
        targets=store.schema.modelled_targets,
        kind=family.view,
    )
    return family.prepare(data, spec.parsed, folder), data


def rows_per_second(job) -> float:
    """Speed of a network in training: one short epoch after a warm-up."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("fit_features", "fit_targets"):
            rows = np.load(job.folder / f"{name}.npy", mmap_mode="r")[:SPEED_ROWS]
            np.save(folder / f"{name}.npy", rows)
        short = replace(job, folder=folder, settings=replace(job.settings, epochs=1))
        train(short)
        start = time.perf_counter()
        train(short)
        return (
            SPEED_ROWS
            // job.settings.batch_size
            * job.settings.batch_size
            / (time.perf_counter() - start)
        )


def epochs_for(job, minutes: float) -> int:
    n_rows = len(np.load(job.folder / "fit_targets.npy", mmap_mode="r"))
    return max(1, int(minutes * 60 * rows_per_second(job) / n_rows))


def recipe_job(store, plan, folder):
    """The job of the plain recipe, the fold's data, and which features it sees."""
    spec = ModelSpec(name="recipe", family="convnext1d", params=RECIPE_SETTINGS)
    job, data = job_of(store, plan, spec, folder)
    names, levels = data.feature_names, data.feature_levels.tolist()
    variables = [name.removesuffix(f"_{level}") for name, level in zip(names, levels, strict=True)]
    raw = set(store.schema.input_columns)
    kept = [
        i for i, (name, variable) in enumerate(zip(names, variables, strict=True))
        if (variable in RECIPE if levels[i] >= 0 else name in raw)
    ]  # fmt: skip
    layout = Layout.of([names[i] for i in kept], [levels[i] for i in kept], 60)
    shape = job.spec.shape
    shape = replace(
        shape,
        n_features=layout.n_columns,
        in_profile=layout.profile.tolist(),
        in_scalar=layout.scalar.tolist(),
        in_mean=[shape.in_mean[i] for i in kept],
        in_std=[shape.in_std[i] for i in kept],
    )
    features = np.load(folder / "fit_features.npy")[:, kept]
    np.save(folder / "fit_features.npy", features)
    return replace(job, spec=replace(job.spec, shape=shape)), data, kept


def recipe(store, plan, epochs, folder):
    """Predictions of the plain recipe for the fold's validation rows."""
    job, data, kept = recipe_job(store, plan, folder)
    job = replace(job, settings=replace(job.settings, epochs=epochs))
    network = job.spec.build()
    network.load_state_dict(train(job)[""])
    valid = np.concatenate([x for x, _ in data.blocks(plan.valid_rows(FOLD))])[:, kept]
    outputs = predict(network, valid, torch.device("cpu"))[0].astype(np.float64)
    return data.scaler.inverse(outputs)


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


def main(runs: Path, minutes: float, architectures: list[str]) -> None:
    experiment = load_experiment(EXPERIMENT)
    notes = runs / "networks.json"
    with open_run(experiment, runs / experiment.name) as run:
        store = run.train_store()
        plan = run.plan(store)
        folded = FoldedStore(store, plan)
        rows = plan.valid_rows(FOLD)
        modelled = store.schema.modelled_targets
        truth = store.targets[rows][:, modelled]
        predicted, facts = {}, json.loads(notes.read_text()) if notes.is_file() else {}
        for family in ("ridge", "lightgbm"):
            member = cross_validate(
                folded, ModelSpec(name=family, family=family), run.cells, folds=[FOLD]
            )
            predicted[family] = member.oof(0)
        for name in [name for name in (*architectures, "recipe") if name not in facts]:
            with tempfile.TemporaryDirectory() as temporary:
                if name == "recipe":
                    job = recipe_job(store, plan, Path(temporary))[0]
                else:
                    job = job_of(store, plan, ModelSpec(name=name, family=name), Path(temporary))[0]
                facts[name] = {"epochs": epochs_for(job, minutes)}
                notes.write_text(json.dumps(facts))
        for architecture in architectures:
            spec = ModelSpec(
                name=architecture,
                family=architecture,
                params={"epochs": facts[architecture]["epochs"]},
            )
            member = cross_validate(folded, spec, run.cells, folds=[FOLD])
            predicted[architecture] = member.oof(0)
            parameters = member.models(0)[0].fitted.weights[""].values()
            facts[architecture]["parameters"] = sum(p.numel() for p in parameters)
        held = runs / "recipe.npy"
        if not held.is_file() and len(architectures) == len(ARCHITECTURES):
            with tempfile.TemporaryDirectory() as temporary:
                epochs = facts["recipe"]["epochs"]
                np.save(held, recipe(store, plan, epochs, Path(temporary)))
        if held.is_file():
            predicted["recipe"] = np.load(held)
        networks = [name for name in predicted if name in ARCHITECTURES]
        table = {name: scores(store, truth, values) for name, values in predicted.items()}
        best = max(networks, key=lambda name: table[name]["all"])
        blend = honest_blend(truth, store.time[rows], [predicted[best], predicted["lightgbm"]])
        table[f"nnls/target of {best} and lightgbm"] = scores(store, truth, blend)
    show(table, facts)


def scores(store, truth, values) -> dict[str, float]:
    """The LEAP score and mean R2 by group, negatives as 0; a fold's own variance."""
    spread = ((truth - truth.mean(0)) ** 2).sum(0)
    r2 = np.clip(1 - ((truth - values) ** 2).sum(0) / np.where(spread > 0, spread, np.inf), 0, None)
    modelled = store.schema.modelled_targets
    names = [store.schema.target_columns[t] for t in modelled]
    n_free = len(store.schema.target_columns) - len(names)
    whole = np.concatenate([r2, np.ones(n_free)])
    found = {"all": float(whole.mean())}
    for variable in store.schema.targets:
        here = [i for i, name in enumerate(names) if name in variable.columns]
        group = variable.name if variable.n_levels > 1 else "surface"
        found.setdefault(group, []).extend(r2[here])
    return {key: float(np.mean(value)) for key, value in found.items()}


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
    import logging

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("models.seq2seq").setLevel(logging.INFO)
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()),
        float(sys.argv[2]) if len(sys.argv) > 2 else 10.0,
        sys.argv[3:] or ARCHITECTURES,
    )
