import json
import tomllib
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from ensemble.cli import console, tables
from features import load_schema
from features.scoring.metric import load_metric


@pytest.fixture
def shown(monkeypatch):
    """What is printed on a terminal."""
    text = StringIO()
    terminal = Console(file=text, width=140, force_terminal=True, no_color=True, highlight=False)
    monkeypatch.setattr(console, "out", terminal)
    return text


def test_tuned_parameters_can_be_pasted_into_an_experiment_anywhere(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gain = SimpleNamespace(defaults=0.1, tuned=0.2, gain=0.1, low=None, high=None)
    result = SimpleNamespace(
        study="s", score="mean R2", minutes=1.0, cells_fitted=1,
        cells_full=2, importances={}, claim=gain,
        unseen=gain, adopted="defaults", best_file="runs/a run/tuning/m/best.toml",
        trials=[{"state": "complete", "place": 0, "value": 0.1, "seconds": 1.0, "params": {}}],
    )  # fmt: skip
    tables.show_tuning(result)
    line = next(each for each in shown.getvalue().splitlines() if each.startswith("tuned = "))
    pasted = tomllib.loads(line)["tuned"]
    assert pasted == str(tmp_path / "runs" / "a run" / "tuning" / "m" / "best.toml")
    assert json.loads(line.partition(" = ")[2]) == pasted


@pytest.mark.parametrize(
    ("schema", "name"),
    [("leap", "LEAP score"), ("v1", "mean R2 over 116 targets"), ("v2_rh_mc", "mean R2 over 260 ")],
)
def test_the_score_is_called_by_its_name(schema, name, shown):
    known = load_schema(schema)
    score = load_metric(known.metric).title(known)
    assert score.startswith(name)
    tables.show_leaderboard([], score=score)
    assert f"Leaderboard: {score}, honest" in " ".join(shown.getvalue().split())
