"""Batches cut whole from arrays: resident on the device, or streamed in shuffled blocks.

Every epoch is a function of (seed, epoch) alone, so a resumed fit sees the same batches. With
several processes each takes its share of every batch. Rows that don't fill a last batch are left
out of that epoch, other ones in every epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_ROWS = 4_096  # rows that lie side by side and are read in one piece
BUFFER_BLOCKS = 16  # blocks that are shuffled together
MEMORY_SHARE = 0.5  # of what is free on the device: as much may be taken by resident rows

Batch = tuple[Tensor, Tensor]


class Batches:
    """Rows to train on; ``epoch`` gives shuffled batches (inputs, targets) on the device.

    Args:
        features: (n_rows, n_features) float32, may be memory-mapped.
        targets: (n_rows, n_targets) float32.
        batch_size: rows of a batch over all processes.
        device: where batches are wanted.
        rank: number of this process.
        world_size: number of processes; divides the batch size.
        resident: put all rows on the device once; None decides by what is free.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        targets: NDArray[np.float32],
        batch_size: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        resident: bool | None = None,
    ) -> None:
        batch_size = min(batch_size, len(features)) // world_size * world_size
        self.features, self.targets = features, targets
        self.batch_size, self.device = batch_size, device
        self.rank, self.world_size = rank, world_size
        self.resident = _fits(features, targets, device) if resident is None else resident
        self._held: Batch | None = None
        if self.resident:
            self._held = self._to_device(np.asarray(features)), self._to_device(np.asarray(targets))

    def __len__(self) -> int:
        """Batches of an epoch."""
        if self.resident:
            return len(self.features) // self.batch_size
        local = self.batch_size // self.world_size
        return sum(len(rows) // local for rows in self._buffers(0, 0, rank=0))

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Shuffled batches, each (batch_size / world_size, width)."""
        if self._held is None:
            yield from self._stream(seed, epoch)
            return
        order = np.random.default_rng([seed, epoch]).permutation(len(self.features))
        order = order[: len(self) * self.batch_size]
        # The share of each process in every batch: (n_batches, batch_size / world_size).
        shares = order.reshape(len(self), -1)[:, self.rank :: self.world_size]
        on_device = torch.from_numpy(np.ascontiguousarray(shares)).to(self.device)
        features, targets = self._held
        for rows in on_device:
            yield features.index_select(0, rows), targets.index_select(0, rows)

    def _stream(self, seed: int, epoch: int) -> Iterator[Batch]:
        local = self.batch_size // self.world_size
        generator = torch.Generator().manual_seed(hash((seed, epoch, self.rank)) % 2**63)
        with ThreadPoolExecutor(1) as reader:
            waiting = None
            for rows in [*self._buffers(seed, epoch, self.rank), None]:
                coming = None if rows is None else reader.submit(self._read, rows)
                if waiting is not None:
                    features, targets = (self._to_device(part) for part in waiting.result())
                    order = torch.randperm(len(features), generator=generator).to(self.device)
                    for start in range(0, len(order) - local + 1, local):
                        chosen = order[start : start + local]
                        yield features.index_select(0, chosen), targets.index_select(0, chosen)
                waiting = coming

    def _buffers(self, seed: int, epoch: int, rank: int) -> list[NDArray[np.intp]]:
        """Rows that are read and shuffled together, buffer by buffer; processes share blocks."""
        n_blocks = -(-len(self.features) // BLOCK_ROWS)
        n_blocks -= n_blocks % self.world_size if n_blocks >= self.world_size else 0
        blocks = np.random.default_rng([seed, epoch]).permutation(n_blocks)[rank :: self.world_size]
        starts = [
            blocks[i : i + BUFFER_BLOCKS] * BLOCK_ROWS for i in range(0, len(blocks), BUFFER_BLOCKS)
        ]
        every = len(self.features)
        return [
            np.concatenate([np.arange(s, min(s + BLOCK_ROWS, every)) for s in buffer])
            for buffer in starts
        ]

    def _read(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Copy rows into memory that the device can fetch by itself."""
        found = []
        for array in (self.features, self.targets):
            held = torch.from_numpy(np.ascontiguousarray(array[rows]))
            found.append(held.pin_memory() if self.device.type == "cuda" else held)
        return found[0], found[1]

    def _to_device(self, values: NDArray[np.float32] | Tensor) -> Tensor:
        held = torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values
        return held.to(self.device, non_blocking=True)


def _fits(
    features: NDArray[np.float32], targets: NDArray[np.float32], device: torch.device
) -> bool:
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return features.nbytes + targets.nbytes < MEMORY_SHARE * free
