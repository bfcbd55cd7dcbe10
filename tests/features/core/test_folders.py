import os
import signal
import socket
import subprocess
import sys

import pytest

from features import ClimstackError
from features.core.files import atomic_path
from features.core.folders import SUFFIX, refuse_links, remove_leftovers, temporary_folder

USING = """
import sys, time
from pathlib import Path
from features.core.folders import temporary_folder
with temporary_folder(Path(sys.argv[1]), "used") as folder:
    (folder / "values").write_text("much")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_the_deads_folders_are_swept_and_the_livings_kept(tmp_path):
    command = [sys.executable, "-c", USING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as user:
        used = user.stdout.readline().strip()
        with temporary_folder(tmp_path, "ours") as ours:
            remove_leftovers(tmp_path)
            assert {str(path) for path in tmp_path.iterdir()} == {used, str(ours)}
        user.send_signal(signal.SIGKILL)
    assert [str(path) for path in tmp_path.iterdir()] == [used]
    with atomic_path(tmp_path / "file") as made:
        made.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_killed_before_it_holds_its_folder_leaves_nothing(tmp_path):
    (tmp_path / f".x.abc{SUFFIX}").mkdir()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_others_call_temporary_is_kept(tmp_path):
    (tmp_path / ".theirs.tmp").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    (tmp_path / f".link{SUFFIX}").symlink_to(elsewhere)
    remove_leftovers(tmp_path)
    assert (tmp_path / ".theirs.tmp").is_dir()
    assert (elsewhere / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", ["file link", "folder link", "broken link", "pipe", "socket"])
def test_links_and_devices_are_refused_wherever_they_lie(kind, tmp_path):
    folder, target = tmp_path / "run", tmp_path / "target"
    place = folder / "stack" / "deep"
    place.mkdir(parents=True)
    bad = place / "x"
    if kind == "pipe":
        os.mkfifo(bad)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(bad))
    else:
        if kind == "file link":
            target.write_text("mine")
        elif kind == "folder link":
            target.mkdir()
        bad.symlink_to(target)
    with pytest.raises(ClimstackError, match=r"stack/deep/x is .*so remove it"):
        refuse_links(folder)
    bad.unlink()
    (tmp_path / "named").symlink_to(folder)
    refuse_links(tmp_path / "named")  # by its owner
