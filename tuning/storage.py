"""A study on disk: exactly as many trials as asked for, whoever is killed.

Trials are *places* in a queue that is filled once: place 0 holds the model's own parameters. A
worker takes a waiting place, which is granted to one worker only, and keeps a heartbeat while it
works. The place of a trial that was killed is queued again with the same parameters, so
the number of trials that end equals the number of places, and none stays running.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from features.core.errors import ClimstackError
from features.core.files import content_hash

log = logging.getLogger(__name__)

HEARTBEAT = 5  # seconds between signs of life
GRACE = 60  # seconds without one after which a trial on another machine is given up
PLACE, OWNER, DRAWN, FINGERPRINT, SEAL = "place", "owner", "drawn", "fingerprint", "seal"
SQLITE = "sqlite:///"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def open_storage(url: str) -> RDBStorage:
    """The database of a study: SQLite or PostgreSQL by its URL.

    Raises:
        ClimstackError: it can't be reached, or its driver is not installed.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": 120}}  # seconds that a writer waits for another
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url, engine_kwargs=options, heartbeat_interval=HEARTBEAT, grace_period=GRACE
            )
    except ImportError as error:
        raise ClimstackError(
            f"storage {hidden(url)} needs a driver that is not installed ({error}):"
            " pip install 'climstack[postgresql]' for PostgreSQL"
        ) from None
    except Exception as error:
        cause = str(error.__cause__ or error).strip().splitlines()
        raise ClimstackError(
            f"storage {hidden(url)} can't be opened: {cause[0] if cause else error}"
        ) from None


@contextmanager
def naming_damage(url: str) -> Iterator[None]:
    """Say which database it is that can't be read.

    Raises:
        ClimstackError: it is damaged, or something in it is.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, JSONDecodeError, LookupError) as error:
        if isinstance(error, KeyError | IndexError):
            raise  # a plain LookupError is an unknown word in the database
        cause = str(error.__cause__ or error).strip().splitlines()
        raise ClimstackError(
            f"storage {hidden(url)} is damaged or can't be read ({cause[0] if cause else error}):"
            " name another with --storage, or delete it"
        ) from None


def open_study(
    storage: RDBStorage, name: str, fingerprint: Mapping[str, str], new_study: bool = False
) -> Study:
    """The study of a model, made when there is none.

    Args:
        storage: where it is kept.
        name: what it is called; with ``new_study`` ``NAME-2`` and so on.
        fingerprint: what its trials depend on.
        new_study: start another one where the last has a different fingerprint.

    Raises:
        ClimstackError: the study there has another fingerprint.
    """
    there = {
        summary.study_name: summary.user_attrs
        for summary in optuna.get_all_study_summaries(storage, include_best_trial=False)
        if summary.study_name == name or summary.study_name.rpartition("-")[0] == name
    }
    for known, facts in there.items():
        if facts.get(FINGERPRINT) == dict(fingerprint):
            return optuna.load_study(study_name=known, storage=storage)
    if there and not new_study:
        facts = there[max(there, key=_number)].get(FINGERPRINT, {})
        changed = [key for key, value in fingerprint.items() if facts.get(key) != value]
        raise ClimstackError(
            f"study '{name}' was made with other {', '.join(changed)}: put that back, or start"
            " another study with --new-study, which keeps the old one"
        )
    fresh = name if not there else f"{name}-{max(map(_number, there)) + 1}"
    study = optuna.create_study(
        study_name=fresh, storage=storage, direction="maximize", load_if_exists=True
    )
    study.set_user_attr(FINGERPRINT, dict(fingerprint))
    return study


def fill(study: Study, n_trials: int, first: Mapping[str, Any]) -> None:
    """Queue the places up to ``n_trials`` that no trial holds; the first gets given parameters."""
    held = {
        trial.user_attrs.get(PLACE)
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.FAIL
    }
    for place in range(n_trials):
        if place not in held:
            again = _last_of(study, place)
            params = first if place == 0 else {} if again is None else _params_of(again)
            study.enqueue_trial(dict(params), user_attrs={PLACE: place})


def take(
    study: Study, n_trials: int, url: str, sampler: Callable[[int], BaseSampler]
) -> Trial | None:
    """The next waiting trial among the first ``n_trials`` places; None when none waits.

    Args:
        study: the study.
        n_trials: how many places count.
        url: of the study's database.
        sampler: makes what draws the parameters of a place.
    """
    storage = study._storage
    with _alone(url):
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        for trial in sorted(waiting, key=place_of):
            if place_of(trial) >= n_trials:
                continue
            with suppress(UpdateFinishedTrialError):
                if not storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    continue
                storage.set_trial_user_attr(trial._trial_id, OWNER, owner())
                if _is_second(study, trial):
                    study.tell(trial.number, state=TrialState.FAIL)
                    continue
                break
        else:
            return None
    study.sampler = sampler(trial.user_attrs[PLACE])
    return Trial(study, trial._trial_id)


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Let one process at a time take a trial from SQLite, which can't lock a row while it is read.

    PostgreSQL can, and Optuna does.
    """
    if not url.startswith(SQLITE):
        yield
        return
    with FileLock(f"{url.removeprefix(SQLITE)}.lock", fallback_to_soft=False):
        yield


def place_of(trial: FrozenTrial) -> float:
    """A trial's place; infinite for one that somebody else has added to the study."""
    place: float = trial.user_attrs.get(PLACE, math.inf)
    return place


def release(study: Study, number: int) -> None:
    """Give up a running trial and queue its place again with the same parameters."""
    trial = study.get_trials(deepcopy=False)[number]
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    study.enqueue_trial(_params_of(trial), user_attrs={PLACE: trial.user_attrs[PLACE]})
    log.warning("trial %d was interrupted: its place is queued again", number)


def release_dead(study: Study) -> None:
    """Release the trials of processes that are gone."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if place_of(trial) != math.inf and _is_dead(study, trial):
            release(study, trial.number)


def seal_of(trial: FrozenTrial, value: float) -> str:
    """A checksum of what a finished trial tells: its parameters and values."""
    steps = sorted(trial.intermediate_values.items())
    return content_hash([trial.user_attrs.get(PLACE), trial.params, steps, value])


def n_ended(study: Study, n_trials: int) -> int:
    """How many of the first ``n_trials`` places are done."""
    ended = study.get_trials(deepcopy=False, states=ENDED)
    return len({place_of(trial) for trial in ended if place_of(trial) < n_trials})


@contextmanager
def heartbeat(study: Study, trial: Trial) -> Iterator[None]:
    """Signs of life of a trial while the block runs."""
    storage, done = study._storage, threading.Event()

    def beat() -> None:
        while True:
            with suppress(Exception):  # a busy database: the next beat tells
                storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
            if done.wait(HEARTBEAT):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def owner() -> str:
    """Machine and process that a trial belongs to, and when that process began."""
    return f"{socket.gethostname()}:{os.getpid()}:{_began(os.getpid())}"


@dataclass(frozen=True)
class _Owner:
    host: str
    process: int
    began: str

    @classmethod
    def of(cls, text: str) -> _Owner:
        host, process, began = text.rsplit(":", 2)
        return cls(host, int(process), began)


def _is_dead(study: Study, trial: FrozenTrial) -> bool:
    if OWNER in trial.user_attrs:
        known = _Owner.of(trial.user_attrs[OWNER])
        if known.host == socket.gethostname():
            return _began(known.process) != known.began
        return trial._trial_id in study._storage._get_stale_trial_ids(  # type: ignore[attr-defined]
            study._study_id
        )
    # Killed between being granted a trial and saying so.
    started = trial.datetime_start or datetime.fromtimestamp(0)
    return time.time() - started.timestamp() > GRACE


def _began(process: int) -> str:
    """When a process of this machine began, in clock ticks; "" when there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_second(study: Study, trial: FrozenTrial) -> bool:
    """Two machines that began at once may have queued a place twice: the earlier one counts."""
    return any(
        other.number < trial.number
        and other.state != TrialState.FAIL
        and other.user_attrs.get(PLACE) == trial.user_attrs[PLACE]
        for other in study.get_trials(deepcopy=False)
    )


def _last_of(study: Study, place: int) -> FrozenTrial | None:
    held = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get(PLACE) == place]
    return held[-1] if held else None


def _params_of(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial has drawn, or was told to take; half a draw would not be what its seed gives."""
    told: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return told | trial.params if DRAWN in trial.user_attrs else told


def _number(name: str) -> int:
    end = name.rpartition("-")[2]
    return int(end) if end.isdigit() else 1


def hidden(url: str) -> str:
    """A URL without user and password."""
    head, _, rest = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{rest}" if head else url
