"""The stack of a run, in three walks over its held-out rows.

1. Moments, which all blends are solved from.
2. Scores of all contenders, which choose one.
3. Everything that the chosen one gives: outputs, errors by regime, intervals, the report's data.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from ensemble.evaluation.held_out import Collector, HeldOut
from ensemble.evaluation.leaderboard import Row, leaderboard
from ensemble.evaluation.moments import collect_moments
from ensemble.evaluation.outputs import Outputs
from ensemble.evaluation.regime_errors import RegimeErrors
from ensemble.evaluation.score_sums import ScoreSums
from ensemble.evaluation.scores import choose, evaluate
from ensemble.experiment.folder import RunFolder
from ensemble.stacking.candidate import Candidate
from ensemble.stacking.contender import Contender, fit_contenders
from ensemble.uncertainty.conformal import Conformal
from features.core.files import atomic_path
from features.core.types import Progress


@dataclass(frozen=True)
class Stacked:
    """Contenders with their scores.

    Attributes:
        held_out: rows and members.
        contenders: what competed.
        scores: of all of them.
    """

    held_out: HeldOut
    contenders: Sequence[Contender]
    scores: ScoreSums

    @cached_property
    def chosen(self) -> Contender:
        """What test rows get."""
        return choose(self.contenders, self.scores)

    def leaderboard(self) -> list[Row]:
        """See :func:`ensemble.evaluation.leaderboard.leaderboard`."""
        schema, members = self.held_out.data.store.schema, self.held_out.members
        return leaderboard(schema, members, self.contenders, self.scores, self.chosen)

    def save(self, folder: RunFolder) -> None:
        """Write blends, weights and scores; what was there of another blend is deleted.

        So are leaderboard, submission and report of an older blend: they would not be of this one.
        The blend for test rows comes last: with it the stack can be used.
        ``weights.parquet`` holds (target, member, weight, action).
        """
        hash_of = {member.spec.name: member.hash for member in self.held_out.members}
        hashes = [hash_of[name] for name in self.chosen.members]
        honest = self.chosen.honest
        final = replace(self.chosen.final, member_hashes=hashes)
        old = [folder.intervals, folder.uncertainty, folder.errors]
        if not folder.blend.is_file() or folder.blend.read_bytes() != final.text.encode():
            old += [folder.leaderboard, folder.submission, folder.report, folder.blend]
        for file in old:
            file.unlink(missing_ok=True)
        shutil.rmtree(folder.stack / "oof", ignore_errors=True)
        for file in folder.stack.glob("fold-*.json"):
            file.unlink()
        files = folder.honest(len(honest))
        for blend, file in zip(honest, files, strict=True):
            replace(blend, member_hashes=hashes).save(file)
        targets = self.held_out.data.store.schema.target_columns
        names = [targets[target] for target in final.targets]
        with atomic_path(folder.weights) as made:
            pl.DataFrame(
                {
                    "target": np.repeat(names, len(final.members)),
                    "member": final.members * len(names),
                    "weight": final.weights.T.ravel(),
                    "action": np.repeat(final.action, len(final.members)),
                }
            ).write_parquet(made)
        self.scores.save(folder.scores, targets)
        final.save(folder.blend)
        folder.seal(folder.moments, folder.weights, folder.scores, folder.blend, *files)

    def look_closer(
        self, folder: RunFolder, more: Sequence[Collector] = (), progress: Progress | None = None
    ) -> None:
        """Write what the chosen blend gives for held-out rows, how far off, and how sure it is.

        Args:
            folder: where the files go.
            more: what else wants to see the rows and the blend's outputs.
            progress: called with (what, rows done, rows in all).
        """
        held_out = replace(self.held_out, honest=self.chosen.honest)
        conformal, errors = Conformal(held_out, self.chosen.final), RegimeErrors(held_out)
        files = folder.outputs(held_out.data.plan.n_folds)
        with Outputs(held_out, files) as outputs:
            collectors: list[Collector] = [outputs, conformal, errors, *more]
            held_out.walk(*collectors, what="chosen blend", progress=progress)
        conformal.save(folder.intervals, folder.uncertainty)
        errors.save(folder.errors)
        folder.seal(folder.intervals, folder.uncertainty, folder.errors, *files)


def fit_stack(
    held_out: HeldOut,
    candidates: Sequence[Candidate],
    moments: Path | None = None,
    progress: Progress | None = None,
    metric: str | None = None,
) -> Stacked:
    """Solve all blends and score them.

    Args:
        held_out: rows and members.
        candidates: what competes, simplest first.
        moments: file that keeps the members' moments.
        progress: called with (what, done, total).
        metric: name of what scores are of; None: the schema's.
    """
    schema, members = held_out.data.store.schema, held_out.members
    found = collect_moments(held_out, moments, progress)
    contenders = fit_contenders(
        schema, members, found, candidates, progress, targets=held_out.targets
    )
    return Stacked(held_out, contenders, evaluate(held_out, contenders, progress, metric))
