"""The house itself: rooms that can be seen, calls that can be read, held-out rows walked once."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from ensemble import HeldOut, RunFolder, load_experiment, run_experiment

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "models", "tuning", "ensemble")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def nodes(path, kind):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind)]


def place(path, node):
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_call_has_six_positional_arguments():
    found = [
        place(path, call)
        for path in MODULES
        for call in nodes(path, ast.Call)
        if len(call.args) >= 6
    ]
    assert found == []


def test_dataclasses_of_four_fields_are_made_by_name():
    found = []
    for path in MODULES:
        for made in nodes(path, ast.ClassDef):
            how = [ast.unparse(each) for each in made.decorator_list]
            if not any(each.startswith("dataclass") for each in how):
                continue
            fields = [
                field
                for field in made.body
                if isinstance(field, ast.AnnAssign)
                and "ClassVar" not in ast.unparse(field.annotation)
                and "init=False" not in ast.unparse(field)
            ]
            if len(fields) >= 4 and not any("kw_only=True" in each for each in how):
                found.append(place(path, made))
    assert found == []


def test_no_folder_is_an_attic():
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(folder): n for folder, n in counts.items() if n > 12} == {}


def test_tests_follow_the_rooms():
    """A test file in a room is named after a module of that room, or after the room."""
    lost = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        room = path.parent.relative_to(ROOT / "tests")
        if room == Path():
            continue
        name = path.stem.removeprefix("test_")
        if not any((ROOT / room / each).exists() for each in (f"{name}.py", name)) and (
            name != room.name
        ):
            lost.append(str(path.relative_to(ROOT)))
    assert lost == []


@pytest.mark.parametrize("name", ["Array", "Progress"])
def test_a_type_is_defined_once(name):
    found = [
        place(path, node)
        for path in MODULES
        for node in nodes(path, ast.Assign)
        if [ast.unparse(target) for target in node.targets] == [name]
    ]
    assert len(found) == 1, found


def test_names_of_a_runs_files_are_spelled_in_one_place():
    within = [each for each in vars(RunFolder).values() if hasattr(each, "name")]
    names = {Path(each.name).name for each in within if Path(each.name).suffix}
    assert len(names) >= 12
    found = {
        str(path.relative_to(ROOT))
        for path in MODULES
        for node in nodes(path, ast.Constant)
        if isinstance(node.value, str) and node.value.split("/")[-1] in names
    }
    assert found == {"ensemble/experiment/folder.py"}


def test_a_run_walks_its_held_out_rows_three_times(generated, tmp_path, monkeypatch):
    """Moments; scores; everything that the chosen blend gives, the report's data too."""
    walks, blocks = [], HeldOut.blocks
    monkeypatch.setattr(HeldOut, "blocks", lambda self: walks.append(self) or blocks(self))
    (tmp_path / "small.toml").write_text(f"""
name = "small"
[data]
train = "{generated["train"]}"
grid_columns = 16
[folds]
n_folds = 3
[[models]]
family = "ridge"
[[models]]
name = "again"
family = "ridge"
[models.params]
clip = 5.0
""")
    run_experiment(load_experiment(tmp_path / "small.toml"), tmp_path)
    assert (tmp_path / "small" / "report.html").is_file()
    assert len(walks) == 3
