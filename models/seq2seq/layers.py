"""Layers that the architectures share: the way in, the way out, and small parts.

Tokens are (batch, n_levels, dim) throughout: channels last, so that a linear layer is one matrix
product over batch and levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MIN_STD = 1e-3


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a network is built for; plain lists, so that JSON holds it.

    Attributes:
        n_levels: length of the sequence.
        n_features: width of the flat input.
        in_profile: flat input of each level and channel, (n_levels, n_channels), -1 for none.
        in_scalar: flat input of each scalar, (n_scalars,).
        in_mean: mean of each flat input before it was standardised, (n_features,).
        in_std: its standard deviation, (n_features,).
        n_profile_targets: channels of the output profiles.
        n_scalar_targets: scalar outputs.
        out_source: for each flat output its position in (profiles flattened, scalars).
    """

    n_levels: int
    n_features: int
    in_profile: list[list[int]]
    in_scalar: list[int]
    in_mean: list[float]
    in_std: list[float]
    n_profile_targets: int
    n_scalar_targets: int
    out_source: list[int]


class Representations(nn.Module):
    """Flat standardised features as profiles and scalars, in one or more representations.

    ``level`` standardises each level by its own rows, ``variable`` a whole profile by one mean and
    deviation, so that its shape stays, and ``column`` each row's profile by itself. They are
    concatenated as channels. Values beyond ``soft_clip`` grow with the logarithm only.
    """

    profile: Tensor
    present: Tensor
    scalar: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, shape: Shape, kinds: tuple[str, ...], soft_clip: float) -> None:
        super().__init__()
        index = torch.tensor(shape.in_profile, dtype=torch.long).reshape(shape.n_levels, -1)
        mean = torch.tensor(shape.in_mean, dtype=torch.float64)[index.clamp(min=0)]
        std = torch.tensor(shape.in_std, dtype=torch.float64)[index.clamp(min=0)]
        there = index >= 0
        count = there.sum(0).clamp(min=1)
        whole = (mean * there).sum(0) / count
        spread = (((std**2 + (mean - whole) ** 2) * there).sum(0) / count).sqrt()
        spread = torch.where(spread > 0, spread, 1.0)
        self.kinds, self.soft_clip = kinds, soft_clip
        self.register_buffer("profile", index.clamp(min=0).reshape(-1), persistent=False)
        self.register_buffer("present", there.float(), persistent=False)
        scalar = torch.tensor(shape.in_scalar, dtype=torch.long)
        self.register_buffer("scalar", scalar, persistent=False)
        self.register_buffer("scale", (std / spread).float(), persistent=False)
        self.register_buffer("shift", ((mean - whole) / spread).float(), persistent=False)
        self.n_channels = index.shape[1] * len(kinds)
        self.n_scalars = len(scalar)

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n_features) -> (batch, n_levels, n_channels), (batch, n_scalars)."""
        level = flat.index_select(1, self.profile)  # (batch, n_levels * channels)
        level = level.reshape(len(flat), *self.present.shape) * self.present
        found = []
        for kind in self.kinds:
            values = level
            if kind != "level":
                values = (level * self.scale + self.shift) * self.present
            if kind == "column" and len(self.present) > 1:  # one level has no spread
                values = values - values.mean(1, keepdim=True)
                values = values / (values.std(1, keepdim=True) + MIN_STD)
            found.append(values)
        profiles = torch.cat(found, dim=-1)
        return (
            soft_clip(profiles, self.soft_clip),
            soft_clip(flat.index_select(1, self.scalar), self.soft_clip),
        )


def soft_clip(values: Tensor, limit: float) -> Tensor:
    """The value up to +-limit, beyond it limit + log(1 + excess): smooth, and never flat."""
    inside = values.clamp(-limit, limit)
    excess = (values - inside).abs()
    return inside + torch.log1p(excess) * values.sign()


class Stem(nn.Module):
    """Level tokens from profiles; scalars shift and scale every token (FiLM).

    Source: FiLM is Perez et al. (2018), arXiv 1709.07871.
    """

    def __init__(self, inputs: Representations, n_levels: int, dim: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.tokens = nn.Linear(inputs.n_channels, dim) if inputs.n_channels else None
        self.position = nn.Parameter(0.02 * torch.randn(n_levels, dim))
        scalars = inputs.n_scalars
        self.film = nn.Sequential(nn.Linear(scalars, dim), nn.GELU()) if scalars else None
        self.film_out = nn.Linear(dim, 2 * dim) if scalars else None

    def forward(self, flat: Tensor) -> Tensor:
        """(batch, n_features) -> (batch, n_levels, dim)."""
        profiles, scalars = self.inputs(flat)
        tokens = self.position.expand(len(flat), -1, -1)
        if self.tokens is not None:
            tokens = self.tokens(profiles) + self.position
        if self.film is None or self.film_out is None:
            return tokens
        # (batch, 2 * dim) -> two of (batch, 1, dim)
        scale, shift = self.film_out(self.film(scalars)).unsqueeze(1).chunk(2, dim=-1)
        film: Tensor = tokens * (1 + scale) + shift
        return film


class Heads(nn.Module):
    """Flat outputs from level tokens: profiles level by level, scalars from pooled tokens."""

    source: Tensor

    def __init__(self, shape: Shape, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        n_profiles, n_scalars = shape.n_profile_targets, shape.n_scalar_targets
        self.profile = nn.Linear(dim, n_profiles) if n_profiles else None
        self.scalar = (
            nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, n_scalars))
            if n_scalars
            else None
        )
        source = torch.tensor(shape.out_source, dtype=torch.long)
        self.register_buffer("source", source, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> (batch, n_targets)."""
        tokens = self.norm(tokens)
        found = []
        if self.profile is not None:
            found.append(self.profile(tokens).flatten(1))  # (batch, n_levels * profiles)
        if self.scalar is not None:
            pooled = torch.cat([tokens.mean(1), tokens[:, -1]], dim=-1)  # (batch, 2 * dim)
            found.append(self.scalar(pooled))
        flat = torch.cat([values.float() for values in found], dim=1)
        return flat.index_select(1, self.source)


class Network(nn.Module):
    """A whole network: stem, an architecture's body, heads and, if wanted, a confidence head.

    The confidence head predicts the absolute error of each output.
    Source: the first place's write-up of the LEAP competition describes such a head.
    """

    def __init__(
        self,
        shape: Shape,
        body: nn.Module,
        dim: int,
        *,
        representations: tuple[str, ...],
        soft_clip: float,
        confidence: bool,
    ) -> None:
        super().__init__()
        self.stem = Stem(Representations(shape, representations, soft_clip), shape.n_levels, dim)
        self.body = body
        self.heads = Heads(shape, dim)
        self.confidence = Heads(shape, dim) if confidence else None

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch, n_features) -> (batch, n_targets) and the expected error, same shape, or None."""
        tokens = self.body(self.stem(flat))
        if self.confidence is None:
            return self.heads(tokens), None
        # Detached: judging itself must not change what the body learns.
        return self.heads(tokens), functional.softplus(self.confidence(tokens.detach()))


class DropPath(nn.Module):
    """Drops a residual branch for some rows while training (stochastic depth).

    Source: Huang et al. (2016), arXiv 1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Any shape whose first axis is the batch."""
        if not self.training or self.rate == 0:
            return branch
        drawn = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device)
        return branch * (drawn >= self.rate).to(branch.dtype) / (1 - self.rate)


class DepthwiseConv(nn.Module):
    """One filter along the levels for each channel."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        bound = kernel**-0.5
        self.weight = nn.Parameter(torch.empty(dim, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, n_levels, dim) -> the same."""
        # As a picture of height 1 with channels last: on a CPU ten times as fast as Conv1d.
        picture = tokens.transpose(1, 2).unsqueeze(2)  # (batch, dim, 1, n_levels)
        with torch.autocast(tokens.device.type, enabled=False):
            picture = picture.float().contiguous(memory_format=torch.channels_last)
            filtered = functional.conv2d(
                picture,
                self.weight[:, None, None],  # (dim, 1, 1, kernel)
                self.bias,
                padding=(0, self.weight.shape[1] // 2),
                groups=len(self.weight),
            )
        return filtered.squeeze(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention, of tokens to themselves or to others."""

    def __init__(self, dim: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        """(batch, n_levels, dim), optionally (batch, n_others, dim) -> (batch, n_levels, dim)."""
        query = self._heads(self.query(tokens))
        seen = self.key_value(tokens if others is None else others)
        key, value = (self._heads(part) for part in seen.chunk(2, dim=-1))
        dropped = self.dropout if self.training else 0.0
        if tokens.device.type == "cpu":  # where the fused kernel is slower on so short a sequence
            weights = (query @ key.transpose(-1, -2) * key.shape[-1] ** -0.5).softmax(-1)
            mixed = functional.dropout(weights, dropped) @ value
        else:
            mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropped)
        # (batch, heads, n_levels, dim of a head) -> (batch, n_levels, dim)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, tokens: Tensor) -> Tensor:
        # (batch, n_levels, dim) -> (batch, heads, n_levels, dim of a head)
        return tokens.reshape(*tokens.shape[:2], self.n_heads, -1).transpose(1, 2)


def feed_forward(dim: int, expansion: int, dropout: float = 0.0) -> nn.Sequential:
    """Two linear layers around a GELU, (batch, n_levels, dim) -> the same."""
    wide = expansion * dim
    layers = [nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim)]
    return nn.Sequential(*layers, *([nn.Dropout(dropout)] if dropout else []))


def drop_rates(rate: float, depth: int) -> list[float]:
    """Rates of stochastic depth, growing linearly from 0 to ``rate``."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
