"""LightGBM's text as climstack has it written, read strictly before LightGBM sees it.

A line that is there twice, another order, a number too many: whatever LightGBM does not write is
refused. What follows the trees (parameters, counts of splits) has no part in a prediction and is
cut off. Source of the format: ``Tree::ToString`` and ``GBDT::SaveModelToString`` of LightGBM 4.7.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.settings import check
from models.trees.forest import Ints, check_forest, check_range

MAX_LEAVES = 2**17
NO_NUMBER = "a line holds what is no finite number"
MAX_DECISION = 12  # kind of a missing value in bits 2 and 3, which way it goes in 1, category in 0
TAIL = (
    "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\n"
    "pandas_categorical:null\n"
)

SPLITS = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
INNER = ("internal_value", "internal_weight", "internal_count")
WORDS = ("cat_boundaries", "cat_threshold")  # bits of the words that go left, by split
LINEAR = ("leaf_const", "num_features")
TERMS = ("leaf_features", "leaf_coeff")
OF_KIND = {
    pl.Int32: {
        *("split_feature", "decision_type", "left_child", "right_child", "leaf_count"),
        *("internal_count", "num_features", "leaf_features"),
    },
    pl.Int64: {*WORDS},
    pl.Float64: {
        *("split_gain", "threshold", "leaf_value", "leaf_weight", "internal_value"),
        *("internal_weight", "leaf_const", "leaf_coeff", "shrinkage"),
    },
}

_HEAD = re.compile(
    r"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
    r"max_feature_idx=(?P<last>\d{1,9})\nobjective=regression\nfeature_names=(?P<names>[^\n]*)\n"
    r"feature_infos=(?P<infos>[^\n]*)\ntree_sizes=(?P<sizes>\d{1,9}(?: \d{1,9})*)\n\n"
)


def _lines(names: Sequence[str]) -> str:
    return "".join(rf"{name}=(?P<{name}>[^\n]*)\n" for name in names)


_TREE = re.compile(
    r"Tree=(?P<number>\d{1,9})\nnum_leaves=(?P<num_leaves>\d{1,6})\nnum_cat=(?P<num_cat>\d{1,6})\n"
    + _lines([*SPLITS, *LEAVES, *INNER])
    + rf"(?:{_lines(WORDS)})?"
    + rf"is_linear=(?:0\n|1\n{_lines([*LINEAR, *TERMS])})"
    + r"shrinkage=(?P<shrinkage>[^\n]*)\n\n\n"
)


def read_trees(file: Path, n_features: int) -> str:
    """The text in a file, without what follows its trees, once all of it is checked.

    Args:
        file: as LightGBM's ``model_to_string`` has written it, for one target.
        n_features: how many features the trees see.

    Raises:
        ClimstackError: it is not such a text, or one for another number of features.
    """
    try:
        text = file.read_text(encoding="ascii")
        return text[: _check(text, n_features)] + TAIL
    except (ClimstackError, UnicodeDecodeError) as error:
        raise ClimstackError(
            f"{file} is not what LightGBM has written ({error}): delete its cell and run again"
        ) from None


def _check(text: str, n_features: int) -> int:
    """See that a text is right; where its trees end."""
    head = _HEAD.match(text)
    if head is None:
        raise ClimstackError("it begins otherwise")
    names, infos = head["names"].split(" "), head["infos"].split(" ")
    check("" not in names + infos, "a feature has no name")
    widths = {int(head["last"]) + 1, len(names), len(infos)}
    check(widths == {n_features}, f"it tells of {sorted(widths)} features instead of {n_features}")
    end, trees = head.end(), []
    for number, size in enumerate(map(int, head["sizes"].split(" "))):
        tree = _TREE.match(text, end)
        if tree is None or int(tree["number"]) != number or tree.end() - end != size:
            raise ClimstackError(f"tree {number} has other lines or another size")
        trees.append(tree.groupdict())
        if tree["num_leaves"] == "1" and not tree["leaf_weight"]:  # where leaves hold no lines
            trees[-1]["leaf_weight"] = "0"
        end = tree.end()
    check(text.startswith("end of trees\n", end), "there is more than its trees")
    _check_trees(trees, n_features)
    return end


def _check_trees(trees: list[dict[str, Any]], n_features: int) -> None:
    n_leaves = np.array([int(tree["num_leaves"]) for tree in trees])
    check_range("number of leaves", n_leaves, 1, MAX_LEAVES + 1)
    n_inner = n_leaves - 1
    of = dict.fromkeys((*SPLITS, *INNER), n_inner) | dict.fromkeys(LEAVES, n_leaves)
    of["shrinkage"] = np.ones_like(n_leaves)
    values = _numbers(trees, of)
    check_range("split_feature", values["split_feature"], 0, n_features)
    check_range("decision_type", values["decision_type"], 0, MAX_DECISION)
    _check_words(trees, values["decision_type"] & 1, values["threshold"], n_inner)
    parents = np.arange(n_inner.sum()) - np.repeat(np.cumsum(n_inner) - n_inner, n_inner)
    children = np.stack([values["left_child"], values["right_child"]], axis=1).astype(np.int64)
    leaves = np.repeat(n_inner, n_inner)[:, None] - 1 - children  # -1 is the first leaf
    nodes = np.where(children < 0, leaves, children)
    check_forest(n_leaves + n_inner, n_inner, parents, nodes)
    linear = [tree for tree in trees if tree["leaf_const"] is not None]
    if linear:
        n_leaves = n_leaves[[tree["leaf_const"] is not None for tree in trees]]
        n_terms = _numbers(linear, dict.fromkeys(LINEAR, n_leaves))["num_features"]
        check_range("num_features", n_terms, 0, n_features + 1)
        n_terms = np.add.reduceat(n_terms, np.cumsum(n_leaves) - n_leaves)
        # A blank follows each term, and one each leaf.
        terms = _numbers(linear, dict.fromkeys(TERMS, n_terms), n_leaves + 1)
        check_range("leaf_features", terms["leaf_features"], 0, n_features)


def _check_words(
    trees: list[dict[str, Any]], is_word: Ints, threshold: NDArray[Any], n_inner: Ints
) -> None:
    """See that each split on words has its set of them, and each set lies in the bits."""
    n_sets = np.array([int(tree["num_cat"]) for tree in trees])
    tree_of = np.repeat(np.arange(len(trees)), n_inner)
    found = np.bincount(tree_of[is_word == 1], minlength=len(trees))
    check(bool((found == n_sets).all()), "a tree has other splits on words than sets of them")
    there = np.array([tree["cat_boundaries"] is not None for tree in trees])
    check(bool((there == (n_sets > 0)).all()), "a tree has sets of words and no splits on them")
    splits = np.flatnonzero(is_word)
    sets = threshold[splits]
    inside = (sets >= 0) & (sets < n_sets[tree_of[splits]]) & (np.floor(sets) == sets)
    check(bool(inside.all()), "a split on words names no set of them")
    with_words = [tree for tree in trees if tree["cat_boundaries"] is not None]
    for tree in with_words:
        of = {"cat_boundaries": np.array([int(tree["num_cat"]) + 1])}
        bounds = _numbers([tree], of)["cat_boundaries"]
        rising = bounds[0] == 0 and bool((np.diff(bounds) > 0).all())
        check(rising and int(bounds[-1]) < MAX_LEAVES, "the bounds of sets of words don't rise")
        bits = _numbers([tree], {"cat_threshold": np.array([bounds[-1]])})["cat_threshold"]
        check_range("cat_threshold", bits, 0, 2**32)


def _numbers(
    trees: list[dict[str, Any]], of: dict[str, Ints], more_blanks: Ints | int = 0
) -> dict[str, NDArray[Any]]:
    """Numbers that each tree's line of a name in ``of`` holds, tree after tree.

    Raises:
        ClimstackError: a line has not as many as ``of`` says, or something else than finite ones.
    """
    found: dict[str, NDArray[Any]] = {}
    more = np.broadcast_to(more_blanks, len(trees))
    for kind, of_kind in OF_KIND.items():
        names = [name for name in of if name in of_kind]
        if not names:
            continue
        lines = pl.Series([tree[name] for name in names for tree in trees])
        parts = lines.str.split(" ")
        held = parts.list.len().to_numpy() - (lines == "").to_numpy() - np.tile(more, len(names))
        wanted = np.concatenate([of[name] for name in names])
        bad = np.flatnonzero(held != wanted)
        if len(bad):
            name, tree = divmod(int(bad[0]), len(trees))
            raise ClimstackError(f"{names[name]} of tree {tree} holds {held[bad[0]]} numbers")
        parts = parts.explode()
        numbers = parts.filter(parts != "").cast(kind, strict=False)
        check(numbers.null_count() == 0 and len(numbers) == wanted.sum(), NO_NUMBER)
        stops = np.cumsum([of[name].sum() for name in names])
        found |= dict(zip(names, np.split(numbers.to_numpy(), stops[:-1]), strict=True))
    for line, values in found.items():
        # A threshold of inf: what is there goes left, what is missing right.
        right = np.isfinite(values) | ((values == np.inf) & (line == "threshold"))
        check(bool(right.all()), NO_NUMBER)
    return found
