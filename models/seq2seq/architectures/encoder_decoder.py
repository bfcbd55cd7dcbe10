"""The classical sequence to sequence: an LSTM encodes the levels, another decodes with attention.

Sources: Sutskever et al. (2014), arXiv 1409.3215; attention with its context fed to the next step
is Luong et al. (2015), arXiv 1508.04025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from features.core.settings import Bounded, Count, Rate, check
from models.seq2seq.architectures import LAPTOP
from models.seq2seq.layers import Attention, feed_forward


@dataclass(frozen=True, kw_only=True)
class Config(Bounded):
    """Size of the network.

    Attributes:
        dim: width of a level's token; even.
        depth: layers of the encoder, and of the decoder.
        n_heads: heads of the decoder's attention; divides dim.
        expansion: width of the feed-forward layer over dim.
        dropout: share of the decoder's output that is dropped.
        autoregressive: decode level by level from the ground up, each step fed with what the one
            before has attended to; much slower.
    """

    dim: Annotated[int, Ge(2)] = 128
    depth: Count = 1
    n_heads: Count = 4
    expansion: Count = 2
    dropout: Rate = 0.0
    autoregressive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.dim % 2 == 0, f"dim must be even, but got {self.dim}")
        check(self.dim % self.n_heads == 0, f"n_heads {self.n_heads} must divide dim {self.dim}")


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 32, "n_heads": 2},
    "laptop": {"dim": 160, "depth": 1} | LAPTOP,
    "gpu": {"dim": 768, "depth": 3, "n_heads": 8, "epochs": 12},
}


class EncoderDecoder(nn.Module):
    """Encoder, decoder and the attention between them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim, depth = config.dim, config.depth
        self.autoregressive = config.autoregressive
        self.encoder = nn.LSTM(dim, dim // 2, depth, batch_first=True, bidirectional=True)
        self.norm_memory = nn.LayerNorm(dim)
        n_inputs = 2 * dim if config.autoregressive else dim
        self.decoder = nn.LSTM(n_inputs, dim, depth, batch_first=True)
        self.attention = Attention(dim, config.n_heads)
        self.norm = nn.LayerNorm(2 * dim)
        self.join = nn.Linear(2 * dim, dim)
        self.mix = feed_forward(dim, config.expansion, config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        memory = self.norm_memory(tokens + self.encoder(tokens)[0])
        decoded = self._steps(memory) if self.autoregressive else self._at_once(memory)
        joined = self.join(self.norm(decoded))  # (batch, n_levels, 2 * dim) -> (..., dim)
        out: Tensor = memory + joined + self.mix(joined)
        return out

    def _at_once(self, memory: Tensor) -> Tensor:
        """States of the decoder and what they attend to, (batch, n_levels, 2 * dim)."""
        states = self.decoder(memory.flip(1))[0].flip(1)  # from the ground up
        return torch.cat([states, self.attention(states, memory)], dim=-1)

    def _steps(self, memory: Tensor) -> Tensor:
        """The same, each step seeing the context of the one before."""
        context = torch.zeros_like(memory[:, :1])  # (batch, 1, dim)
        state, found = None, []
        for level in range(memory.shape[1] - 1, -1, -1):
            given = torch.cat([memory[:, level : level + 1], context], dim=-1)
            output, state = self.decoder(given, state)  # (batch, 1, dim)
            context = self.attention(output, memory)
            found.append(torch.cat([output, context], dim=-1))
        return torch.cat(found[::-1], dim=1)


def build(config: Config) -> nn.Module:
    """The body."""
    return EncoderDecoder(config)


def search_space(trial: Any) -> dict[str, Any]:
    """Parameters worth searching."""
    return {
        "dim": trial.suggest_categorical("dim", [96, 128, 160, 224]),
        "depth": trial.suggest_int("depth", 1, 2),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
    }
