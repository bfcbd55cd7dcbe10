"""What the documents say is so: code runs, settings load, commands, links and paths are there."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest

from ensemble import RunFolder
from ensemble.experiment.experiment import experiment_from_table
from features.core.registry import GROUPS

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "models", "tuning", "ensemble")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")), *DOCS]
}
MAP = PAGES["docs/architecture.md"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # several spin where cores are shared
BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FIRST = "docs/python.md"  # makes the run that the other pages' code looks at
BASE = {
    "name": "base",
    "data": {"train": "train.csv"},
    "models": [{"family": "ridge"}, {"family": "lightgbm"}],
}


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """Blocks of a language on a page: name (after the language) and text."""
    return [(name, text) for found, name, text in BLOCK.findall(PAGES[page]) if found == language]


def code_of(page: str) -> str:
    """The page's Python, but for files to be made."""
    return "\n".join(text for name, text in blocks(page, "python") if not name)


def prose_of(page: str) -> str:
    """The page without its blocks."""
    return BLOCK.sub("", PAGES[page])


WITH_PYTHON = [page for page in PAGES if code_of(page)]


def run_script(path: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, path], cwd=cwd, env=os.environ | ONE_THREAD,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """All examples, started beside the tests that follow: much of each is one thread's work."""
    folder = tmp_path_factory.mktemp("examples")
    started = {
        path: subprocess.Popen(
            [sys.executable, path, folder / path.stem],
            env=os.environ | ONE_THREAD,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for path in sorted((ROOT / "examples").glob("*.py"))
    }  # fmt: skip
    yield started
    for process in started.values():
        process.kill()


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder where the first page's code has run, under the names that the others use."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "first.py").write_text(code_of(FIRST))
    assert "honest" in run_script(folder / "first.py", folder)
    first = folder / "runs" / "first"
    for name in ("demo", "mine"):
        (folder / "runs" / name).symlink_to(first)
    (folder / "stores").symlink_to(first / "store")
    return folder


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_runs(page, desk):
    if page == FIRST:
        return  # the desk has run it
    script = desk / f"{Path(page).stem}.py"
    script.write_text(code_of(page))
    run_script(script, desk)


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_uses_public_names_where_there_are_any(page):
    for node in ast.walk(ast.parse(code_of(page))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES:
            module = importlib.import_module(node.module)
            assert {each.name for each in node.names} <= set(
                getattr(module, "__all__", dir(module))
            )


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_settings_load(page, tmp_path):
    """A whole experiment by itself, a part of one beside what it lacks."""
    for _, text in blocks(page, "toml"):
        table = tomllib.loads(text)
        if "project" in table:
            assert set(table["project"]["entry-points"]) == set(GROUPS.values())
            continue
        for file in (model["oof"] for model in table.get("models", []) if "oof" in model):
            pl.DataFrame({"sample_id": [], "cam_out_SOLS": []}).write_parquet(tmp_path / file)
        made = experiment_from_table(BASE | table, tmp_path, tuned=False)
        resolved = made.to_toml()
        assert experiment_from_table(tomllib.loads(resolved), tmp_path).to_toml() == resolved


def test_the_new_family_recipe_works_with_one_file(tmp_path):
    """The page's file, dropped into a copy of the packages, is found, fitted and stacked."""
    recipes = blocks("docs/extending.md", "python")
    [(name, text)] = [(n, t) for n, t in recipes if n.startswith("models/families/")]
    for package in PACKAGES:
        (tmp_path / package).symlink_to(ROOT / package)
    (tmp_path / "models").unlink()
    (tmp_path / "models").mkdir()
    for path in (ROOT / "models").iterdir():
        if path.name != "families":
            (tmp_path / "models" / path.name).symlink_to(path)
    families = tmp_path / "models" / "families"
    families.mkdir()
    for path in (ROOT / "models" / "families").glob("*.py"):
        (families / path.name).symlink_to(path)
    (tmp_path / name).write_text(text)
    family = Path(name).stem
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", family,
         "--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml"),
         str(ROOT / "tests" / "models" / "families" / "test_families.py")],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"(\d+) passed", done.stdout), done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 14


def test_every_python_block_is_run():
    """A block with a name is a file of the recipe; the others run as they stand."""
    named = [name for page in PAGES for name, _ in blocks(page, "python") if name]
    assert named == ["models/families/pls.py"]
    languages = {language for text in PAGES.values() for language, _, _ in BLOCK.findall(text)}
    assert languages == {"", "sh", "toml", "python"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_example(package):
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if ">>>" not in getattr(module, name).__doc__] == []


def test_examples_run_and_are_short(examples):
    for path, process in examples.items():
        assert len(path.read_text().splitlines()) < 40
        out, problems = process.communicate()
        assert process.returncode == 0, problems
        assert re.search(r"0\.\d{3}", out)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_use_public_names_alone(path):
    for package, names in re.findall(r"^from ([\w.]+) import (.+)$", path.read_text(), re.M):
        if package.split(".")[0] in PACKAGES:
            public = importlib.import_module(package).__all__
            assert set(names.split(", ")) <= set(public)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_what_is_there(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__


def test_commands_exist():
    """Every ``climstack ...`` line is a command the program knows, and every command has one."""
    from typer.main import get_command

    from ensemble.cli.app import app

    root = get_command(app)
    lines = []
    for page, text in PAGES.items():
        lines += [line for _, code in blocks(page, "sh") for line in code.splitlines()]
        lines += re.findall(r"^climstack .+$", "\n".join(t for _, t in blocks(page, "")), re.M)
        lines += re.findall(r"`(climstack [^`]+)`", text)
    lines = sorted({line for line in lines if line.startswith("climstack ")})
    found = set()
    for line in lines:
        words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)[1:]
        command, path = root, []
        while words and words[0] in getattr(command, "commands", {}):
            path.append(words.pop(0))
            command = command.commands[path[-1]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert path or words == ["--version"], line
        assert not path or not getattr(command, "commands", {}), line
        assert {word for word in words if word.startswith("--")} <= options, line
        found |= {tuple(path)} if path else set()
    data = root.commands["data"].commands
    assert found == {("data", name) for name in data} | {(n,) for n in root.commands if n != "data"}


def test_make_targets_exist():
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for page, text in PAGES.items():
        assert set(re.findall(r"(?:^|`)make (\w+)", text, re.M)) <= set(rules), page


def anchors(page: str) -> set[str]:
    """What a link to a heading of the page may end with."""
    heads = re.findall(r"^#+ (.+)$", prose_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_paths_and_tests_that_a_page_names_are_there(page):
    tops = "|".join((*PACKAGES, "tests", "benchmarks", "configs", "docs", "examples"))
    for path, test in re.findall(rf"`((?:{tops})/[\w./]*)(?:::(\w+))?", prose_of(page)):
        if "NAME" in path:  # of a file to be made: its folder
            assert (ROOT / path).parent.is_dir(), path
            continue
        assert (ROOT / path).exists(), path
        if test:
            assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_map_names_every_room_and_every_file_of_a_run():
    for package in ("features", "models", "ensemble"):
        for room in (ROOT / package).iterdir():
            if (room / "__init__.py").is_file():
                assert f"| `{package}/{room.name}` |" in MAP, room
    folder = RunFolder(Path("runs/NAME"))
    for name in vars(RunFolder):
        if isinstance(path := getattr(folder, name), Path):
            assert path.name in MAP, path


def test_the_map_has_the_order_of_the_rooms():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    for contract in table["contracts"]:
        if "containers" in contract:
            [package] = contract["containers"]
            line = re.search(rf"^{package}/ +(\w+(?: ->| \|).+)$", MAP, re.M)[1]
            assert line.split(" -> ") == contract["layers"]


def test_the_readme_is_for_a_newcomer():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 125
    assert next(place for place, line in enumerate(lines, 1) if "make demo" in line) <= 25
