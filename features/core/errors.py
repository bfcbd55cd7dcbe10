"""The one exception for what a user can put right, and warnings of what flatters or is odd."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN_NAMES = 30


class ClimstackError(ValueError):
    """Bad input, said in one sentence: what, where, the value found, what to do."""


class LeakageWarning(UserWarning):
    """A choice that makes a validation score look better than it is."""


class DataWarning(UserWarning):
    """Something in the data that is no error, and that a user wants to know."""


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error sentence: the nearest known name, or all of them if they are few.

    >>> closest("ridg", ["ridge", "lightgbm"])
    "did you mean 'ridge'?"
    >>> closest("zzz", ["ridge", "lightgbm"])
    'known: lightgbm, ridge'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"known: {', '.join(names[:SHOWN_NAMES])}{more}"
