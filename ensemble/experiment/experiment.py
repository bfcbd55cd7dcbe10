"""An experiment: one TOML file, validated before anything starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from annotated_types import Interval

from ensemble.experiment.folder import SCHEMA
from ensemble.experiment.models import check_targets, read_models, resolved
from ensemble.experiment.text import expand, table_of
from ensemble.stacking.candidate import POOLINGS, Candidate, Pooling, candidates, load_blender
from features.core.errors import ClimstackError, closest
from features.core.files import read_toml
from features.core.settings import Bounded, check, from_table, without_none
from features.folds.enrichment import Auxiliary
from features.folds.making import Wanted
from features.schemas.known import is_file, load_schema
from features.schemas.schema import Schema
from features.scoring.metric import Metric, load_metric
from models.spec import ModelSpec

Seed = Annotated[int, Interval(ge=0, lt=2**31)]
PATHS = ("train", "test", "sample_submission", "grid")  # of [data]
PARTS = ("data", "folds", "stack", "score")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """``[data]``: where rows come from.

    Paths are relative to the experiment's file; ``${NAME}`` is taken from the environment.

    Attributes:
        train: CSV, Parquet or store with targets.
        test: CSV, Parquet or store to predict; None leaves the submission out.
        sample_submission: file whose ids and row order the submission takes.
        schema: name of the schema, its file (``.toml``), or the schema itself.
        grid_columns: rows per timestep; None takes the schema's.
        grid: grid file to keep with the store that is made of a table ``train``.
        ignore: columns of tables that may be there and are not read; ``*`` and ``?`` stand for
            other characters.
        auxiliary: sources that train and never validate: sources of the training store by name or,
            where ``train`` is a table, further files or folders that are converted with it.

    Example:
        >>> DataSettings(train="train.csv", test="test.csv", schema="leap").ignore
        ()
    """

    train: str
    test: str | None = None
    sample_submission: str | None = None
    schema: str | Schema = "leap"
    grid_columns: int | None = None
    grid: str | None = None
    ignore: tuple[str, ...] = ()
    auxiliary: tuple[Auxiliary, ...] = ()

    def __post_init__(self) -> None:
        load_schema(self.schema)
        check(
            self.grid_columns is None or self.grid_columns >= 1,
            f"grid_columns must be at least 1, but got {self.grid_columns}",
        )
        check(
            self.grid is None or not (Path(self.train) / "manifest.json").is_file(),
            f"grid is for tables, but train is the store {self.train}: remove grid, and convert"
            " with --grid",
        )


@dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """``[folds]``: who validates whom.

    Attributes:
        scheme: see :mod:`features.folds.making`; None takes ``time_blocks`` where the rows' time is
            known, else ``groups`` where they have a group, else ``kfold``.
        n_folds: number of folds; ``column`` and ``file`` count their own.
        embargo: units kept free around a validation block, where there are any.
        by: column of an input or a target, for ``stratified``.
        file: CSV or Parquet of ids and folds, for ``file``; relative to the experiment's file.

    Example:
        >>> FoldSettings(scheme="groups", n_folds=4).n_folds
        4
    """

    scheme: str | None = None
    n_folds: int = 5
    embargo: int = 1
    by: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        self.wanted(0)
        check(self.n_folds >= 3, f"n_folds must be at least 3 to stack, but got {self.n_folds}")
        check(self.embargo >= 0, f"embargo must be at least 0, but got {self.embargo}")

    def wanted(self, seed: int) -> Wanted:
        """The same, with a seed."""
        return Wanted(**asdict(self), seed=seed)


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """``[stack]``: which blends compete, and what predicts test rows.

    Attributes:
        blenders: file names in ``ensemble/stacking/blenders``.
        pooling: what shares weights: all targets, a group, none; or shrunk, between those two.
        refit: models that predict test rows with one fit on all rows, instead of the mean of their
            folds' models.
        compare: folders of other runs on the same rows that the leaderboard shows, too.

    Example:
        >>> [blend.name for blend in StackSettings(blenders=("mean",)).candidates]
        ['mean']
    """

    blenders: tuple[str, ...] = ("mean", "best", "simplex", "nnls")
    pooling: tuple[str, ...] = ("group", "shrunk", "target")
    refit: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.blenders:
            load_blender(name)
        for each in self.pooling:
            check(each in POOLINGS, f"pooling '{each}' is unknown: {closest(each, POOLINGS)}")
        twice = [name for name in self.blenders if self.blenders.count(name) > 1]
        check(not twice, f"names the blender '{twice[0] if twice else ''}' twice: remove one")
        check(bool(self.blenders and self.pooling), "needs at least one blender and one pooling")

    @property
    def candidates(self) -> list[Candidate]:
        """The blends that compete, simplest first."""
        poolings: list[Pooling] = [each for each in POOLINGS if each in self.pooling]
        return candidates(self.blenders, poolings)


@dataclass(frozen=True)
class ScoreSettings:
    """``[score]``: what models and blends are compared by.

    Attributes:
        metric: a file name in ``features/scoring/metrics``; None takes the schema's.
    """

    metric: str | None = None

    def __post_init__(self) -> None:
        if self.metric is not None:
            load_metric(self.metric)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a run depends on.

    Attributes:
        name: the run's folder is ``runs/NAME``.
        data: where rows come from.
        models: the base learners, with unique names.
        folds: who validates whom.
        stack: how members are blended.
        score: what they are compared by.
        seed: of the fold plan, and of the models that set none.
        search: search ranges for tuning, by model and parameter, instead of the families' own.

    Example:
        >>> from models import ModelSpec
        >>> ridge = ModelSpec(name="ridge", family="ridge")
        >>> data = DataSettings(train="train.parquet", schema="toy.toml")
        >>> Experiment(name="mine", data=data, models=(ridge,)).folds.n_folds
        5
    """

    name: str
    data: DataSettings
    models: tuple[ModelSpec, ...]
    folds: FoldSettings = field(default_factory=FoldSettings)
    stack: StackSettings = field(default_factory=StackSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    seed: int = 0
    search: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(
            bool(NAME.fullmatch(self.name)),
            f"name {self.name!r} must be letters, digits, '.', '_' and '-': it names a folder",
        )
        check(len(self.models) > 0, "the experiment has no [[models]]: add at least one")
        names = [spec.name for spec in self.models]
        twice = [name for name in names if names.count(name) > 1]
        check(not twice, f"two models are called '{twice[0] if twice else ''}': rename one")
        for name in names:
            check(
                bool(NAME.fullmatch(name)),
                f"model name {name!r} must be letters, digits, '.', '_' and '-'",
            )
        for name in self.stack.refit:
            check(name in names, f"[stack] refit names no model '{name}': {closest(name, names)}")
            check(
                self.model(name).external is None,
                f"[stack] refit names '{name}', which was fitted elsewhere: remove it",
            )
            check(
                not self.model(name).inputs_from,
                f"[stack] refit names '{name}', which builds on other models: its training rows"
                " need their out-of-fold predictions, so leave it to its folds' models",
            )
        for spec in self.models:
            check_targets(spec, self.schema)
        for blend in self.stack.candidates:
            check(blend.name not in names, f"a model may not be called '{blend.name}' like a blend")

    @cached_property
    def schema(self) -> Schema:
        """What the columns of the data mean."""
        return load_schema(self.data.schema)

    @cached_property
    def metric(self) -> Metric:
        """What scores are of: ``[score] metric``, else the schema's."""
        return load_metric(self.score.metric or self.schema.metric)

    def model(self, name: str) -> ModelSpec:
        """A base learner by its name.

        Raises:
            ClimstackError: no such model.
        """
        for spec in self.models:
            if spec.name == name:
                return spec
        known = [spec.name for spec in self.models]
        raise ClimstackError(
            f"experiment {self.name} has no model '{name}': {closest(name, known)}"
        )

    def to_toml(self) -> str:
        """The resolved experiment: absolute paths, every parameter spelled out."""
        table: dict[str, Any] = {"name": self.name, "seed": self.seed}
        table |= {part: asdict(getattr(self, part)) for part in PARTS}
        named = isinstance(self.data.schema, str) and not is_file(self.data.schema)
        table["data"]["schema"] = self.data.schema if named else SCHEMA
        paths = {key: table["data"][key] for key in PATHS if table["data"][key] is not None}
        table["data"] |= {key: os.path.realpath(path) for key, path in paths.items()}
        if self.folds.file is not None:
            table["folds"]["file"] = os.path.realpath(self.folds.file)
        models = []
        for spec in self.models:
            own: dict[str, Any] = {"name": spec.name, "family": spec.family, "seed": spec.seed}
            own["targets"] = list(spec.targets) or None
            own["inputs_from"] = [base.name for base in spec.inputs_from] or None
            if spec.external is not None:
                own |= resolved(spec, self.schema)
            else:
                own |= {"params": asdict(spec.parsed), "search": self.search.get(spec.name)}
            models.append(own | {"variants": [vars(variant) for variant in spec.variants] or None})
        return tomli_w.dumps(without_none(table | {"models": models}))


def load_experiment(path: str | Path, *, tuned: bool = True) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: the file.
        tuned: take parameters from the files that ``tuned`` names; without, as they were before.

    Raises:
        ClimstackError: no such file, not TOML, an unknown or missing setting, a bad value, or an
            environment variable that is not set.

    Example:
        >>> [spec.name for spec in load_experiment("first.toml").models]
        ['ridge', 'trees']
    """
    path = Path(path)
    if not path.is_file():
        raise ClimstackError(f"no experiment file {path}: give a .toml file")
    table = read_toml(path)
    try:
        return experiment_from_table(table, path.parent, tuned=tuned)
    except ClimstackError as error:
        raise ClimstackError(f"{path}: {error}") from None


def experiment_from_table(
    table: Mapping[str, Any], folder: Path, *, tuned: bool = True
) -> Experiment:
    """Build an experiment from a table as TOML gives it; paths are relative to ``folder``.

    Raises:
        ClimstackError: see :func:`load_experiment`.
    """
    table = dict(table)
    known = [part.name for part in fields(Experiment)]
    for key in table:
        check(key in known, f"the experiment has no setting {key!r}: {closest(key, known)}")
    own: dict[str, Any] = {key: table.pop(key) for key in ("name", "seed") if key in table}
    top = from_table(_TopTable, own, "the experiment")
    data = dict(table_of(table.pop("data", {}), "[data]"))
    for key in PATHS:
        if isinstance(data.get(key), str):
            data[key] = os.path.realpath(folder / expand(data[key], f"[data] {key}"))
    if isinstance(data.get("schema"), str) and is_file(data["schema"]):
        data["schema"] = os.path.realpath(folder / expand(data["schema"], "[data] schema"))
    check("extra" not in data, "[[data.extra]] is called [[data.auxiliary]] now: rename it")
    auxiliaries = _auxiliaries(data.pop("auxiliary", []), folder, str(data.get("train", "")))
    settings = from_table(DataSettings, data, "[data]")
    parts: dict[str, Any] = {"data": replace(settings, auxiliary=auxiliaries)}
    stack = dict(table_of(table.pop("stack", {}), "[stack]"))
    check("levels" not in stack, "[stack] levels is called pooling now: rename it")
    if isinstance(stack.get("compare"), list):
        stack["compare"] = [
            os.path.realpath(folder / expand(str(path), "[stack] compare"))
            for path in stack["compare"]
        ]
    parts["stack"] = from_table(StackSettings, stack, "[stack]")
    score = table_of(table.pop("score", {}), "[score]")
    parts["score"] = from_table(ScoreSettings, score, "[score]")
    folds = dict(table_of(table.pop("folds", {}), "[folds]"))
    if isinstance(folds.get("file"), str):
        folds["file"] = os.path.realpath(folder / expand(folds["file"], "[folds] file"))
    parts["folds"] = from_table(FoldSettings, folds, "[folds]")
    models = table.pop("models", [])
    check(isinstance(models, list), "models must be a list of [[models]] tables")
    specs, search = read_models(models, folder, seed=top.seed, tuned=tuned)
    return Experiment(name=top.name, seed=top.seed, models=specs, search=search, **parts)


@dataclass(frozen=True)
class _TopTable(Bounded):
    name: str
    seed: Seed = 0


def _auxiliaries(tables: Any, folder: Path, train: str) -> tuple[Auxiliary, ...]:
    """``[[data.auxiliary]]``: names of a store's sources, or files and folders beside a table."""
    check(isinstance(tables, list), "[data] auxiliary must be [[data.auxiliary]] tables")
    in_store = (Path(train) / "manifest.json").is_file()
    found = []
    for position, table in enumerate(tables):
        where = f"[[data.auxiliary]] number {position + 1}"
        each = from_table(Auxiliary, table_of(table, where), where)
        path = os.path.realpath(folder / expand(each.source, where))
        check(
            not in_store or Path(each.source).name == each.source,
            f"{where} source '{each.source}' is a path, but {train} is a store: give the name of"
            " one of its sources",
        )
        found.append(each if in_store else replace(each, source=path))
    return tuple(found)
