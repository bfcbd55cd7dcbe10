"""Squeezeformer over the levels: attention, feed-forward, convolution, feed-forward.

Source: the block of Kim et al. (2022), arXiv 2206.00888, with the norm after each branch and
without its halving of the sequence, which 60 levels do not need. The first place of the LEAP
competition used such a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.core.settings import Bounded, Count, Rate, check
from models.seq2seq.architectures import LAPTOP
from models.seq2seq.layers import Attention, DepthwiseConv, DropPath, drop_rates, feed_forward


@dataclass(frozen=True, kw_only=True)
class Config(Bounded):
    """Size of the network.

    Attributes:
        dim: width of a level's token.
        depth: number of blocks.
        n_heads: heads of the attention; divides dim.
        kernel: levels that a filter spans, odd.
        expansion: width of the feed-forward layers over dim.
        dropout: share of attention weights and of feed-forward outputs that is dropped.
        drop_path: rate of stochastic depth in the last block.
    """

    dim: Count = 128
    depth: Count = 3
    n_heads: Count = 4
    kernel: Count = 15
    expansion: Count = 4
    dropout: Rate = 0.0
    drop_path: Rate = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.kernel % 2 == 1, f"kernel must be odd, but got {self.kernel}")
        check(self.dim % self.n_heads == 0, f"n_heads {self.n_heads} must divide dim {self.dim}")


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 32, "depth": 1, "n_heads": 2, "kernel": 5, "expansion": 2},
    "laptop": {"dim": 128, "depth": 3, "n_heads": 4, "expansion": 2, "drop_path": 0.1}
    | LAPTOP
    | {"learning_rate": 1e-3},
    "gpu": {"dim": 384, "depth": 12, "n_heads": 6, "drop_path": 0.1, "epochs": 12},
}


class Scaled(nn.Module):
    """A learned scale and shift per channel in front of a branch."""

    def __init__(self, dim: int, branch: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))
        self.branch = branch

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        out: Tensor = self.branch(tokens * self.scale + self.shift)
        return out


class Convolution(nn.Module):
    """Gate, filter along the levels, norm, Swish, mix."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, 2 * dim)
        self.filter = DepthwiseConv(dim, kernel)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        filtered = self.filter(functional.glu(self.gate(tokens), dim=-1))
        out: Tensor = self.out(functional.silu(self.norm(filtered)))
        return out


class Block(nn.Module):
    """Four residual branches, each followed by a norm."""

    def __init__(self, config: Config, drop_rate: float) -> None:
        super().__init__()
        dim = config.dim
        branches = (
            Attention(dim, config.n_heads, config.dropout),
            feed_forward(dim, config.expansion, config.dropout),
            Convolution(dim, config.kernel),
            feed_forward(dim, config.expansion, config.dropout),
        )
        self.branches = nn.ModuleList(Scaled(dim, branch) for branch in branches)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in branches)
        self.drop = DropPath(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        for branch, norm in zip(self.branches, self.norms, strict=True):
            tokens = norm(tokens + self.drop(branch(tokens)))
        return tokens


def build(config: Config) -> nn.Module:
    """The body: blocks one after the other."""
    return nn.Sequential(
        *(Block(config, rate) for rate in drop_rates(config.drop_path, config.depth))
    )


def search_space(trial: Any) -> dict[str, Any]:
    """Parameters worth searching."""
    return {
        "dim": trial.suggest_categorical("dim", [64, 96, 128, 192]),
        "depth": trial.suggest_int("depth", 2, 6),
        "kernel": trial.suggest_int("kernel", 5, 31, step=2),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
    }
