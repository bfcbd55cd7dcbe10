"""Folders that others may have filled, and temporary ones that outlive nobody."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from features.core.errors import ClimstackError

SUFFIX = ".climstack.tmp"  # of our own temporary folders: nobody else's are swept
HELD = ".held"  # locked in a temporary folder by the process that uses it


@contextmanager
def temporary_folder(place: Path, name: str) -> Iterator[Path]:
    """A new folder in ``place``, gone when the block ends.

    A process that is killed leaves its folder there, but not the lock on it: so what the dead left
    is told from what the living use, and swept by the next one that makes a folder in this place.
    """
    place.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place)
    folder, held = _new_folder(place, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.close()


def remove_leftovers(place: Path) -> None:
    """Delete the temporary folders that dead processes left directly in ``place``."""
    with suppress(FileNotFoundError), os.scandir(place) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
        for folder in (place / name for name in names):
            with suppress(OSError), (folder / HELD).open("ab") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def refuse_links(folder: Path) -> None:
    """See that a folder holds files and folders alone, so that what is done there stays there.

    The folder may itself be named by a link: that is its owner's choice.

    Raises:
        ClimstackError: something in it is a link, a pipe, a socket or a device.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:  # the living come and go
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                refuse_links(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                what = "a symbolic link" if entry.is_symlink() else "no regular file"
                raise ClimstackError(
                    f"{entry.path} is {what}: runs and stores hold files and folders alone, so"
                    " remove it"
                )


def _new_folder(place: Path, name: str) -> tuple[Path, IO[bytes]]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=SUFFIX, dir=place))
        with suppress(FileNotFoundError):  # swept before it was locked
            held = (folder / HELD).open("ab")
            fcntl.flock(held, fcntl.LOCK_EX)
            if (folder / HELD).exists():
                return folder, held
            held.close()
