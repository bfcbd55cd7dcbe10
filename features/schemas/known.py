"""Schemas by name or by file: those of the package, of installed packages, and people's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from features.core import registry
from features.core.errors import ClimstackError, closest
from features.schemas.schema import Schema

SETS = Path(__file__).parent / "sets"
GROUP = "features.schemas.sets"


def available_schemas() -> list[str]:
    """Names of the schemas of climstack and of installed packages, sorted.

    Example:
        >>> available_schemas()
        ['leap', 'v1', 'v2_rh_mc']
    """
    return sorted(_known())


def load_schema(schema: str | Path | Schema) -> Schema:
    """A schema by its name, or from a ``.toml`` file; a :class:`Schema` is given back.

    Raises:
        ClimstackError: no schema of that name, no such file, or what is wrong in it.

    Example:
        >>> load_schema("leap").slice_of("state_ps")
        slice(360, 361, None)
    """
    if isinstance(schema, Schema):
        return schema
    if is_file(schema):
        return Schema.read(schema)
    known = _known()
    if schema not in known:
        raise ClimstackError(
            f"no schema '{schema}': {closest(str(schema), known)}, or give a .toml file"
        )
    file = known[str(schema)]
    if file is not None:
        return _read(file)
    found: Schema = registry.load(GROUP, str(schema), "SCHEMA", "schema")
    return found


def is_file(schema: str | Path) -> bool:
    """Whether that is a schema's file, not its name."""
    return Path(schema).suffix == ".toml"


def _known() -> dict[str, Path | None]:
    """By name the file of a schema of ours, None for that of an installed package."""
    found: dict[str, Path | None] = {file.stem: file for file in sorted(SETS.glob("*.toml"))}
    for name in registry.names(GROUP):
        if name in found:
            raise ClimstackError(
                f"the name '{name}' stands twice, for {found[name]} and for an installed package's"
                " schema: uninstall that package"
            )
        found[name] = None
    return found


@cache
def _read(file: Path) -> Schema:
    return Schema.read(file)
