"""Where a run keeps its files: the one place that spells their names, and sees them unchanged.

``checksums.json`` holds the SHA-256 of every file that a result is read from, but for those that
know themselves whether they are whole: ``run.json``, the fold plan, cells, stores and studies.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.core.errors import ClimstackError
from features.core.files import file_hash, read_json
from features.core.folders import refuse_links, remove_leftovers
from features.core.sealed import is_sealed, read_sealed, write_sealed

log = logging.getLogger(__name__)

SCHEMA = "schema.toml"  # what the resolved experiment calls it
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

    Example:
        >>> from pathlib import Path
        >>> RunFolder(Path("runs/first")).leaderboard.name
        'leaderboard.json'
    """

    path: Path

    lock = _Within(".lock")  # held by the process that writes here
    experiment = _Within("experiment.toml")  # resolved
    schema = _Within(SCHEMA)  # of the data, where the experiment names a file
    facts = _Within("run.json")  # versions, hashes, seeds, hardware, every stage
    checksums = _Within("checksums.json")  # of the files below that have a say in a result
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

    def read_facts(self, *, anew: bool = False) -> dict[str, Any]:
        """What ``run.json`` says; nothing where there is none. Whoever opens a run asks this first.

        Args:
            anew: begin without facts where they are damaged.

        Raises:
            ClimstackError: climstack 0.1 filled the folder, something in it is a link, or the facts
                are damaged.
        """
        refuse_links(self.path)
        if not self.facts.is_file():
            return {}
        try:
            facts: Any = read_json(self.facts)
        except ClimstackError:
            facts = None
        if isinstance(facts, dict) and isinstance(made := facts.get("versions"), dict):
            made_by = str(made.get("climstack", ""))
            if made_by.startswith(EARLIER):
                raise ClimstackError(
                    f"{self.path} was filled by climstack {made_by}, whose cells and stack have"
                    " other meanings: run its experiment again under another name"
                )
        if anew and not is_sealed(facts):
            log.warning("%s is damaged: stages done before are not known any more", self.facts)
            return {}
        return read_sealed(self.facts, "run the experiment again")

    def seal(self, *files: Path) -> None:
        """Note the checksums of files that were written."""
        known = {
            name: known for name, known in self._known().items() if (self.path / name).is_file()
        }
        new = {str(file.relative_to(self.path)): file_hash(file) for file in files}
        write_sealed(self.checksums, known | new)

    def is_whole(self, file: Path) -> bool:
        """Whether a file is there as it was sealed."""
        expected = self._known().get(str(file.relative_to(self.path)))
        return file.is_file() and file_hash(file) == expected

    def checked(self, file: Path) -> Path:
        """A file, once it is seen to be as it was sealed.

        Raises:
            ClimstackError: it is not there, or other than it was.
        """
        if not self.is_whole(file):
            found = "is damaged, was changed by hand or made by an earlier version"
            raise ClimstackError(
                f"{file} {found if file.exists() else 'is missing'}: run the stack again"
            )
        return file

    def sweep(self) -> None:
        """Delete the temporary folders that killed writers left."""
        for place in (self.path, *self.path.glob("*/"), *self.path.glob("*/*/")):
            remove_leftovers(place)

    def _known(self) -> dict[str, Any]:
        """Checksums by path; none where their file is damaged: then nothing is whole."""
        try:
            return read_sealed(self.checksums, "")
        except ClimstackError:
            return {}
