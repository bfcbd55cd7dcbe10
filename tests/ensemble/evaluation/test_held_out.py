from dataclasses import replace

import numpy as np
import pytest

from ensemble.evaluation import held_out
from ensemble.evaluation.held_out import check_members
from features import ClimstackError, FoldedStore, column_blocks, forward_chaining, time_blocks


def test_every_held_out_row_is_shown_once_with_what_is_known_of_it(rows, folded, monkeypatch):
    for size in (4096, 37, 5):
        monkeypatch.setattr(held_out, "BLOCK_ROWS", size)
        seen = []
        for block in rows.blocks():
            assert len(block.rows) <= size
            assert (folded.plan.fold[block.rows] == block.fold).all()
            assert set(rows.block_of_row[block.rows]) == {block.number}
            valid = folded.plan.valid_rows(block.fold)
            np.testing.assert_array_equal(valid[block.positions], block.rows)
            np.testing.assert_array_equal(block.truth, folded.store.require_targets()[block.rows])
            for member in rows.members:
                own = member.oof(block.fold)[block.positions]
                np.testing.assert_array_equal(block.predictions[member.spec.name], own)
            seen.append(block.rows)
        assert sorted(np.concatenate(seen).tolist()) == list(range(len(folded.store)))


@pytest.mark.parametrize("scheme", ["time", "columns", "forward"])
def test_blocks_of_time_come_in_the_order_that_intervals_want(rows, store, scheme):
    plan = {
        "time": lambda: time_blocks(store.time, 3, 1),
        "columns": lambda: column_blocks(store.column, 3, 1),
        "forward": lambda: forward_chaining(store.time, 3, 1),
    }[scheme]()
    walked = replace(rows, data=FoldedStore(store, plan), members=())
    numbers = list(dict.fromkeys(block.number for block in walked.blocks()))
    assert numbers == walked.order
    half = walked.first_later
    assert numbers[:half] == [*range(0, half, 2), *range(1, half, 2)]
    assert numbers[half:] == list(range(half, walked.n_blocks))
    held = np.flatnonzero(plan.fold >= 0)
    assert sorted(np.concatenate([b.rows for b in walked.blocks()]).tolist()) == held.tolist()
    for block in walked.blocks():
        parts = list(block.parts())
        taken = np.concatenate([np.arange(len(block.rows))[at] for _, at in parts])
        assert sorted(taken.tolist()) == list(range(len(block.rows)))
        for name, at in parts:
            assert set(walked.part_of_row[block.rows[at]]) == {name}


def test_a_walk_shows_its_blocks_to_every_collector_and_tells_how_far_it_is(rows, folded):
    class Count:
        n_rows = 0

        def add(self, block):
            self.n_rows += len(block.rows)

    first, second, told = Count(), Count(), []
    rows.walk(first, second, what="count", progress=lambda *line: told.append(line))
    assert first.n_rows == second.n_rows == len(folded.store)
    assert told[-1] == ("count", len(folded.store), len(folded.store))


def test_partial_or_foreign_members_are_refused(store, folded, members):
    linear, trees = members
    partial = replace(trees, cells=trees.cells[:2])
    with pytest.raises(ClimstackError, match="'trees' has 2 of 3 folds"):
        check_members(folded, [linear, partial])
    few = replace(
        trees, targets=trees.targets[:5], sets=trees.sets[:5], cells=[f[:5] for f in trees.cells]
    )
    check_members(folded, [linear, few])
    with pytest.raises(ClimstackError, match="not all of them are among the 4 that are stacked"):
        check_members(folded, [few], few.targets[:4])
    turned = replace(trees, cells=trees.cells[1:] + trees.cells[:1])
    with pytest.raises(ClimstackError, match=r"'trees' comes from other folds or data \(fold 0\)"):
        check_members(folded, [linear, turned])
    other_plan = time_blocks(store.time, n_folds=3, embargo=2)
    with pytest.raises(ClimstackError, match="'linear' comes from other folds"):
        check_members(FoldedStore(store, other_plan), members)
    with pytest.raises(ClimstackError, match="share a name"):
        check_members(folded, [linear, linear])
    with pytest.raises(ClimstackError, match="no models"):
        check_members(folded, [])


def test_two_folds_are_too_few_to_stack(store, members):
    plan = time_blocks(store.time, n_folds=2, embargo=1)
    two = [replace(m, cells=m.cells[:2]) for m in members]
    with pytest.raises(ClimstackError, match="at least 3 folds, but the plan has 2"):
        check_members(FoldedStore(store, plan), two)


def test_outputs_of_other_rows_are_refused(rows, tmp_path):
    np.save(tmp_path / "fold-0.npy", np.zeros((3, 368)))
    with pytest.raises(ClimstackError, match=r"fold-0\.npy does not hold"):
        replace(rows, outputs=[tmp_path / "fold-0.npy"])
    with pytest.raises(ClimstackError, match=r"fold-9\.npy does not hold"):
        replace(rows, outputs=[tmp_path / "fold-9.npy"])
