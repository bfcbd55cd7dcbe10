"""The ``gpu`` presets on a GPU: rows/s, share of the matrix-product ceiling, memory.

For each architecture: floating-point operations of a training row (counted by torch on a CPU, with
its LSTM in plain matrix products), rows/s at bf16 with rows resident on the device, compiled, and
streamed; the share of what large bf16 matrix products reach on the same device in the same run;
peak memory; hours for an epoch of 10,091,520 rows. On a CPU, chosen or for want of a GPU, the
``tiny`` presets run in the same way, unless a preset is named: ``--device cpu --preset laptop``
tells the trainer's rows/s there. Needs torch, lightning, NumPy, psutil, filelock and
annotated-types alone.

    python benchmarks/bench_gpu.py [ARCHITECTURE ...] [--device cpu] [--preset laptop]
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import Options
from torch.utils.flop_counter import FlopCounterMode

from features.core import registry
from features.store.matrix import Matrix
from models.seq2seq import losses
from models.seq2seq.batches import Batches
from models.seq2seq.layers import Shape
from models.seq2seq.network import PACKAGE, NetworkSpec
from models.seq2seq.settings import TrainSettings
from models.seq2seq.trainer import make_fabric, make_optimizer

N_LEVELS, N_CHANNELS, N_SCALARS, N_OUT, N_OUT_SCALARS = 60, 31, 24, 6, 8
LEAP_ROWS = 10_091_520
SECONDS = 8.0
GIB = 2**30


def leap_shape() -> Shape:
    """About what a LEAP fold gives."""
    n_profile = N_LEVELS * N_CHANNELS
    n_features = n_profile + N_SCALARS
    return Shape(
        n_levels=N_LEVELS,
        n_features=n_features,
        in_profile=np.arange(n_profile).reshape(N_LEVELS, N_CHANNELS).tolist(),
        in_scalar=list(range(n_profile, n_features)),
        in_mean=[0.0] * n_features,
        in_std=[1.0] * n_features,
        n_profile_targets=N_OUT,
        n_scalar_targets=N_OUT_SCALARS,
        out_source=list(range(N_LEVELS * N_OUT + N_OUT_SCALARS)),
    )


def spec_of(architecture: str, preset: str) -> NetworkSpec:
    config = registry.load(PACKAGE, architecture, "Config", "architecture")
    values = registry.load(PACKAGE, architecture, "PRESETS", "architecture")[preset]
    known = config.__dataclass_fields__
    return NetworkSpec(
        architecture=architecture,
        config={k: v for k, v in values.items() if k in known},
        shape=leap_shape(),
    )


def operations(spec: NetworkSpec) -> float:
    """Floating-point operations of one row, forward and backward."""
    network, rows = spec.build(), 2
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        network(torch.randn(rows, spec.shape.n_features))[0].sum().backward()
    return counter.get_total_flops() / rows


def ceiling(device: torch.device, least: float) -> float:
    """Operations per second of large bf16 matrix products on the device, looked at so long."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait(device)
    start, n_done = time.perf_counter(), 0
    while time.perf_counter() - start < least / 4:
        for _ in range(10):
            a @ b
        n_done += 10
        wait(device)
    return 2 * size**3 * n_done / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rows_per_second(spec, settings, batches, least: float) -> float:
    """Speed of training steps as the trainer makes them, over so many seconds."""
    fabric = make_fabric(settings)
    torch.manual_seed(0)
    network = spec.build().to(fabric.device)
    optimizer = make_optimizer(network, settings, fabric.device)
    if settings.compile:
        network = torch.compile(network)
    model, optimizer = fabric.setup(network, optimizer)
    weights = torch.ones(len(spec.shape.out_source), device=fabric.device)

    def step(batch) -> None:
        loss = losses.total("smooth_l1", model(batch[0])[0], batch[1], weights, beta=0.5)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=1.0, error_if_nonfinite=False)
        optimizer.step()

    n_warm, n_rows, epoch = 5, 0, 0
    start = time.perf_counter()
    while True:
        for batch in batches.epoch(0, epoch):
            step(batch)
            n_warm -= 1
            if n_warm == 0:
                wait(fabric.device)
                start = time.perf_counter()
            elif n_warm < 0:
                n_rows += len(batch[0])
                if n_warm % 10 == 0:
                    wait(fabric.device)
                    if time.perf_counter() - start > least:
                        return n_rows / (time.perf_counter() - start)
        epoch += 1


def main(architectures: list[str], device: str, preset: str | None, quick: bool) -> None:
    cuda = device == "cuda"
    batch_size, n_rows = (1024, 65_536) if cuda else (64, 1024)
    least = SECONDS
    if quick:
        batch_size, n_rows, least = 4, 32, 0.02
    preset = preset or ("gpu" if cuda else "tiny")
    rng = np.random.default_rng(0)
    shape = leap_shape()
    x = rng.normal(size=(n_rows, shape.n_features)).astype(np.float32)
    z = rng.normal(size=(n_rows, len(shape.out_source))).astype(np.float32)
    temporary = tempfile.TemporaryDirectory()
    files = [Path(temporary.name) / name for name in ("features.npy", "targets.npy")]
    for file, values in zip(files, (x, z), strict=True):
        np.save(file, values)
    rows = [Matrix.of_npy(file) for file in files]
    settings = TrainSettings(batch_size=batch_size, device=device, precision="bf16")
    where = make_fabric(settings).device
    top = ceiling(where, least)
    name = torch.cuda.get_device_name() if cuda else "CPU"
    print(f"{name}, preset {preset}, batch {batch_size}; bf16 matrix products {top / 1e12:.1f} T/s")
    print("| architecture | parameters | operations per row | rows/s eager | compiled | streamed |"
          " share of the ceiling | peak GiB | hours per LEAP epoch |")  # fmt: skip
    print("|---" * 9 + "|")
    for architecture in architectures:
        spec = spec_of(architecture, preset)
        cost = operations(spec)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        resident, streamed = (
            Batches(rows, batch_size, where, resident=held) for held in (True, False)
        )
        eager = rows_per_second(spec, settings, resident, least)
        memory = torch.cuda.max_memory_allocated() / GIB if cuda else float("nan")
        compiled = float("nan")
        if cuda:
            compiled = rows_per_second(spec, replace(settings, compile=True), resident, least)
        flowing = rows_per_second(spec, settings, streamed, least)
        best = np.nanmax([eager, compiled])
        n_parameters = sum(p.numel() for p in spec.build().parameters())
        print(
            f"| {architecture} | {n_parameters / 1e6:.1f} M | {cost / 1e9:.2f} G | {eager:.0f} |"
            f" {compiled:.0f} | {flowing:.0f} | {cost * best / top:.1%} | {memory:.1f} |"
            f" {LEAP_ROWS / best / 3600:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_argument("architectures", nargs="*", help="all where none is named")
    options.add_argument("--device", choices=["cuda", "cpu"])
    options.add_argument("--preset", choices=["tiny", "laptop", "gpu"])
    asked = options.parse()
    device = asked.device or ("cuda" if torch.cuda.is_available() and not asked.quick else "cpu")
    names = asked.architectures or registry.names(PACKAGE)
    main(names, device, asked.preset, asked.quick)
