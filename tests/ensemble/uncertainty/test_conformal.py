"""Intervals: on rows made for it, where coverage is known, and on the members of a real stack."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from ensemble.evaluation.held_out import HeldOut
from ensemble.inference.interval_file import interval_file
from ensemble.inference.predict import predict_blocks
from ensemble.stacking.blend import Blend
from ensemble.uncertainty.calibration import UPPER, ScoreCounts
from ensemble.uncertainty.conformal import fit_uncertainty
from ensemble.uncertainty.difficulty import DifficultySums
from ensemble.uncertainty.intervals import Intervals
from features import ClimstackError, FoldedStore, convert, load_schema, time_blocks
from models import ModelSpec, cross_validate

N_TIMES, N_COLUMNS = 240, 20
HARD, SPARSE, MET, MISSED, DRIFTING, SILENT, UNSEEN = range(7)


class MadeUp:
    """A member whose out-of-fold predictions and expected errors are given."""

    def __init__(self, name, plan, predictions, targets, expected=None):
        self.targets = targets
        self.spec = SimpleNamespace(name=name)
        cell = SimpleNamespace(has_uncertainty=expected is not None)
        self.cells = [[cell]] * plan.n_folds
        self._of = [plan.valid_rows(fold) for fold in range(plan.n_folds)]
        self._predictions, self._expected = predictions, expected

    def oof(self, fold, rows):
        return self._predictions[self._of[fold][rows]]

    def uncertainty(self, fold, rows):
        return self._expected[self._of[fold][rows]]


class MadeUpStore:
    """Rows whose times and truth are given, and whose inputs are all 1."""

    def __init__(self, schema, time, truth):
        self.schema, self.time, self._truth = schema, time, truth
        self.inputs = np.ones((len(time), len(schema.input_columns)))

    def __len__(self):
        return len(self.time)

    def require_targets(self):
        return self._truth


def made_up(schema, seed=0, spoil_from=None):
    """Seven targets, each hard in its own way; a head knows the size of the errors."""
    rng = np.random.default_rng(seed)
    n = N_TIMES * N_COLUMNS
    time = np.repeat(np.arange(N_TIMES), N_COLUMNS)
    plan = time_blocks(time, 4, 1)
    sd = np.ones((n, 7)) * rng.lognormal(0, 1, (n, 1))
    sd[:, DRIFTING] *= 1 + 2 * time / N_TIMES
    blend = np.zeros((n, 7))
    blend[:, HARD] = rng.normal(size=n)
    truth = blend + sd * rng.normal(size=sd.shape)
    truth[:, SPARSE] *= rng.random(n) < 0.04  # elsewhere 0, as the blend
    truth[:, MET] = blend[:, MET] = 5.0
    truth[:, MISSED] = 5.0
    truth[:, SILENT] = np.abs(truth[:, SILENT]) * (rng.random(n) < 0.3)
    if spoil_from is not None:
        truth[time >= spoil_from] += 1e3
    names = ["ptend_t_20", "ptend_t_21", "ptend_t_22", "ptend_t_23", "ptend_u_30", "cam_out_PRECC",
             "ptend_t_24"]  # fmt: skip
    targets = np.array([schema.target_columns.index(name) for name in names])
    low, high = np.full(7, -1e4), np.full(7, 1e4)
    low[SILENT] = 0.0
    low[UNSEEN], high[UNSEEN] = -0.5, 0.5  # most of the truth lies outside
    graph = Blend(
        schema=schema,
        blender="mean",
        members=["head", "other"],
        targets=targets,
        weights=np.full((2, 7), 0.5),
        intercept=np.zeros(7),
        action=["blend"] * 5 + ["zero", "blend"],
        mean=np.zeros(7),
        low=low,
        high=high,
    )
    y = np.zeros((n, len(schema.target_columns)))
    y[:, targets] = truth
    data = FoldedStore(MadeUpStore(schema, time, y), plan)
    members = [
        MadeUp("head", plan, blend, targets, sd * 0.1),
        MadeUp("other", plan, blend, targets),
    ]
    return HeldOut(data=data, members=members, honest=[graph] * 4), graph


@pytest.fixture(scope="module")
def fitted(schema):
    held_out, graph = made_up(schema)
    return held_out, graph, fit_uncertainty(held_out, graph)


def test_coverage_is_what_was_asked_for_on_later_blocks(fitted):
    table = fitted[2].table()
    later = table["coverage_later"].to_numpy()
    assert np.abs(later[[HARD, DRIFTING, SILENT]] - 0.9).max() < 0.03
    assert table["rows"].to_list() == [N_TIMES * N_COLUMNS] * 7
    assert table["rows_later"].to_list() == [N_TIMES * N_COLUMNS // 2] * 7
    assert table["coverage_in"].to_numpy()[HARD] == pytest.approx(0.9, abs=0.01)


def test_constants_zeros_and_truths_never_seen(fitted):
    table = fitted[2].table()
    later, width = table["coverage_later"].to_numpy(), table["mean_width"].to_numpy()
    assert (later[MET], width[MET]) == (1.0, 0.0)
    assert later[MISSED] == 1.0
    assert width[MISSED] == pytest.approx(10, rel=0.01)
    # More than 90 % are zeros that the blend meets: even points cover them.
    assert later[SPARSE] == table["exact"].to_numpy()[SPARSE]
    assert 0.93 < later[SPARSE] < 1
    assert width[SPARSE] == 0
    # Nine in ten can't be had within the range seen: the whole range is all there is.
    assert later[UNSEEN] < 0.6
    assert width[UNSEEN] == 1.0


def test_wider_where_the_head_expects_more(fitted):
    held_out, graph, conformal = fitted
    intervals = conformal.intervals
    assert intervals.heads == ["head"]
    block = next(held_out.blocks())
    low, high = intervals.apply(graph, block.outputs, block.predictions, block.heads, block.inputs)
    width = (high - low)[:, graph.targets[HARD]]
    head = block.heads["head"][:, HARD]
    large = head > np.median(head)
    ratio = width[large] / head[large]
    assert ratio.std() < 0.1 * ratio.mean()
    assert width.max() > 20 * width.min()
    assert (low[:, graph.targets[SILENT]] == 0).all()


def test_the_factor_follows_a_drift_that_a_fixed_one_misses(fitted):
    held_out, graph, _ = fitted
    blend = np.zeros((N_TIMES * N_COLUMNS, 7))
    # Without the head nothing tells that errors grow.
    blind = [MadeUp("head", held_out.data.plan, blend, graph.targets), held_out.members[1]]
    table = fit_uncertainty(replace(held_out, members=blind), graph).table()
    row = table.row(DRIFTING, named=True)
    assert row["coverage_fixed"] + 0.01 < row["coverage_later"] < 0.9


def test_reported_rows_teach_nothing(schema):
    """Spoiled truth in the later half changes neither the expected errors nor the fixed factor."""
    kept, spoiled = made_up(schema), made_up(schema, spoil_from=N_TIMES // 2)
    both = [fit_uncertainty(*each) for each in (kept, spoiled)]
    tables = [each.table() for each in both]
    a, b = (each.difficulty for each in both)
    np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(a.floor, b.floor)
    assert tables[1]["coverage_fixed"][HARD] == 0
    assert tables[1]["coverage_lowest"][HARD] == 0  # the first later block: not calibrated on it
    last = made_up(schema, spoil_from=N_TIMES - N_TIMES // 40)
    table = fit_uncertainty(*last).table()
    lost = tables[0]["coverage_later"][HARD] - table["coverage_later"][HARD]
    assert lost == pytest.approx(0.9 / 20, abs=0.01)  # the last block alone, of 20


def test_crps_and_mae_stand_side_by_side(fitted):
    held_out, graph, conformal = fitted
    table, blocks = conformal.table(), list(held_out.blocks())
    truth = np.concatenate([block.truth for block in blocks])[:, graph.targets]
    outputs = np.concatenate([block.outputs for block in blocks])[:, graph.targets]
    np.testing.assert_allclose(table["mae"], np.abs(truth - outputs).mean(0), rtol=1e-9)
    np.testing.assert_allclose(table["crps"], table["mae"], rtol=1e-9)  # all members are equal


def test_counts_give_quantiles_from_above():
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(size=(5000, 4)))
    values[:, 1] = 0.0
    values[:3000, 2] = np.inf
    counts = ScoreCounts.empty(4)
    for start in range(0, 5000, 700):
        counts.add(values[start : start + 700])
    found = counts.quantile(0.9)
    exact = np.sort(values[:, 0])[int(np.ceil(5001 * 0.9)) - 1]
    assert exact <= found[0] <= exact * 1.0046
    assert found[1] == 0
    assert np.isinf(found[2])
    np.testing.assert_array_equal(
        counts.share_within(found)[:2], [(values[:, 0] <= found[0]).mean(), 1]
    )
    assert np.diff(UPPER[1:-1]).min() > 0


def test_expected_errors_are_learned_at_any_scale():
    rng = np.random.default_rng(1)
    weights = np.array([0.5, 2.0, 0.0, 1.0])
    signs = np.abs(rng.normal(size=(4000, 3, 4)))
    signs[..., 0] = 1.0
    signs[:, 1] *= 1e-40
    signs[:, 1, 0] = 1.0
    signs[:, 2, 1:] = 0.0  # one member, no head, a constant blend
    residual = signs @ weights
    sums = DifficultySums.empty(3)
    for start in range(0, 4000, 1500):
        rows = slice(start, start + 1500)
        sums.add(signs[rows], residual[rows] * [1, 1e-40, 1e9])
    found = sums.solve()
    np.testing.assert_allclose(found.weights[0], weights, atol=1e-5)
    np.testing.assert_allclose(found.weights[2], [0.5e9, 0, 0, 0], rtol=1e-6)
    assert (found.expected(signs) >= found.floor).all()


def test_intervals_of_a_stack(rows, contenders, schema, tmp_path):
    contender = next(c for c in contenders if c.name == "nnls/group")
    held_out = replace(rows, honest=contender.honest)
    conformal = fit_uncertainty(held_out, contender.final)
    table = conformal.table()
    later = table["coverage_later"].to_numpy()
    assert 0.86 < later.mean() < 0.94
    assert ((later > 0.8) & (later < 0.97)).mean() > 0.9  # 192 rows, 12 timesteps
    conformal.save(tmp_path / "intervals.npz", tmp_path / "uncertainty.parquet")
    assert pl.read_parquet(tmp_path / "uncertainty.parquet").equals(table)
    intervals = Intervals.load(tmp_path / "intervals.npz")
    assert intervals.members == ["linear", "trees"]
    for block in held_out.blocks():
        graph = held_out.honest[block.fold]
        low, high = intervals.apply(graph, block.outputs, block.predictions, {}, block.inputs)
        assert ((low <= block.outputs) & (block.outputs <= high)).all()
        bounded, bound = schema.closed_form("lower_bound", block.inputs)
        modelled = np.isin(bounded, graph.targets)
        assert (low[:, bounded] >= bound)[:, modelled].all()
        others = np.setdiff1d(np.arange(368), graph.targets)
        np.testing.assert_array_equal(low[:, others], high[:, others])


def test_test_rows_with_a_confidence_head(folded, cells, generated, schema, tmp_path):
    """Heads reach the intervals of held-out rows and, as the mean over folds, of test rows."""
    names = ["ptend_t_45", "ptend_u_55", "cam_out_FLWDS"]
    targets = np.array([schema.target_columns.index(name) for name in names])
    tiny = {"preset": "tiny", "epochs": 1, "batch_size": 64, "confidence": 0.5}
    specs = [
        ModelSpec(name="linear", family="ridge"),
        ModelSpec(name="net", family="convnext1d", params=tiny),
    ]
    both = [cross_validate(folded, s, cells, targets=targets, n_jobs=1) for s in specs]
    graph = Blend(
        schema=load_schema("leap"),
        blender="mean",
        members=["linear", "net"],
        targets=targets,
        weights=np.full((2, 3), 0.5),
        intercept=np.zeros(3),
        action=["blend"] * 3,
        mean=np.zeros(3),
        low=np.full(3, -1e3),
        high=np.full(3, 1e3),
    )
    held_out = HeldOut(data=folded, members=both, honest=[graph] * 3)
    intervals = fit_uncertainty(held_out, graph).intervals
    assert intervals.heads == ["net"]

    test = convert(generated["test"], tmp_path / "test", schema, 16)
    blocks = predict_blocks(graph, both, test, scratch=tmp_path, heads=intervals.heads, n_jobs=1)
    [block] = list(blocks)
    models = [both[1].models(fold)[0] for fold in range(3)]
    expected = np.mean([m.uncertainty(m.features(block.inputs)) for m in models], axis=0)
    np.testing.assert_allclose(block.heads["net"], expected, rtol=1e-12)

    file, sample = tmp_path / "ends.parquet", generated["sample_submission"]
    rows = {"blend": graph, "test": test, "blocks": [block], "sample_submission": sample}
    with interval_file(file, intervals, **rows) as outputs:
        np.testing.assert_array_equal(np.concatenate(list(outputs)), block.outputs)
    found = pl.read_parquet(file)
    assert found["sample_id"].to_list() == pl.read_parquet(sample)["sample_id"].to_list()
    place = {name: i for i, name in enumerate(test.sample_ids)}
    order = [place[name] for name in found["sample_id"]]
    low, high = intervals.apply(graph, block.outputs, block.predictions, block.heads, block.inputs)
    for end, values in (("low", low), ("high", high)):
        columns = [f"{name}_{end}" for name in schema.target_columns]
        np.testing.assert_array_equal(found.select(columns).to_numpy(), values[order])
    assert not list(tmp_path.glob(".*"))


def test_what_does_not_fit_is_refused(fitted, schema, store, contenders, tmp_path):
    held_out, graph, conformal = fitted
    intervals = conformal.intervals
    block = next(held_out.blocks())
    rows = (block.outputs, block.predictions, block.heads, block.inputs)
    with pytest.raises(ClimstackError, match="belong to another blend"):
        intervals.apply(contenders[-1].final, *rows)
    with pytest.raises(ClimstackError, match="made with another blend than mean"):
        intervals.require(replace(graph, weights=graph.weights * 2))
    intervals.require(graph)
    with pytest.raises(ClimstackError, match="predictions of member 'other'"):
        intervals.apply(graph, block.outputs, {"head": rows[1]["head"]}, block.heads, block.inputs)
    file = tmp_path / "intervals.npz"
    with pytest.raises(ClimstackError, match="no intervals"):
        Intervals.load(file)
    intervals.save(file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ClimstackError, match="is damaged"):
        Intervals.load(file)
    with pytest.raises(ClimstackError, match="must lie between 0 and 1, but got 90"):
        fit_uncertainty(held_out, graph, confidence=90)
    with (
        pytest.raises(ClimstackError, match=r"intervals need a \.parquet file"),
        interval_file(tmp_path / "ends.csv", intervals, blend=graph, test=store, blocks=[]),
    ):
        pass
    short = MadeUpStore(schema, np.minimum(store.time, 1), store.require_targets())
    few = replace(held_out, data=FoldedStore(short, time_blocks(store.time, 4, 1)))
    with pytest.raises(ClimstackError, match="at least 3 held-out timesteps, but there are 2"):
        fit_uncertainty(few, graph)
