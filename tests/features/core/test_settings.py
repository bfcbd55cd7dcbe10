import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

import pytest
import tomli_w
from annotated_types import Ge, Interval

from features import ClimstackError
from features.core.settings import Bounded, Count, Rate, from_table, without_none


@dataclass(frozen=True)
class Settings(Bounded):
    epochs: Count = 20
    rate: Rate = 0.0
    share: Annotated[float, Interval(gt=0, le=1)] = 0.5
    window: Annotated[int, Ge(-1)] | None = None


@dataclass(frozen=True)
class Plain:
    epochs: Count = 20


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": 0}, r"epochs must lie in \[1, inf\), but got 0"),
        ({"rate": 1.0}, r"rate must lie in \[0, 1\), but got 1"),
        ({"rate": float("nan")}, r"rate must lie in \[0, 1\), but got nan"),
        ({"share": 0.0}, r"share must lie in \(0, 1\], but got 0"),
        ({"window": -2}, r"window must lie in \[-1, inf\), but got -2"),
    ],
)
def test_a_value_out_of_bounds_is_refused(values, sentence):
    with pytest.raises(ClimstackError, match=f"^{sentence}"):
        Settings(**values)
    with pytest.raises(ClimstackError, match=r"^\[here\] (rate must be finite|" + sentence + ")"):
        from_table(Settings, values, "[here]")


def test_bounds_leave_types_and_none_alone():
    assert from_table(Settings, {"epochs": 1, "rate": 0, "window": -1}, "").window == -1
    assert from_table(Settings, {}, "") == Settings()
    with pytest.raises(ClimstackError, match="epochs must be int, but got"):
        from_table(Settings, {"epochs": 1.5}, "")


def test_a_table_heeds_bounds_of_any_dataclass():
    with pytest.raises(ClimstackError, match=r"^\[p\] epochs must lie in \[1, inf\), but got -3"):
        from_table(Plain, {"epochs": -3}, "[p]")


def test_a_table_without_none_is_toml():
    table = {"a": None, "b": {"c": None, "d": (1, 2)}, "e": [{"f": None, "g": 'x\ny"\\'}]}
    found = tomllib.loads(tomli_w.dumps(without_none(table)))
    assert found == {"b": {"d": [1, 2]}, "e": [{"g": 'x\ny"\\'}]}


@pytest.mark.parametrize("hint", [int, float])
def test_numbers_beyond_64_bits_are_a_sentence(hint):
    made = make_dataclass("Made", [("size", hint)])
    for value in (10**400, -(10**400), 2**63):
        with pytest.raises(ClimstackError, match=r"\[a\] size is a whole number of more than 64"):
            from_table(made, {"size": value}, "[a]")
    assert from_table(made, {"size": 2**63 - 1}, "[a]").size == hint(2**63 - 1)


@dataclass(frozen=True)
class WithTable:
    more: Mapping[str, Any]


def test_a_table_of_anything_that_toml_holds():
    held = {"a": 1, "b": [1.5, "x", True], "c": {"d": (2, 3)}, "e": None}
    made = from_table(WithTable, {"more": held}, "[t]")
    assert made.more == {"a": 1, "b": [1.5, "x", True], "c": {"d": [2, 3]}, "e": None}
    for wrong, sentence in (
        ([1], r"\[t\] more must be a table"),
        ({"a": float("inf")}, r"\[t\] more a must be finite"),
        ({"a": {"b": object()}}, r"\[t\] more a b must be a number, a text, a list or a table"),
        ({"a": 2**64}, "more than 64 bits"),
    ):
        with pytest.raises(ClimstackError, match=sentence):
            from_table(WithTable, {"more": wrong}, "[t]")
