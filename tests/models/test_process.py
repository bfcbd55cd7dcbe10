"""A process that the system ends is one sentence."""

import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest
from joblib.externals.loky import get_reusable_executor

from features import ClimstackError
from models import CellStore, ModelSpec, cross_validate
from models.process import run_apart


def end_by(number):
    os.kill(os.getpid(), number)


def test_a_killed_process_is_a_sentence():
    with pytest.raises(ClimstackError, match="process for end_by was ended by SIGKILL"):
        run_apart(end_by, signal.SIGKILL)


def kill_a_worker():
    """Wait for the first process that joblib starts, and end it."""
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for child in map(int, own.read_text().split()):
            if "LokyProcess" in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(child, signal.SIGKILL)
                return
        time.sleep(0.01)


def test_a_killed_worker_is_a_sentence(folded, few_targets, tmp_path):
    get_reusable_executor().shutdown(wait=True)
    killer = Thread(target=kill_a_worker, daemon=True)
    killer.start()
    spec = ModelSpec(name="trees", family="lightgbm", params={"n_rounds": 2})
    with pytest.raises(ClimstackError, match="model 'trees' on fold 0 was ended by SIGKILL"):
        cross_validate(folded, spec, CellStore(tmp_path), targets=few_targets, n_jobs=2)
    killer.join()
