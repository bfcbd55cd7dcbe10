import shutil
import tomllib
from pathlib import Path

import pytest

from ensemble import DataSettings, Experiment, load_experiment
from ensemble.experiment.experiment import experiment_from_table
from features import ClimstackError
from models import ModelSpec
from tests.mutations import attack, n_mutations

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = " + "9" * 5000, "is not valid TOML: Exceeds the limit"),
        ("seed = " + "9" * 400, "seed must lie in"),
        ("\xff = 1", "is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML: it nests too deep"),
        ("a = " + "{a = " * 5000, "is not valid TOML: it nests too deep"),
    ],
)
def test_numbers_and_nesting_without_end_are_a_sentence(text, said, tmp_path):
    (tmp_path / "experiment.toml").write_text(f'name = "e"\n{text}\n', encoding="latin-1")
    with pytest.raises(ClimstackError, match=said):
        load_experiment(tmp_path / "experiment.toml")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_damaged_experiment_is_one_or_a_sentence(config, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIMSTACK_REAL_DATA", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(config, source / "experiment.toml")
    found = attack(
        "tests.mutations:read_experiment", source, "experiment.toml", tmp_path, n_mutations(150)
    )
    assert set(found) == {"fine", "a sentence"}, found


def test_models_may_serve_some_of_the_targets():
    def read(*models):
        table = {"name": "n", "data": {"train": "t.csv"}, "models": list(models)}
        return experiment_from_table(table, Path())

    surface = {"name": "surface", "family": "lightgbm", "targets": ["cam_out_*"]}
    fed = {"name": "fed", "family": "ridge", "inputs_from": ["surface"]}
    found = read(surface, fed | {"targets": ["cam_out_SOLS"]})
    assert [len(spec.served(found.schema)) for spec in found.models] == [8, 1]
    again = experiment_from_table(tomllib.loads(found.to_toml()), Path())
    assert again.models[0].targets == ("cam_out_*",)
    with pytest.raises(ClimstackError, match="'fed' builds on 'surface', which does not serve"):
        read(surface, fed)
    with pytest.raises(ClimstackError, match="'cam_in_', which names no target"):
        read(surface | {"targets": ["cam_in_"]})
    variant = {"targets": ["ptend_t_30"], "params": {"num_leaves": 9}}
    with pytest.raises(ClimstackError, match="names ptend_t_30, which the model does not serve"):
        read(surface | {"variants": [variant]})
