"""The one exception for what a user can put right, and warnings of what flatters or is odd."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN_NAMES = 30


class ClimstackError(ValueError):
    """Bad input, said in one sentence: what, where, the value found, what to do.

    Example:
        >>> from features import load_schema
        >>> try:
        ...     load_schema("laep")
        ... except ClimstackError as error:
        ...     print(error)
        no schema 'laep': did you mean 'leap'?, or give a .toml file
    """


class LeakageWarning(UserWarning):
    """A choice that makes a validation score look better than it is.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", LeakageWarning)  # folds that flatter stop the program
        >>> warnings.simplefilter("default", LeakageWarning)
    """


class DataWarning(UserWarning):
    """Something in the data that is no error, and that a user wants to know.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", DataWarning)  # what is odd in data stops the program
        >>> warnings.simplefilter("default", DataWarning)
    """


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
