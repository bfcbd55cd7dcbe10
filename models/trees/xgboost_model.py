"""XGBoost's UBJSON as climstack has it written, read strictly before XGBoost sees it.

Sources: the draft 12 of ubjson.org, of which XGBoost writes objects, strings, numbers and arrays of
one type; ``RegTree::SaveModel`` and ``doc/model.schema`` of XGBoost 3.2 for what a model holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.errors import ClimstackError
from features.core.settings import check
from models.trees.forest import check_forest, check_range

MAX_NODES = 2**21  # of a tree of XGBoostParams.max_depth
MAX_WORD = 2**24  # codes beyond it are no float32
LENGTH = ord("L")
MAX_DEPTH = 12  # of objects and arrays in each other; a model has 7
KINDS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
NUMBERS = {ord(marker): np.dtype(kind) for marker, kind in KINDS.items()}

WHOLE = ("left_children", "right_children", "parents", "split_indices")
REAL = ("split_conditions", "base_weights", "loss_changes", "sum_hessian")
ARRAYS = (  # of a tree, one value for each of its nodes
    dict.fromkeys(WHOLE, np.dtype(">i4"))
    | dict.fromkeys(REAL, np.dtype(">f4"))
    | dict.fromkeys(("default_left", "split_type"), np.dtype(">u1"))
)
CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def read_model(file: Path, n_features: int) -> bytes:
    """The bytes of a file once all of it is checked.

    Args:
        file: as XGBoost's ``save_raw("ubj")`` has given it, for one target.
        n_features: how many features the trees see.

    Raises:
        ClimstackError: it is not such a model, or one for another number of features.
    """
    raw = file.read_bytes()
    try:
        _check_model(_Reader(raw).document(), n_features)
    except (ClimstackError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ClimstackError(
            f"{file} is not what XGBoost has written ({error!s:.200}): delete its cell and run"
            " again"
        ) from None
    return raw


class _Reader:
    """A reader of UBJSON that takes no more memory than the bytes it is given, and few levels.

    A fold holds half a million values, so a sentence is made only where it is needed.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def document(self) -> Any:
        """The one value that all bytes make."""
        value = self._value(0)
        check(self.at == len(self.raw), "bytes follow its end")
        return value

    def _marker(self) -> int:
        self.at += 1
        return self.raw[self.at - 1]

    def _skip(self, n_bytes: int) -> int:
        """Where the next bytes begin, once they are known to be there."""
        start = self.at
        if n_bytes < 0 or n_bytes > len(self.raw) - start:
            raise ClimstackError(f"what begins at byte {start} is longer than the file")
        self.at = start + n_bytes
        return start

    def _length(self) -> int:
        """A length, which XGBoost always writes with 64 bits."""
        if self._marker() != LENGTH:
            raise ClimstackError(f"there is no length at byte {self.at}")
        start = self._skip(8)
        return int.from_bytes(self.raw[start : self.at], "big", signed=True)

    def _text(self) -> str:
        start = self._skip(self._length())
        return self.raw[start : self.at].decode()

    def _value(self, depth: int) -> Any:
        marker = self._marker()
        if marker == ord("["):
            return self._array(depth)
        if marker == ord("S"):
            return self._text()
        if marker == ord("{") and depth < MAX_DEPTH:
            return self._object(depth)
        kind = NUMBERS[marker]
        return np.frombuffer(self.raw, kind, 1, self._skip(kind.itemsize))[0].item()

    def _object(self, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        while self.raw[self.at] != ord("}"):
            key = self._text()
            if key in table:
                raise ClimstackError(f"{key!r} stands twice")
            table[key] = self._value(depth + 1)
        self.at += 1
        return table

    def _array(self, depth: int) -> list[Any] | NDArray[Any]:
        """An array of one type as NumPy's, another as a list; both say how long they are."""
        marker = self._marker()
        kind = NUMBERS[self._marker()] if marker == ord("$") else None
        if (self._marker() if kind else marker) != ord("#"):
            raise ClimstackError(f"there is no length at byte {self.at}")
        n_items = self._length()
        if kind:
            start = self._skip(n_items * kind.itemsize)
            return np.frombuffer(self.raw, kind, n_items, start)
        if n_items > len(self.raw) or depth >= MAX_DEPTH:
            raise ClimstackError("an array is longer than the file, or nests too deep")
        return [self._value(depth + 1) for _ in range(n_items)]


def _check_model(document: Any, n_features: int) -> None:
    learner = document["learner"]
    booster, facts = learner["gradient_booster"], learner["learner_model_param"]
    model = booster["model"]
    names = (booster["name"], learner["objective"]["name"])
    check(names == ("gbtree", "reg:squarederror"), f"it is of another kind: {names}")
    wanted = {"num_feature": str(n_features), "num_target": "1", "num_class": "0"}
    _check_facts(facts, wanted)
    check(_is_finite(facts["base_score"].strip("[]")), f"base_score is {facts['base_score']!r}")
    trees = model["trees"]
    _check_facts(model["gbtree_model_param"], {"num_trees": str(len(trees))})
    _check_facts(model["gbtree_model_param"], {"num_parallel_tree": "1"})
    check(list(model["tree_info"]) == [0] * len(trees), "a tree is of another target")
    rounds = list(range(len(trees) + 1))
    check(len(trees) > 0 and list(model["iteration_indptr"]) == rounds, "its rounds are not trees")
    check(not any(map(len, model.get("cats", {}).values())), "it has categories")
    _check_trees(trees, n_features)


def _check_trees(trees: list[Any], n_features: int) -> None:
    n_nodes = np.array([len(tree["left_children"]) for tree in trees])
    check_range("number of nodes", n_nodes, 1, MAX_NODES)
    facts = {"num_feature": str(n_features), "num_deleted": "0", "size_leaf_vector": "1"}
    for number, tree in enumerate(trees):
        facts["num_nodes"] = str(n_nodes[number])
        _check_facts(tree["tree_param"], facts)
        if tree["id"] != number:
            raise ClimstackError(f"tree {number} has another number")
        for name, kind in ARRAYS.items():
            values = tree[name]
            if len(values) != n_nodes[number] or getattr(values, "dtype", None) != kind:
                raise ClimstackError(f"{name} of tree {number} is no array of its nodes")
        _check_words(tree, number)
    of_all = {name: np.concatenate([tree[name] for tree in trees]) for name in ARRAYS}
    check_range("split_index", of_all["split_indices"], 0, n_features)
    check_range("default_left", of_all["default_left"], 0, 2)
    check_range("split_type", of_all["split_type"], 0, 2)
    for name in ("split_conditions", "base_weights"):
        check(bool(np.isfinite(of_all[name]).all()), f"one of {name} is not finite")
    children = np.stack([of_all["left_children"], of_all["right_children"]], axis=1)
    children = children.astype(np.int64)
    is_leaf = (children == -1).all(1)
    start = np.cumsum(n_nodes) - n_nodes
    parents = np.arange(len(children)) - np.repeat(start, n_nodes)
    n_inner = np.add.reduceat(~is_leaf, start)
    check_forest(n_nodes, n_inner, parents[~is_leaf], children[~is_leaf])
    above = np.full(len(children), 2**31 - 1)
    below = children[~is_leaf] + np.repeat(start, n_nodes)[~is_leaf, None]
    above[below.ravel()] = np.repeat(parents[~is_leaf], 2)
    check(bool((of_all["parents"] == above).all()), "a node names another node as its parent")


def _check_words(tree: Mapping[str, Any], number: int) -> None:
    """See that the splits on words, and no others, have a list of them that is there."""
    words, nodes, segments, sizes = (np.asarray(tree[name], dtype=np.int64) for name in CATEGORIES)
    on_words = np.flatnonzero(tree["split_type"] == 1)
    right = np.array_equal(nodes, on_words) and len(segments) == len(sizes) == len(nodes)
    right = right and np.array_equal(segments, np.cumsum(sizes) - sizes)
    right = right and int(sizes.sum()) == len(words) and bool((sizes > 0).all())
    if not right:
        raise ClimstackError(f"tree {number} has other splits on words than lists of them")
    check_range("category", words, 0, MAX_WORD)


def _check_facts(facts: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    for name, value in wanted.items():
        if facts[name] != value:
            raise ClimstackError(f"{name} is {facts[name]!s:.40} instead of {value}")


def _is_finite(text: str) -> bool:
    return bool(np.isfinite(float(text)))
