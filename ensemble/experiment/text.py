"""What stands in an experiment file, before it means anything: tables, and text with variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from features.core.errors import ClimstackError

VARIABLE = re.compile(r"\$\{(\w+)\}")


def table_of(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be a table.

    Raises:
        ClimstackError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ClimstackError(f"{where} must be a table, but got {value!r}")
    return value


def expand(text: str, where: str) -> str:
    """Text with ``${NAME}`` taken from the environment.

    Raises:
        ClimstackError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ClimstackError(f"{where} needs the environment variable {name}: set it")
        return os.environ[name]

    return VARIABLE.sub(value, text)
