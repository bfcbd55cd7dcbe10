"""What the documents say is run: README code, the new-family recipe, the examples, ``__all__``."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # several spin where cores are shared
BLOCK = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```", re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    """Blocks of a language in the README: name (after the language) and text."""
    return [(name, text) for found, name, text in BLOCK.findall(README) if found == language]


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


@pytest.mark.usefixtures("examples")
def test_readme_python_runs(tmp_path):
    code = [text for name, text in blocks("python") if not name]
    assert code
    (tmp_path / "readme.py").write_text("\n".join(code))
    assert "honest" in run_script(tmp_path / "readme.py", tmp_path)


def test_the_new_family_recipe_works_with_one_file(tmp_path):
    """The README's file, dropped into a copy of the packages, is found, fitted and stacked."""
    [(name, text)] = [(n, t) for n, t in blocks("python") if n.startswith("models/families/")]
    for package in ("features", "models", "tuning", "ensemble"):
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


def test_examples_run_and_are_short(examples):
    for path, process in examples.items():
        assert len(path.read_text().splitlines()) < 40
        out, problems = process.communicate()
        assert process.returncode == 0, problems
        assert re.search(r"0\.\d{3}", out)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_use_public_names_alone(path):
    for package, names in re.findall(r"^from ([\w.]+) import (.+)$", path.read_text(), re.M):
        if package.split(".")[0] in ("features", "models", "tuning", "ensemble"):
            public = importlib.import_module(package).__all__
            assert set(names.split(", ")) <= set(public)


@pytest.mark.parametrize("package", ["features", "models", "tuning", "ensemble"])
def test_all_names_what_is_there(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__


def test_readme_commands_exist():
    """Every ``climstack ...`` line of the README is a command the program knows."""
    from typer.main import get_command

    from ensemble.cli.app import app

    root = get_command(app)
    lines = [line for _, text in blocks("sh") for line in text.splitlines()]
    lines = [line for line in lines if line.startswith("climstack ")]
    lines += re.findall(r"`(climstack [^`]+)`", README)
    assert len(lines) >= 15
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert not getattr(command, "commands", {}), line
        assert {word for word in words if word.startswith("--")} <= options, line
