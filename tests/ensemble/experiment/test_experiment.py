import tomllib

import pytest

from ensemble import DataSettings, Experiment, load_experiment
from features import ClimstackError
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


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 3000, "a = " + "{a = " * 900, "seed = " + "9" * 5000, "\xff = 1"],
)
def test_toml_that_its_reader_chokes_on_is_one_sentence(text, tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ClimstackError, match=r"a\.toml is not valid TOML: "):
        load_experiment(file)


def test_ignored_columns_and_looping_links(tmp_path):
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    file = tmp_path / "a.toml"
    file.write_text(
        'name = "a"\n[data]\ntrain = "loop.csv"\nignore = ["Unnamed: *"]\n'
        '[[models]]\nfamily = "ridge"\n'
    )
    read = load_experiment(file)
    assert read.data.ignore == ("Unnamed: *",)
    assert read.data.train == str(tmp_path / "loop.csv")
    assert 'ignore = [\n    "Unnamed: *",\n]' in read.to_toml()
