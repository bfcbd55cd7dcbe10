"""Things found by file name: one file in a package, no list to keep."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from features.core.errors import ClimstackError, closest


def names(package: str) -> list[str]:
    """Names of the modules in a package, sorted."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path))


def load(package: str, name: str, attribute: str, what: str) -> Any:
    """The attribute of one module of a package.

    Args:
        package: as ``models.families``.
        name: the module's name.
        attribute: what the module defines, as ``MODEL``.
        what: how to call it in an error, as ``model family``.

    Raises:
        ClimstackError: no such module, with the closest name.
    """
    if name not in names(package):
        raise ClimstackError(f"no {what} '{name}': {closest(name, names(package))}")
    return getattr(importlib.import_module(f"{package}.{name}"), attribute)
