"""A network from its description: architecture, settings and shape, all plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from features.core import registry
from models.seq2seq.layers import Network, Shape

PACKAGE = "models.seq2seq.architectures"


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What is needed to build a network again.

    Attributes:
        architecture: file name in ``models/seq2seq/architectures``.
        config: its ``Config``, as a table.
        shape: what it is built for.
        representations: of the inputs.
        soft_clip: of the inputs.
        confidence: whether it has a confidence head.
    """

    architecture: str
    config: dict[str, Any]
    shape: Shape
    representations: tuple[str, ...] = ("level",)
    soft_clip: float = 6.0
    confidence: bool = False

    def build(self) -> Network:
        """The network with new weights, drawn from torch's generator."""
        config = registry.load(PACKAGE, self.architecture, "Config", "architecture")(**self.config)
        build = registry.load(PACKAGE, self.architecture, "build", "architecture")
        body: nn.Module = build(config)
        return Network(
            self.shape,
            body,
            config.dim,
            representations=self.representations,
            soft_clip=self.soft_clip,
            confidence=self.confidence,
        )

    def to_table(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)
