"""Tables that carry a checksum of themselves: a changed digit is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from features.core.errors import ClimstackError
from features.core.files import content_hash, read_json, write_json


def seal(table: dict[str, Any]) -> dict[str, Any]:
    """A table with a checksum of itself."""
    return table | {"checksum": _checksum(table)}


def is_sealed(table: Any) -> bool:
    """Whether a table is as :func:`seal` left it."""
    try:
        return isinstance(table, dict) and table.get("checksum") == _checksum(table)
    except (ValueError, TypeError):  # NaN, or a TOML date: neither is ever written
        return False


def write_sealed(path: Path, table: dict[str, Any]) -> None:
    """Write a table with its checksum as JSON."""
    write_json(path, seal(table))


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """Read what :func:`write_sealed` wrote, without the checksum.

    Args:
        path: of the file.
        remedy: what to do where it is damaged; ends the sentence.

    Raises:
        ClimstackError: missing, not JSON, or changed since it was written.
    """
    try:
        table = read_json(path)
    except ClimstackError:
        if not path.exists():
            raise
        table = None
    if not is_sealed(table):
        raise ClimstackError(
            f"{path} is damaged, was changed by hand or made by an earlier version (its checksum"
            f" does not match): {remedy}"
        )
    return {key: value for key, value in table.items() if key != "checksum"}


def _checksum(table: dict[str, Any]) -> str:
    return content_hash({key: value for key, value in table.items() if key != "checksum"})
