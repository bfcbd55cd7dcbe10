import numpy as np
import pytest

from ensemble import RunFolder, choose, leaderboard
from ensemble.evaluation.leaderboard import compared
from features import ClimstackError
from features.core.files import write_json
from features.core.sealed import write_sealed


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


def test_a_run_of_another_scheme_says_which(tmp_path):
    """Its rows stand beside the honest ones, for they are scores of the same rows."""
    facts = {"rows_hash": "r", "versions": {"climstack": "0.2.0"}}
    others = []
    for scheme in ("time_blocks", "forward_chaining"):
        run = RunFolder(tmp_path / f"a_{scheme}")
        run.path.mkdir()
        write_sealed(run.facts, facts | {"scheme": scheme})
        write_json(run.leaderboard, [{"model": "m", "chosen": True, "score": 0.5, "metric": "r2"}])
        run.seal(run.leaderboard)
        others.append(str(run.path))
    ours = [{"model": "m", "chosen": True, "score": 0.7, "metric": "r2"}]
    rows = compared(ours, facts | {"scheme": "time_blocks"}, others)
    assert [(row["model"], row["chosen"]) for row in rows] == [
        ("m", True),
        ("a_forward_chaining (forward_chaining): m", False),
        ("a_time_blocks: m", False),
    ]
    ours[0]["metric"] = "rmse"
    with pytest.raises(ClimstackError, match="scored by r2 and not by rmse"):
        compared(ours, facts | {"scheme": "time_blocks"}, others)
