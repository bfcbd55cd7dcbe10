"""Batches of a fold's rows: resident on the device, or streamed from files in shuffled blocks.

Every epoch is a function of (seed, epoch) alone, so a resumed fit sees the same batches, unless
what is free on the device has changed so that rows are streamed that were resident, or the reverse.
With several processes each takes its share of every batch. Rows that don't fill a last batch are
left out of that epoch, other ones in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from features.core.errors import ClimstackError
from features.core.memory import free_memory
from features.store.matrix import Matrix
from features.store.shuffle import shuffled

MEMORY_SHARE = 0.5  # of what is free on the device: as much may be taken by resident rows

Batch = tuple[Tensor, ...]


class Batches:
    """Rows to train on; ``epoch`` gives shuffled batches of their arrays on the device.

    Streamed rows take the memory of what :func:`features.store.shuffle.shuffled` mixes, whatever
    their number.

    Args:
        arrays: features (n_rows, n_features), targets (n_rows, n_targets) and, where rows have
            weights, these (n_rows, 1): float32.
        batch_size: rows of a batch over all processes.
        device: where batches are wanted.
        rank: number of this process.
        world_size: number of processes; divides the batch size.
        resident: put all rows on the device once; None decides by what is free, see
            :func:`features.core.memory.free_memory`.
    """

    def __init__(
        self,
        arrays: Sequence[Matrix],
        batch_size: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        resident: bool | None = None,
    ) -> None:
        self.n_rows = len(arrays[0])
        batch_size = min(batch_size, self.n_rows) // world_size * world_size
        if not batch_size:
            raise ClimstackError(
                f"{self.n_rows} rows are too few for {world_size} processes: use fewer devices"
            )
        self.arrays = arrays
        self.batch_size, self.device = batch_size, device
        self.rank, self.world_size = rank, world_size
        self.resident = _fits(arrays, device) if resident is None else resident
        self._held: Batch | None = None
        if self.resident:
            self._held = tuple(torch.from_numpy(part[:]).to(device) for part in arrays)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.n_rows // self.batch_size

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Shuffled batches, each array (batch_size / world_size, width)."""
        rng = np.random.default_rng([seed, epoch])
        if self._held is None:
            yield from self._stream(rng)
            return
        order = rng.permutation(self.n_rows)[: len(self) * self.batch_size]
        # The share of each process in every batch: (n_batches, batch_size / world_size).
        shares = order.reshape(len(self), -1)[:, self.rank :: self.world_size]
        on_device = torch.from_numpy(np.ascontiguousarray(shares)).to(self.device)
        for rows in on_device:
            yield tuple(held.index_select(0, rows) for held in self._held)

    def _stream(self, rng: np.random.Generator) -> Iterator[Batch]:
        local = self.batch_size // self.world_size
        n_own = local * len(self)
        own = slice(self.rank * n_own, (self.rank + 1) * n_own)
        for _, arrays in shuffled(self.arrays, local, rng, share=own):
            yield tuple(self._to_device(torch.from_numpy(part)) for part in arrays)

    def _to_device(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda":  # the copy in pinned memory is what the device fetches
            return values.pin_memory().to(self.device, non_blocking=True)
        return values


def _fits(arrays: Sequence[Matrix], device: torch.device) -> bool:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return sum(part.nbytes for part in arrays) < MEMORY_SHARE * free
