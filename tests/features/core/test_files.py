import os
import signal
import subprocess
import sys

import pytest

from features import ClimstackError
from features.core.files import exclusive_lock

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
