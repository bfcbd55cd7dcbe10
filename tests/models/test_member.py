"""Models that serve only some of a table's targets."""

from dataclasses import replace

import numpy as np
import pytest

from ensemble.inference.predict import _bases_of, _predict_fold
from features import ClimstackError
from models import CellStore, ModelSpec, Variant, cell_keys, cross_validate, read_member
from models.diagnostics.importance import importance
from models.diagnostics.probe import probe
from models.member import spread, target_sets

TREES = {"n_rounds": 4, "num_leaves": 4, "early_stopping_rounds": 0}
RIDGE = ModelSpec(name="ridge", family="ridge")
SURFACE = ModelSpec(name="trees", family="lightgbm", params=TREES, targets=("cam_out_FLWDS", "*q*"))


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return CellStore(tmp_path_factory.mktemp("cells"))


def names(schema, targets):
    return [schema.target_columns[target] for target in targets]


def test_patterns_name_columns_variables_and_groups(schema):
    def served(*patterns):
        spec = ModelSpec(name="m", family="ridge", targets=patterns)
        return names(schema, spec.served(schema))

    assert served("cam_out_*")[0] == "cam_out_NETSW"
    assert len(served("cam_out_*")) == 8
    assert served("ptend_t_5?") == [f"ptend_t_{level}" for level in range(50, 60)]
    assert len(served("ptend_t")) == 60  # a variable
    assert served("ptend_t", "ptend_t_3") == served("ptend_t")
    grouped = replace(
        schema,
        variables=tuple(
            replace(v, group="sun") if v.name in ("cam_out_SOLS", "cam_out_SOLL") else v
            for v in schema.variables
        ),
    )
    spec = ModelSpec(name="m", family="ridge", targets=("sun",))
    assert names(grouped, spec.served(grouped)) == ["cam_out_SOLS", "cam_out_SOLL"]
    np.testing.assert_array_equal(RIDGE.served(schema), schema.modelled_targets)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"targets": ("cam_out_FLWD",)}, "'cam_out_FLWD', which .* did you mean 'cam_out_FLWDS'"),
        ({"targets": ("ptend_v", "sun_*")}, "has targets 'sun_\\*', which names no target"),
        ({"targets": ("ptend_q0002_3",)}, "serves no target that is to be learned"),
        (
            {
                "targets": ("ptend_t",),
                "variants": (Variant(("cam_out_SOLS",), {"clip": 4.0}),),
            },
            "variant of model 'm' names cam_out_SOLS, which the model does not serve",
        ),
        (
            {"variants": (Variant(("cam_out_SOL",), {"clip": 4.0}),)},
            "names cam_out_SOL, which is no target: did you mean 'cam_out_SOL[LS]'",
        ),
    ],
)
def test_what_matches_nothing_is_refused(spec, said, schema):
    with pytest.raises(ClimstackError, match=said):
        ModelSpec(name="m", family="ridge", **spec).served(schema)


def test_only_served_targets_are_fitted_and_their_cells_are_shared(
    folded, few_targets, cells, schema
):
    member = cross_validate(folded, SURFACE, cells, targets=few_targets, n_jobs=1)
    assert names(schema, member.targets) == ["ptend_q0001_50", "cam_out_FLWDS"]
    assert member.computed == 2 * folded.plan.n_folds
    assert target_sets(folded.store, SURFACE, few_targets) == [[0], [1]]
    again = cross_validate(folded, replace(SURFACE, targets=()), cells, targets=few_targets)
    assert again.computed == (len(few_targets) - 2) * folded.plan.n_folds
    place = np.searchsorted(few_targets, member.targets)
    np.testing.assert_array_equal(again.oof(1)[:, place], member.oof(1))
    read = read_member(folded, SURFACE, cells, few_targets)
    np.testing.assert_array_equal(read.targets, member.targets)
    assert read.hash == member.hash
    keys = [cell_keys(folded, SURFACE, targets, 0) for targets in (few_targets, member.targets)]
    assert keys[0] == keys[1]
    assert set(importance(member, schema)["group"]) == {"ptend_q0001", "cam_out_FLWDS"}


def test_predictions_stand_among_those_of_others_with_nan_between(folded, few_targets, cells):
    member = cross_validate(folded, SURFACE, cells, targets=few_targets, n_jobs=1)
    wide = spread(member, member.oof(0), few_targets)
    place = np.searchsorted(few_targets, member.targets)
    np.testing.assert_array_equal(wide[:, place], member.oof(0))
    assert np.isnan(np.delete(wide, place, axis=1)).all()
    with pytest.raises(ClimstackError, match="that the others are not asked for"):
        spread(member, member.oof(0), few_targets[:1])


def test_a_variant_of_some_of_the_targets(folded, few_targets, cells):
    spec = replace(SURFACE, variants=(Variant(("cam_out_FLWDS",), {"num_leaves": 3}),))
    member = cross_validate(folded, spec, cells, targets=few_targets, n_jobs=1)
    plain = cross_validate(folded, SURFACE, cells, targets=few_targets, n_jobs=1)
    np.testing.assert_array_equal(member.oof(0)[:, 0], plain.oof(0)[:, 0])
    assert (member.oof(0)[:, 1] != plain.oof(0)[:, 1]).any()


def test_it_may_build_on_one_that_serves_all_of_its_targets(folded, schema, store, tmp_path):
    cells = CellStore(tmp_path)
    base = ModelSpec(name="base", family="ridge", targets=("cam_out_*",))
    fed = ModelSpec(
        name="fed",
        family="lightgbm",
        params=TREES,
        targets=("cam_out_SOLS", "cam_out_FLWDS"),
        inputs_from=(base,),
    )
    below = cross_validate(folded, base, cells)
    member = cross_validate(folded, fed, cells, n_jobs=1)
    assert names(schema, member.targets) == ["cam_out_FLWDS", "cam_out_SOLS"]
    model = member.models(0)[0]
    assert model.n_features == len(model.view.feature_names) + 2
    by_name, done = {"base": below, "fed": member}, {}
    for each in (below, member):
        bases = _bases_of(each, by_name, done)
        done[each.spec.name] = _predict_fold(
            each, 1, store, bases, n_jobs=1, out=tmp_path, head=False
        )
    valid = folded.plan.valid_rows(1)
    np.testing.assert_allclose(np.load(done["fed"])[:, valid].T, member.oof(1), rtol=1e-9)
    more = replace(fed, targets=("cam_out_SOLS", "ptend_t_4?"))
    said = "'fed' builds on 'base', which does not serve 10 of its targets, as ptend_t_40"
    with pytest.raises(ClimstackError, match=said):
        cross_validate(folded, more, cells)


def test_a_probe_fits_served_targets_alone(folded, tmp_path):
    fed = replace(SURFACE, targets=("cam_out_*",), inputs_from=(RIDGE,))
    cost = probe(fed, folded, tmp_path)
    assert cost.cell_seconds + cost.shared_seconds > 0
