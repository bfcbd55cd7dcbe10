"""Search spaces: ranges that may be replaced, and a contract for every family that has one."""

import warnings
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from features import ClimstackError
from features.core import registry
from models import (
    CellStore,
    Family,
    FitContext,
    FoldData,
    ModelSpec,
    available_families,
    load_family,
)
from models.base import TableShape
from models.fold import open_fold
from tuning import Space
from tuning.objective import with_params

NETWORKS = registry.names("models.seq2seq.architectures")
SEARCHED = [
    name
    for name in available_families()
    if type(load_family(name)).search_space is not Family.search_space
]
N_ROWS = 64
PROFILES = TableShape(n_rows=5000, n_inputs=556, has_levels=True)
PLAIN = TableShape(n_rows=2000, n_inputs=12, has_levels=False)


def ends(distribution):
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def quick(family):
    if family in NETWORKS:
        return {"epochs": 1, "device": "cpu", "mirror": False, "final_loss": "smooth_l1"}
    return {"n_rounds": 40} | ({"min_data_in_leaf": 5} if family == "lightgbm" else {})


@pytest.mark.parametrize("family", SEARCHED)
def test_every_searched_parameter_is_accepted_and_changes_predictions(
    family, folded, store, plan, few_targets, tmp_path
):
    spec = ModelSpec(name="m", family=family, params=quick(family))
    space = Space.of(spec)
    assert space.distributions
    data = FoldData(data=folded, fold=0, targets=few_targets, kind=load_family(family).view)
    if family in NETWORKS:
        vars(data)["train_rows"] = plan.train_rows(0)[:N_ROWS]
    with open_fold(data, spec, CellStore(tmp_path), 1) as fold:
        sets = load_family(family).target_sets(store.schema, few_targets, spec.parsed)
        x = np.load(fold.scratch / "valid_features.npy")[:20]

        def predictions(params):
            tried = with_params(spec, params)
            tried.parsed  # noqa: B018 - every end of a range is accepted
            chosen = replace(fold, spec=tried)
            settled = load_family(family).settle(tried.parsed, chosen.table)
            found = load_family(family).fit(chosen.prepared, sets, settled, FitContext())
            return np.concatenate([fitted.predict(x) for _, fitted in found], axis=1)

        before = predictions({})
        for name, distribution in space.distributions.items():
            values = [v for v in ends(distribution) if v != space.defaults[name]]
            for value in values:
                with_params(spec, {name: value})
            changed = (not np.array_equal(predictions({name: v}), before) for v in values)
            assert any(changed), f"{name} of {family} changes nothing"


def test_ranges_replace_the_family_s_own(trees, ranges):
    space = Space.of(trees, ranges)
    assert (space.distributions["n_rounds"].low, space.distributions["n_rounds"].high) == (4, 16)
    assert space.defaults["n_rounds"] == 8
    assert Space.of(trees, ranges, PROFILES).defaults["learning_rate"] == 0.1
    gpu = Space.of(
        ModelSpec(name="n", family="convnext1d", params={"preset": "gpu"}),
        {"dim": [384, 512], "depth": [8, 14]},
    )
    assert gpu.distributions["dim"].choices == (384, 512)


@pytest.mark.parametrize(
    ("family", "given", "sentence"),
    [
        ("lightgbm", {"leaves": [3, 4]}, "'leaves' is not searched for family 'lightgbm'"),
        ("lightgbm", {"n_rounds": [50]}, r"must be \[lowest, highest\], but got \[50\]"),
        ("lightgbm", {"n_rounds": [200, 50]}, r"must be \[lowest, highest\]"),
        ("lightgbm", {"n_rounds": [50, "many"]}, r"must be \[lowest, highest\]"),
        ("lightgbm", {"n_rounds": [50.5, 200]}, "must be whole numbers"),
        ("lightgbm", {"learning_rate": [0, 0.3]}, "must start above 0"),
        ("lightgbm", {"feature_fraction": [0.1, 1.5]}, "feature_fraction"),
        ("ridge", {}, "family 'ridge' has no search space"),
        ("convnext1d", {"kernel": [4, 8]}, "kernel must be odd"),
    ],
)
def test_a_bad_range_is_one_sentence(family, given, sentence):
    with pytest.raises(ClimstackError, match=sentence):
        Space.of(ModelSpec(name="m", family=family), given)


@pytest.mark.parametrize("table", [None, PROFILES, PLAIN])
@pytest.mark.parametrize("preset", ["tiny", "laptop", "gpu"])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_preset_is_a_first_trial(network, preset, table):
    spec = ModelSpec(name="n", family=network, params={"preset": preset})
    space = Space.of(spec, None, table)
    study = optuna.create_study()
    study.enqueue_trial(space.defaults)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert space.suggest(study.ask()) == space.defaults
    assert with_params(spec, space.defaults).parsed == spec.parsed
    for name, distribution in space.distributions.items():
        for value in ends(distribution):
            with_params(spec, {name: value})  # every end is accepted beside the others


@pytest.mark.parametrize(
    ("family", "own"),
    [
        ("lightgbm", {"n_rounds": 1000, "learning_rate": 0.001, "lambda_l2": 0.0, "window": -1}),
        ("lightgbm", {"num_leaves": 500, "feature_fraction": 0.01, "min_data_in_leaf": 1}),
        ("xgboost", {"max_depth": 14, "min_child_weight": 0.0, "reg_lambda": 500.0}),
        ("convnext1d", {"dim": 80, "depth": 1, "kernel": 21, "batch_size": 48, "beta": 9.0}),
        ("unet1d", {"weight_decay": 0.0, "learning_rate": 0.1, "kernel": 1}),
    ],
)
def test_ranges_widen_to_hold_the_models_own_values(family, own):
    spec = ModelSpec(name="m", family=family, params=own)
    space = Space.of(spec, None, PROFILES)
    assert {name: space.defaults[name] for name in own} == own
    study = optuna.create_study()
    study.enqueue_trial(space.defaults)
    assert space.suggest(study.ask()) == space.defaults
    for distribution in space.distributions.values():
        assert isinstance(distribution, CategoricalDistribution) or not (
            distribution.log and distribution.low <= 0
        )


def test_a_named_range_must_hold_the_models_own_value():
    spec = ModelSpec(name="m", family="lightgbm")
    with pytest.raises(ClimstackError, match="n_rounds = 100, outside the search range"):
        Space.of(spec, {"n_rounds": [120, 200]}, PROFILES)
    Space.of(spec, {"n_rounds": [120, 200]})  # which follows the table, and none is known


def test_levels_are_not_searched_where_there_are_none():
    spec = ModelSpec(name="m", family="lightgbm")
    assert "window" in Space.of(spec, None, PROFILES).distributions
    assert "window" not in Space.of(spec, None, PLAIN).distributions
    with pytest.raises(ClimstackError, match="searches window, which changes nothing"):
        Space.of(spec, {"window": [1, 4]}, PLAIN)
