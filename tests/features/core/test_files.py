import os
import signal
import subprocess
import sys

import pytest

from features import ClimstackError
from features.core.files import exclusive_lock, read_json, write_text

HOLDING = """
import sys, time
from pathlib import Path
from features.core.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_free_again_after_a_kill(tmp_path):
    path = tmp_path / "folder" / "lock"
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ClimstackError, match="somebody has it"):
            exclusive_lock(path, "somebody has it").__enter__()
        holder.send_signal(signal.SIGKILL)
    with exclusive_lock(path, "somebody has it"):
        pass


def test_a_lock_writes_into_nothing(tmp_path):
    path, elsewhere = tmp_path / "lock", tmp_path / "mine.txt"
    path.write_text("mine")
    with exclusive_lock(path, "busy"):
        assert path.read_text() == "mine"
    elsewhere.write_text("mine")
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "nowhere").symlink_to(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "nowhere", "pipe"):
        with (
            pytest.raises(ClimstackError, match=f"{name} is no regular file"),
            exclusive_lock(tmp_path / name, "busy"),
        ):
            pass
    assert elsewhere.read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_a_pipe_or_a_device_is_never_replaced(tmp_path):
    """``--out /dev/null`` must not turn the device into a file."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ClimstackError, match="pipe is neither a file nor a folder"):
        write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"a": ' * 100_000, "\x00", "{"])
def test_what_is_no_json_is_a_sentence(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ClimstackError, match="is not JSON"):
        read_json(tmp_path / "a.json")
