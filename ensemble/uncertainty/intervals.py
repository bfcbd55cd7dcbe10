"""Prediction intervals: the blend, plus and minus its expected error times a calibrated factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.stacking.blend import Blend
from ensemble.uncertainty.difficulty import SIGNS, Difficulty, signs_of_difficulty
from features.core.errors import ClimstackError
from features.core.files import atomic_path, content_hash
from features.core.types import Array

ROUNDING = 1e-9  # relative: a truth this close to an end of its interval lies within


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """What turns predictions into intervals.

    Attributes:
        confidence: the wanted coverage.
        blend: which blend they were calibrated for, from :func:`identity`.
        members: whose spread tells how hard a row is: those with a say in the blend.
        heads: members whose confidence heads tell it.
        targets: names of the modelled targets, length n_modelled.
        difficulty: expected absolute error of each row and target.
        factor: (n_modelled,), what the expected error is multiplied by; infinite where the wanted
            coverage takes the whole range of the truth.

    Example:
        >>> from pathlib import Path
        >>> found = Intervals.load(Path("runs/first/stack/intervals.npz"))
        >>> found.confidence, found.targets
        (0.9, ['warmth_1', 'warmth_2', 'flux'])
    """

    confidence: float
    blend: str
    members: list[str]
    heads: list[str]
    targets: list[str]
    difficulty: Difficulty
    factor: Array

    def apply(
        self,
        blend: Blend,
        outputs: Array,
        predictions: Mapping[str, Array],
        heads: Mapping[str, Array],
        inputs: Array,
    ) -> tuple[Array, Array]:
        """Intervals of rows, clipped to the blend's bounds; the outputs always lie within.

        Targets that a rule gives, and those of weight 0, have intervals of one point.

        Args:
            blend: that made the outputs: its range of the truth and its rules bound the intervals.
            outputs: final outputs, (n_samples, n_targets).
            predictions: of each member named in :attr:`members`, (n_samples, n_modelled).
            heads: expected absolute errors of each member named in :attr:`heads`, same shape.
            inputs: (n_samples, n_inputs), for the lower bounds.

        Returns:
            Lower and upper ends, (n_samples, n_targets) each, physical units.

        Raises:
            ClimstackError: the blend has other targets, or a member's predictions are missing.
        """
        columns = blend.schema.target_columns
        if [columns[target] for target in blend.targets] != self.targets:
            raise ClimstackError("these intervals belong to another blend: run the stack again")
        for name, given in [(n, predictions) for n in self.members] + [
            (n, heads) for n in self.heads
        ]:
            if name not in given:
                raise ClimstackError(
                    f"the intervals need predictions of member '{name}', got {sorted(given)}"
                )
        signs = signs_of_difficulty(blend, outputs, predictions, heads, self.members)
        expected = self.difficulty.expected(signs)
        return interval_ends(blend, outputs, half_width(expected, self.factor), inputs)

    def require(self, blend: Blend) -> None:
        """See that they were calibrated for the blend whose final blend this is.

        Raises:
            ClimstackError: they were made with another one.
        """
        if identity(blend) != self.blend:
            raise ClimstackError(
                f"the intervals were made with another blend than {blend.blender}: run the stack"
                " again"
            )

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file; numbers come back to the bit."""
        with atomic_path(path) as made, made.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                confidence=np.array(self.confidence),
                blend=np.array(self.blend),
                members=np.array(self.members, dtype=np.str_),
                heads=np.array(self.heads, dtype=np.str_),
                targets=np.array(self.targets, dtype=np.str_),
                signs=np.array(SIGNS),
                weights=self.difficulty.weights,
                floor=self.difficulty.floor,
                factor=self.factor,
            )

    @classmethod
    def load(cls, path: Path) -> Intervals:
        """Read them back.

        Raises:
            ClimstackError: there are none, or the file is damaged.
        """
        if not path.is_file():
            raise ClimstackError(f"no intervals {path}: run the stack again")
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls(
                    confidence=float(held["confidence"]),
                    blend=str(held["blend"]),
                    members=held["members"].tolist(),
                    heads=held["heads"].tolist(),
                    targets=held["targets"].tolist(),
                    difficulty=Difficulty(held["weights"], held["floor"]),
                    factor=held["factor"],
                )
        except Exception:
            raise ClimstackError(f"{path} is damaged: run the stack again") from None


def identity(blend: Blend) -> str:
    """SHA-256 of what a blend does to its members' predictions."""
    numbers = [blend.weights.tolist(), blend.intercept.tolist(), blend.targets.tolist()]
    return content_hash([blend.blender, blend.members, blend.action, *numbers])


def half_width(expected: Array, factor: Array) -> Array:
    """Expected errors (n, n_modelled) times factors (n_modelled,); infinite factors stay so."""
    finite = np.isfinite(factor)
    half: Array = np.where(finite, expected * np.where(finite, factor, 0.0), np.inf)
    return half


def interval_ends(blend: Blend, outputs: Array, half: Array, inputs: Array) -> tuple[Array, Array]:
    """The outputs plus and minus ``half`` (n, n_modelled), within the blend's bounds."""
    bounds = bounds_of_truth(blend, outputs, inputs)
    centre = outputs[:, blend.targets]
    low, high = outputs.copy(), outputs.copy()
    low[:, blend.targets] = np.maximum(centre - half, bounds[0])
    high[:, blend.targets] = np.minimum(centre + half, bounds[1])
    return low, high


def bounds_of_truth(blend: Blend, outputs: Array, inputs: Array) -> tuple[Array, Array]:
    """Where the truth may lie, (n, n_modelled) each: the range seen, and no lower than its rule.

    Widened where the blend itself lies outside, as it does where a rule leaves the range seen.
    """
    centre = outputs[:, blend.targets]
    rule = np.full_like(outputs, -np.inf)
    bounded, bound = blend.schema.closed_form("lower_bound", inputs)
    rule[:, bounded] = bound
    low = np.minimum(np.maximum(blend.low, rule[:, blend.targets]), centre)
    return low, np.maximum(blend.high, centre)


def scores(blend: Blend, outputs: Array, expected: Array, inputs: Array, truth: Array) -> Array:
    """Absolute residuals over expected errors, (n, n_modelled): what calibration counts.

    0 where the truth is met; infinite where it lies outside the blend's bounds, or where no error
    was expected; NaN where the truth is missing.
    """
    y, centre = truth[:, blend.targets], outputs[:, blend.targets]
    residual = np.abs(y - centre)
    low, high = bounds_of_truth(blend, outputs, inputs)
    slack = ROUNDING * np.abs(y)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = residual / expected
    ratio[(y < low - slack) | (y > high + slack)] = np.inf
    ratio[residual == 0] = 0.0
    return ratio


def covered(low: Array, high: Array, truth: Array) -> Array:
    """1 where the truth lies within, up to rounding, else 0; float, of the arrays' shape."""
    slack = ROUNDING * np.abs(truth)
    return ((truth >= low - slack) & (truth <= high + slack)).astype(np.float64)
