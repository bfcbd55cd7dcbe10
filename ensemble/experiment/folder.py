"""Where a run keeps its files: the one place that spells their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.core.errors import ClimstackError
from features.core.files import read_json

EARLIER = "0.1."  # versions whose cells and stacks have other names and other meanings


class _Within:
    """A path in a run's folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, owner: type[RunFolder]) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The folder that an experiment fills, ``runs/NAME``.

    Attributes:
        path: of the folder.
    """

    path: Path

    lock = _Within(".lock")  # held by the process that writes here
    experiment = _Within("experiment.toml")  # resolved
    facts = _Within("run.json")  # versions, hashes, seeds, hardware, every stage
    folds = _Within("folds.parquet")
    cells = _Within("cells")  # see models.oof
    stores = _Within("store")  # made of tables
    train_store = _Within("store/train")
    stack = _Within("stack")  # what is learned from out-of-fold predictions:
    moments = _Within("stack/moments.npz")
    blend = _Within("stack/blend.json")  # for test rows
    weights = _Within("stack/weights.parquet")  # the same as a table
    scores = _Within("stack/scores.parquet")  # the sums behind every score
    errors = _Within("stack/errors.parquet")  # by target and regime
    intervals = _Within("stack/intervals.npz")  # what turns predictions into intervals
    uncertainty = _Within("stack/uncertainty.parquet")  # how often they hold, by target
    leaderboard = _Within("leaderboard.json")
    submission = _Within("submission.parquet")
    report = _Within("report.html")

    def test_store(self, source_hash: str = "") -> Path:
        """The experiment's test rows, or those of another source."""
        return self.stores / ("test" if not source_hash else f"test-{source_hash}")

    def importance(self, model: str) -> Path:
        """Which inputs a model's trees split on."""
        return self.path / "importance" / f"{model}.parquet"

    def honest(self, n_folds: int) -> list[Path]:
        """For each fold the blend that scored it."""
        return [self.stack / f"fold-{fold}.json" for fold in range(n_folds)]

    def outputs(self, n_folds: int) -> list[Path]:
        """For each fold what its honest blend gave."""
        return [self.stack / "oof" / f"fold-{fold}.npy" for fold in range(n_folds)]

    def read_facts(self) -> dict[str, Any]:
        """What ``run.json`` says; nothing where there is none.

        Raises:
            ClimstackError: climstack 0.1 filled the folder.
        """
        facts: dict[str, Any] = read_json(self.facts) if self.facts.is_file() else {}
        made_by = str(facts.get("versions", {}).get("climstack", ""))
        if made_by.startswith(EARLIER):
            raise ClimstackError(
                f"{self.path} was filled by climstack {made_by}, whose cells and stack have other"
                " meanings: run its experiment again under another name"
            )
        return facts
