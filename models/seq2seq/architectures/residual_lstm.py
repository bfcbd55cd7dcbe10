"""Bidirectional LSTM layers over the levels, each on a residual branch.

Source: the second place of the LEAP competition stacked such layers; the cell is Hochreiter and
Schmidhuber (1997).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor, nn

from features.core.settings import Bounded, Count, Rate, check
from models.seq2seq.architectures import LAPTOP
from models.seq2seq.layers import DropPath, drop_rates, feed_forward


@dataclass(frozen=True, kw_only=True)
class Config(Bounded):
    """Size of the network.

    Attributes:
        dim: width of a level's token, half of it for each direction; even.
        depth: number of blocks.
        expansion: width of the feed-forward layers over dim.
        dropout: share of a block's output that is dropped.
        drop_path: rate of stochastic depth in the last block.
    """

    dim: Annotated[int, Ge(2)] = 128
    depth: Count = 3
    expansion: Count = 2
    dropout: Rate = 0.0
    drop_path: Rate = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.dim % 2 == 0, f"dim must be even, but got {self.dim}")


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 32, "depth": 1},
    "laptop": {"dim": 160, "depth": 2, "drop_path": 0.1} | LAPTOP,
    "gpu": {"dim": 768, "depth": 6, "drop_path": 0.1, "epochs": 12},
}


class Block(nn.Module):
    """Both directions of an LSTM, then a feed-forward layer for each level."""

    def __init__(self, config: Config, drop_rate: float) -> None:
        super().__init__()
        self.norm_lstm = nn.LayerNorm(config.dim)
        self.lstm = nn.LSTM(config.dim, config.dim // 2, batch_first=True, bidirectional=True)
        self.norm_mix = nn.LayerNorm(config.dim)
        self.mix = feed_forward(config.dim, config.expansion, config.dropout)
        self.drop = DropPath(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        tokens = tokens + self.drop(self.lstm(self.norm_lstm(tokens))[0])
        out: Tensor = tokens + self.drop(self.mix(self.norm_mix(tokens)))
        return out


def build(config: Config) -> nn.Module:
    """The body: blocks one after the other."""
    return nn.Sequential(
        *(Block(config, rate) for rate in drop_rates(config.drop_path, config.depth))
    )


def search_space(trial: Any) -> dict[str, Any]:
    """Parameters worth searching."""
    return {
        "dim": trial.suggest_categorical("dim", [96, 128, 160, 224]),
        "depth": trial.suggest_int("depth", 1, 4),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
    }
