import tomllib

from ensemble import DataSettings, Experiment
from models import ModelSpec


def test_a_resolved_experiment_has_absolute_paths_wherever_it_came_from(tmp_path, monkeypatch):
    """A run's folder reads it again, and may lie elsewhere."""
    monkeypatch.chdir(tmp_path)
    made = Experiment(
        name="made",
        data=DataSettings(train="train.csv", test="there/test.csv"),
        models=(ModelSpec(name="ridge", family="ridge"),),
    )
    data = tomllib.loads(made.to_toml())["data"]
    assert data["train"] == str(tmp_path / "train.csv")
    assert data["test"] == str(tmp_path / "there" / "test.csv")
    assert "grid" not in data
