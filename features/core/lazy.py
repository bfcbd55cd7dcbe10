"""Packages whose names import their module when they are first used.

So one module of a package can be imported without the libraries that its others need.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__``, which imports what stands under its ``if TYPE_CHECKING:``.

    And its ``__dir__``, which lists those names: what a notebook completes.

    Args:
        package: its ``__name__``.
        file: its ``__file__``.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    home_of = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(importlib.import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(home_of)
