"""Things found by name: one file in a package, or an entry point of an installed one; no list."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from features.core.errors import ClimstackError, closest

GROUPS = {
    "features.schemas.sets": "climstack.schemas",
    "models.families": "climstack.families",
    "models.seq2seq.architectures": "climstack.architectures",
    "ensemble.stacking.blenders": "climstack.blenders",
    "features.scoring.metrics": "climstack.metrics",
}


def names(*packages: str) -> list[str]:
    """Names of what some packages hold and of what installed packages add to them, sorted.

    Raises:
        ClimstackError: a name stands twice.
    """
    return sorted(_modules(*packages))


def load(package: str, name: str, attribute: str, what: str) -> Any:
    """The attribute of a module of a package, or of one that an installed package adds to it.

    Args:
        package: as ``models.families``.
        name: the module's name, or the entry point's.
        attribute: what the module defines, as ``MODEL``.
        what: how to call it in an error, as ``model family``.

    Raises:
        ClimstackError: no such module, with the closest name; it lacks the attribute; or a name
            stands twice.
    """
    modules = _modules(package)
    if name not in modules:
        raise ClimstackError(f"no {what} '{name}': {closest(name, modules)}")
    module = importlib.import_module(modules[name])
    if not hasattr(module, attribute):
        raise ClimstackError(f"{what} '{name}' needs {attribute}: define it in {modules[name]}")
    return getattr(module, attribute)


def _modules(*packages: str) -> dict[str, str]:
    """By name the module that defines it."""
    found: dict[str, str] = {}
    for package in packages:
        path = importlib.import_module(package).__path__
        own = [(each.name, f"{package}.{each.name}") for each in pkgutil.iter_modules(path)]
        for name, module in (*own, *_installed(GROUPS.get(package, ""), tuple(sys.path))):
            if found.setdefault(name, module) != module:
                raise ClimstackError(
                    f"the name '{name}' stands twice, for {found[name]} and for {module}: rename"
                    " one, or uninstall its package"
                )
    return found


@lru_cache(maxsize=32)
def _installed(group: str, path: tuple[str, ...]) -> list[tuple[str, str]]:  # noqa: ARG001
    """Entry points of a group, name and module; looked for again when ``sys.path`` changes."""
    return [(point.name, point.module) for point in entry_points(group=group)]
