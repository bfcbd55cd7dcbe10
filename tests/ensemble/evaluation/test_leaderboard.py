import numpy as np
import pytest

from ensemble import choose, leaderboard


def test_leaderboard_is_sorted_and_says_what_is_honest(store, members, contenders, scores):
    chosen = choose(contenders, scores)
    rows = leaderboard(store.schema, members, contenders, scores, chosen)
    found = [row["score"] for row in rows]
    assert found == sorted(found, reverse=True)
    assert [row["model"] for row in rows if row["chosen"]] == [chosen.name]
    for row in rows:
        assert row["ci_low"] <= row["score"] + 0.02
        assert row["ci_high"] >= row["score"] - 0.02
        assert np.mean(row["score_per_fold"]) == pytest.approx(row["score"], abs=1e-9)
        assert set(row["score_per_group"]) == {v.name for v in store.schema.targets}
    best = max((r for r in rows if not r["blend"]), key=lambda r: r["score"])
    for row in rows:
        if row["blend"]:
            assert row["best_member"] == best["model"]
            assert row["gain"] == pytest.approx(row["score"] - best["score"])
