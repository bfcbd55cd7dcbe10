"""A transformer encoder over the levels.

Source: Vaswani et al. (2017), arXiv 1706.03762, with the norm before each branch (Xiong et al.
2020, arXiv 2002.04745).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from features.core.settings import Bounded, Count, Rate, check
from models.seq2seq.architectures import LAPTOP
from models.seq2seq.layers import Attention, DropPath, drop_rates, feed_forward


@dataclass(frozen=True, kw_only=True)
class Config(Bounded):
    """Size of the network.

    Attributes:
        dim: width of a level's token.
        depth: number of blocks.
        n_heads: heads of the attention; divides dim.
        expansion: width of the feed-forward layers over dim.
        dropout: share of attention weights and of feed-forward outputs that is dropped.
        drop_path: rate of stochastic depth in the last block.
    """

    dim: Count = 128
    depth: Count = 5
    n_heads: Count = 4
    expansion: Count = 4
    dropout: Rate = 0.0
    drop_path: Rate = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.dim % self.n_heads == 0, f"n_heads {self.n_heads} must divide dim {self.dim}")


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 32, "depth": 2, "n_heads": 2, "expansion": 2},
    "laptop": {"dim": 128, "depth": 4, "n_heads": 4, "expansion": 2, "drop_path": 0.1}
    | LAPTOP
    | {"learning_rate": 1e-3},
    "gpu": {"dim": 512, "depth": 12, "n_heads": 8, "drop_path": 0.1, "epochs": 12},
}


class Block(nn.Module):
    """Attention of all levels to all levels, then a feed-forward layer for each."""

    def __init__(self, config: Config, drop_rate: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.n_heads, config.dropout)
        self.norm_mix = nn.LayerNorm(config.dim)
        self.mix = feed_forward(config.dim, config.expansion, config.dropout)
        self.drop = DropPath(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        tokens = tokens + self.drop(self.attention(self.norm_attention(tokens)))
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
        "dim": trial.suggest_categorical("dim", [64, 96, 128, 192]),
        "depth": trial.suggest_int("depth", 2, 8),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
        "drop_path": trial.suggest_float("drop_path", 0.0, 0.3),
    }
