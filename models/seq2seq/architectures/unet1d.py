"""A U-Net along the levels: halve the column twice, widen, and come back with what was skipped.

Source: Ronneberger et al. (2015), arXiv 1505.04597, in one dimension with residual blocks; the
third and fourth place of the LEAP competition used such networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional

from features.core.settings import Bounded, Count, Rate, check
from models.seq2seq.architectures import LAPTOP


@dataclass(frozen=True, kw_only=True)
class Config(Bounded):
    """Size of the network.

    Attributes:
        dim: width of a level's token at full length; times 1.5 after each halving.
        depth: residual blocks at each length, on the way down and on the way up.
        n_halvings: how often the column is halved.
        kernel: levels that a filter spans, odd.
        dropout: share of a block's output that is dropped.
    """

    dim: Annotated[int, Ge(2)] = 128
    depth: Count = 1
    n_halvings: Annotated[int, Interval(ge=1, le=5)] = 2
    kernel: Count = 3
    dropout: Rate = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.kernel % 2 == 1, f"kernel must be odd, but got {self.kernel}")

    @property
    def dims(self) -> list[int]:
        """Width at each length, the full one first."""
        return [int(self.dim * 1.5**i) for i in range(self.n_halvings + 1)]


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 24, "depth": 1},
    "laptop": {"dim": 128, "depth": 1} | LAPTOP,
    "gpu": {"dim": 320, "depth": 3, "epochs": 12},
}


class Convolution(nn.Module):
    """A dense filter along the levels, as one matrix product over windows."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.linear = nn.Linear(kernel * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        half, n_levels = self.kernel // 2, tokens.shape[1]
        padded = functional.pad(tokens, (0, 0, half, half))
        windows = [padded[:, i : i + n_levels] for i in range(self.kernel)]
        out: Tensor = self.linear(torch.cat(windows, dim=-1))  # (..., kernel * dim) -> (..., dim)
        return out


class Block(nn.Module):
    """Two filters on a residual branch."""

    def __init__(self, dim: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(dim),
            Convolution(dim, kernel),
            nn.GELU(),
            Convolution(dim, kernel),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        out: Tensor = tokens + self.branch(tokens)
        return out


class UNet(nn.Module):
    """Blocks on the way down and up, joined at each length."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dims = config.dims
        self.multiple = 2**config.n_halvings

        def blocks(dim: int) -> nn.Sequential:
            return nn.Sequential(
                *(Block(dim, config.kernel, config.dropout) for _ in range(config.depth))
            )

        pairs = list(pairwise(dims))
        self.down = nn.ModuleList(blocks(dim) for dim in dims)
        self.halve = nn.ModuleList(nn.Linear(2 * wide, narrow) for wide, narrow in pairs)
        self.widen = nn.ModuleList(nn.Linear(narrow, 2 * wide) for wide, narrow in pairs)
        self.join = nn.ModuleList(nn.Linear(2 * dim, dim) for dim in dims[:-1])
        self.up = nn.ModuleList(blocks(dim) for dim in dims[:-1])

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        n_levels = tokens.shape[1]
        missing = -n_levels % self.multiple
        if missing:  # repeat the ground
            tokens = torch.cat([tokens, tokens[:, -1:].expand(-1, missing, -1)], dim=1)
        skipped = []
        for blocks, halve in zip(self.down, self.halve, strict=False):
            tokens = blocks(tokens)
            skipped.append(tokens)
            # (batch, n, dim) -> (batch, n / 2, 2 * dim) -> (batch, n / 2, wider)
            tokens = halve(tokens.reshape(len(tokens), -1, 2 * tokens.shape[-1]))
        tokens = self.down[-1](tokens)
        for i in reversed(range(len(skipped))):
            # (batch, n / 2, wider) -> (batch, n / 2, 2 * dim) -> (batch, n, dim)
            tokens = self.widen[i](tokens).reshape(skipped[i].shape)
            tokens = self.join[i](torch.cat([tokens, skipped[i]], dim=-1))
            tokens = self.up[i](tokens)
        return tokens[:, :n_levels]


def build(config: Config) -> nn.Module:
    """The body."""
    return UNet(config)


def search_space(trial: Any) -> dict[str, Any]:
    """Parameters worth searching."""
    return {
        "dim": trial.suggest_categorical("dim", [64, 96, 128, 160]),
        "depth": trial.suggest_int("depth", 1, 3),
        "n_halvings": trial.suggest_int("n_halvings", 1, 3),
        "kernel": trial.suggest_int("kernel", 3, 7, step=2),
    }
