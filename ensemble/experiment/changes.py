"""What is other in one experiment than in another of the same name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 4


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The settings that differ with their old and new values, at most four; "" where none does.

    >>> changes({"seed": 1, "models": [{"name": "a"}]}, {"seed": 2, "models": [{"name": "a"}]})
    'seed (1, now 2)'
    """
    old, new = dict(_settings(before)), dict(_settings(after))
    differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    told = [f"{k} ({old.get(k, 'none')}, now {new.get(k, 'none')})" for k in differ[:SHOWN]]
    more = [f"and {len(differ) - SHOWN} more"] if len(differ) > SHOWN else []
    return ", ".join([*told, *more])


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted key; tables of a list are called by their names."""
    if isinstance(value, Mapping):
        items = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        items = [(str(item.get("name", at)), item) for at, item in enumerate(value)]
    else:
        yield key, value
        return
    for name, item in items:
        yield from _settings(item, f"{key}.{name}" if key else name)
