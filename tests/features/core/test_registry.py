"""What an installed package adds by entry points is found as a file of our own is."""

from pathlib import Path

import pytest

from ensemble.stacking.candidate import available_blenders, load_blender
from features import ClimstackError, available_schemas, load_schema
from models import available_families, load_family

MODULE = """
from dataclasses import dataclass, replace
from features import load_schema
from features.core.settings import Bounded, Count
from models.families.ridge import MODEL as RIDGE

class Family(type(RIDGE)):
    pass

class Last:
    complexity, pools = 9, False

MODEL, BLENDER, SCHEMA = Family(), Last(), replace(load_schema("leap"), name="acme_air")

@dataclass(frozen=True)
class Config(Bounded):
    width: Count = 3

PRESETS = {"tiny": {}, "laptop": {"width": 4}, "gpu": {}}

def build(config):
    raise NotImplementedError

def search_space(trial):
    return {}
"""
POINTS = {
    "families": "acme_trees",
    "architectures": "acme_net",
    "blenders": "acme_last",
    "schemas": "acme_air",
}


def install(folder: Path, points: dict[str, str]) -> None:
    """A distribution as pip leaves it: a module, and what its metadata says of entry points."""
    (folder / "acme_things.py").write_text(MODULE)
    about = folder / "acme-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    groups = [f"[climstack.{group}]\n{name} = acme_things\n" for group, name in points.items()]
    (about / "entry_points.txt").write_text("\n".join(groups))


def test_what_an_installed_package_adds_is_found(tmp_path, monkeypatch):
    assert "acme_trees" not in available_families()
    install(tmp_path, POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    assert {"acme_trees", "acme_net", "ridge", "unet1d"} <= set(available_families())
    assert "acme_last" in available_blenders()
    assert "acme_air" in available_schemas()
    assert type(load_family("acme_trees")).__name__ == "Family"
    assert load_blender("acme_last").complexity == 9
    assert load_schema("acme_air").name == "acme_air"
    assert load_family("acme_net").Params().width == 4  # of the preset
    with pytest.raises(ClimstackError, match=r"width must lie in \[1, inf\), but got 0"):
        load_family("acme_net").Params(width=0)


@pytest.mark.parametrize(
    ("group", "name", "look", "ours"),
    [
        ("families", "ridge", available_families, "models.families.ridge"),
        ("families", "unet1d", available_families, "acme_things"),
        ("architectures", "unet1d", available_families, "models.seq2seq.architectures.unet1d"),
        ("blenders", "mean", available_blenders, "ensemble.stacking.blenders.mean"),
        ("schemas", "leap", available_schemas, ".*leap.toml"),
    ],
)
def test_a_name_that_stands_twice_is_refused(group, name, look, ours, tmp_path, monkeypatch):
    install(tmp_path, {group: name})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ClimstackError, match=f"the name '{name}' stands twice, for {ours} and for"):
        look()


def test_a_module_without_what_it_should_define_is_named(tmp_path, monkeypatch):
    install(tmp_path, {"schemas": "acme_empty"})
    (tmp_path / "acme_things.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "acme_things", raising=False)
    with pytest.raises(ClimstackError, match="'acme_empty' needs SCHEMA: define it in acme_things"):
        load_schema("acme_empty")
