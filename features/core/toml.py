"""TOML as it is written: the standard library only reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def assignments(table: Mapping[str, Any]) -> list[str]:
    """Lines ``key = value`` of a TOML table; None is left out."""
    return [f"{key} = {toml_value(value)}" for key, value in table.items() if value is not None]


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)
