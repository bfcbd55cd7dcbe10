"""The trainer beside a bare PyTorch loop and beside a per-sample DataLoader, in turns, on a CPU.

All train the ``laptop`` ConvNeXt on the same random rows in 32 bits with batches of the same size.
The bare loop has the network, the loss, AdamW and nothing else: no clipping, no average of weights,
no checkpoint. The DataLoader loop fetches row by row, as tutorials do.

Usage: python benchmarks/bench_trainer.py [N_ROWS [BATCH]]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_gpu import leap_shape, spec_of
from torch.utils.data import DataLoader, Dataset

from models.seq2seq import losses
from models.seq2seq.settings import TrainSettings
from models.seq2seq.trainer import Job, train

ROUNDS = 5


class Rows(Dataset):
    """One row at a time."""

    def __init__(self, x, z):
        self.x, self.z = x, z

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return torch.from_numpy(self.x[row]), torch.from_numpy(self.z[row])


def steps(spec, batches) -> None:
    """A bare loop over batches."""
    torch.manual_seed(0)
    network = spec.build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    weights = torch.ones(len(spec.shape.out_source))
    for x, z in batches:
        loss = losses.total("smooth_l1", network(x)[0], z, weights, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(n_rows: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    shape = leap_shape()
    x = rng.normal(size=(n_rows, shape.n_features)).astype(np.float32)
    z = rng.normal(size=(n_rows, len(shape.out_source))).astype(np.float32)
    spec = spec_of("convnext1d", "laptop")
    settings = TrainSettings(epochs=1, batch_size=batch, device="cpu", precision="32")
    in_memory = torch.from_numpy(x), torch.from_numpy(z)

    def bare() -> None:
        order = torch.randperm(n_rows)[: n_rows // batch * batch].reshape(-1, batch)
        steps(spec, ((in_memory[0][rows], in_memory[1][rows]) for rows in order))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "fit_features.npy", x)
        np.save(folder / "fit_targets.npy", z)
        contenders = {
            "trainer": lambda: train(Job(spec=spec, settings=settings, seed=0, folder=folder)),
            "bare loop": bare,
            "per-sample DataLoader": lambda: steps(
                spec, DataLoader(Rows(x, z), batch, shuffle=True, drop_last=True)
            ),
        }
        seconds = {name: [] for name in contenders}
        bare()
        for turn in range(ROUNDS):
            for name in list(contenders) if turn % 2 else list(contenders)[::-1]:
                start = time.perf_counter()
                contenders[name]()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    done = n_rows // batch * batch
    for name, value in medians.items():
        ratio = value / medians["trainer"]
        print(f"{name}: {done / value:.0f} rows/s; the trainer is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 4096,
        int(sys.argv[2]) if len(sys.argv) > 2 else 256,
    )
