"""ConvNeXt along the levels: wide depthwise filters, then a feed-forward layer for each level.

Source: the block of Liu et al. (2022), arXiv 2201.03545, in one dimension and without downsampling,
as the fourth place of the LEAP competition used it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from features.core.settings import Bounded, Count, Rate, check
from models.seq2seq.architectures import LAPTOP
from models.seq2seq.layers import DepthwiseConv, DropPath, drop_rates, feed_forward


@dataclass(frozen=True, kw_only=True)
class Config(Bounded):
    """Size of the network.

    Attributes:
        dim: width of a level's token.
        depth: number of blocks.
        kernel: levels that a filter spans, odd.
        expansion: width of the feed-forward layers over dim.
        dropout: share of a block's output that is dropped.
        drop_path: rate of stochastic depth in the last block.
    """

    dim: Count = 128
    depth: Count = 7
    kernel: Count = 7
    expansion: Count = 4
    dropout: Rate = 0.0
    drop_path: Rate = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.kernel % 2 == 1, f"kernel must be odd, but got {self.kernel}")


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 32, "depth": 4, "kernel": 9, "expansion": 2},
    "laptop": {"dim": 128, "depth": 7, "expansion": 2, "drop_path": 0.1} | LAPTOP,
    "gpu": {"dim": 512, "depth": 12, "expansion": 4, "drop_path": 0.1, "epochs": 12},
}


class Block(nn.Module):
    """Depthwise filter and feed-forward layer on a residual branch, scaled per channel."""

    def __init__(self, config: Config, drop_rate: float) -> None:
        super().__init__()
        self.filter = DepthwiseConv(config.dim, config.kernel)
        self.norm = nn.LayerNorm(config.dim)
        self.mix = feed_forward(config.dim, config.expansion, config.dropout)
        self.scale = nn.Parameter(torch.full((config.dim,), 0.1))
        self.drop = DropPath(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        branch = self.mix(self.norm(self.filter(tokens)))
        out: Tensor = tokens + self.drop(self.scale * branch)
        return out


def build(config: Config) -> nn.Module:
    """The body: blocks one after the other."""
    return nn.Sequential(
        *(Block(config, rate) for rate in drop_rates(config.drop_path, config.depth))
    )


def search_space(trial: Any) -> dict[str, Any]:
    """Parameters worth searching."""
    return {
        "dim": trial.suggest_categorical("dim", [64, 96, 128, 192]),
        "depth": trial.suggest_int("depth", 4, 10),
        "kernel": trial.suggest_int("kernel", 3, 15, step=2),
        "drop_path": trial.suggest_float("drop_path", 0.0, 0.3),
    }
