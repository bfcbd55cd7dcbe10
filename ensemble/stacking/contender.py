"""Everything that competes for the submission: each member alone, and every blend of them all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ensemble.stacking.blend import FEWEST, MEAN, ZERO, Blend, fit_blend, learnable
from ensemble.stacking.candidate import Candidate
from ensemble.stacking.moments import Moments
from features.core.types import Progress, Rows
from features.schemas.schema import Schema
from models.member import Member

SAME = 1e-9  # weights closer than this are equal


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A member or a blend, learned once for each fold and once for test rows.

    Attributes:
        name: on the leaderboard.
        members: names of the members in it.
        honest: one blend per fold, learned from the other folds.
        final: the blend learned from all folds.
        same_as: names of other blends that came out the same.

    Example:
        >>> contenders[0].name, contenders[0].members
        ('ridge', ['ridge'])
    """

    name: str
    members: list[str]
    honest: list[Blend]
    final: Blend
    same_as: list[str] = field(default_factory=list)

    @property
    def is_blend(self) -> bool:
        """Whether it blends several members."""
        return len(self.members) > 1

    def coincides(self, other: Contender) -> bool:
        """Whether it does the same to every target in every fold, up to rounding."""
        pairs = zip([*self.honest, self.final], [*other.honest, other.final], strict=True)
        return self.members == other.members and all(_alike(a, b) for a, b in pairs)


def fit_contenders(
    schema: Schema,
    members: Sequence[Member],
    moments: Moments,
    candidates: Sequence[Candidate],
    progress: Progress | None = None,
    targets: Rows | None = None,
) -> list[Contender]:
    """Blends for every member alone and for every candidate on all members.

    Of blends that coincide the first is kept, the simplest; its ``same_as`` names the others.

    Args:
        schema: of the targets.
        members: what is blended.
        moments: of the members, from :func:`ensemble.evaluation.moments.collect_moments`.
        candidates: what competes, simplest first.
        progress: called with (what, done, total).
        targets: indices of the modelled targets, (n_modelled,); None: those of the first member.

    Example:
        >>> from ensemble import candidates
        >>> blends = candidates(["nnls"], ["target"])
        >>> [each.name for each in fit_contenders(store.schema, members, moments, blends)]
        ['ridge', 'trees', 'nnls/target']
    """
    targets = members[0].targets if targets is None else targets
    _warn_of_rare(schema, targets, moments)
    alone = Candidate("mean", "all")
    wanted = [([i], member.spec.name, alone) for i, member in enumerate(members)]
    if len(members) > 1:
        wanted += [(list(range(len(members))), each.name, each) for each in candidates]
    contenders: list[Contender] = []
    for done, (of, name, candidate) in enumerate(wanted):
        if progress is not None:
            progress("blend", done, len(wanted))
        own, names = moments.members(of), [members[i].spec.name for i in of]
        honest, final = (
            [fit_blend(schema, names, targets, candidate, part) for part in parts]
            for parts in ([own.without(fold) for fold in own.fold_names], [own])
        )
        found = Contender(name=name, members=names, honest=honest, final=final[0])
        twin = next((each for each in contenders if each.coincides(found)), None)
        if twin is None:
            contenders.append(found)
        else:
            twin.same_as.append(name)
    if progress is not None:
        progress("blend", len(wanted), len(wanted))
    return contenders


def _alike(one: Blend, other: Blend) -> bool:
    if one.action != other.action:
        return False
    used = ~np.isin(one.action, (MEAN, ZERO))
    return np.allclose(one.weights[:, used], other.weights[:, used], rtol=0, atol=SAME)


def _warn_of_rare(schema: Schema, targets: Rows, moments: Moments) -> None:
    """Name the targets that some blend can't be learned for, for want of truths."""
    parts = [moments, *(moments.without(fold) for fold in moments.fold_names)]
    rare = np.flatnonzero(~np.all([learnable(part) for part in parts], axis=0))
    if len(rare):
        names = ", ".join(schema.target_columns[target] for target in targets[rare[:5]])
        more = f" and {len(rare) - 5} others" if len(rare) > 5 else ""
        warnings.warn(
            f"{names}{more}: fewer than {FEWEST} truths in some folds, so their training mean is"
            " used where no blend can be learned",
            stacklevel=3,
        )
