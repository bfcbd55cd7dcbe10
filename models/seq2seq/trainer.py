"""One trainer for all architectures, on Lightning Fabric: device, precision, several processes.

A fit is a function of its job alone: batches, dropout and augmentation of an epoch follow from
(seed, epoch), so a fit that was killed continues after its last whole epoch and ends equal to the
bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor, nn

from features.core.errors import ClimstackError
from features.core.files import write_json
from features.store.matrix import Matrix
from models.seq2seq import checkpoint, losses
from models.seq2seq.augment import Augment, Component, input_noise, level_mask, mirror, mixup
from models.seq2seq.batches import Batch, Batches
from models.seq2seq.layers import Shape
from models.seq2seq.network import NetworkSpec
from models.seq2seq.settings import TrainSettings

log = logging.getLogger(__name__)
CHECK_EVERY = 25  # steps between looks at the losses: looking makes a GPU wait
PREDICT_ROWS = 1_024
WATCH_ROWS = 4_096  # as many are scored at once: inner blocks grow with the data
HISTORY = "history.json"  # rows of Checkpoint.history with their phase
RESULT = "result.safetensors"

State = dict[str, Tensor]
Values = np.ndarray[Any, np.dtype[np.float32]]
OnEpoch = Callable[[int, Callable[[Any], Values]], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a fit depends on; picklable, for a launcher's processes.

    Attributes:
        spec: the network.
        settings: how it is trained.
        folder: holds ``fit_features.npy`` (n_rows, n_features) and ``fit_targets.npy`` (n_rows,
            n_targets), float32, standardised, a missing target NaN; to stop early ``watch_*.npy``
            too; where rows have weights ``fit_weights.npy`` (n_rows, 1), 1 in the mean.
        seed: of weights, batches and augmentation.
        checkpoints: folder for them; None writes none.
        components: what changes its sign in a mirror, by axis; for ``mirror``.
        groups: groups of targets that are fine-tuned, by name: positions of flat outputs.
        misses: whether a target may be missing.
        name: how progress calls it.
        on_epoch: called after each epoch over all targets with its number, from 1, and a function
            from inputs (n, n_features) to predictions (n, n_targets) of the averaged weights; what
            it raises ends the fit. Only without a launcher.
    """

    spec: NetworkSpec
    settings: TrainSettings
    folder: Path
    seed: int = 0
    checkpoints: Path | None = None
    components: tuple[Component, ...] = ()
    groups: dict[str, list[int]] = field(default_factory=dict)
    misses: bool = False
    name: str = "network"
    on_epoch: OnEpoch | None = None


def train(job: Job) -> dict[str, State]:
    """Fit a network; every epoch's loss is left in the job's folder, see ``HISTORY``.

    Returns:
        Weights by group of targets; the group ``""`` are those for all targets.

    Raises:
        ClimstackError: a loss is not finite, or the device is not there.
    """
    settings = job.settings
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ClimstackError("device is 'cuda', but torch sees no GPU: use 'auto' or 'cpu'")
    fabric = make_fabric(settings)
    if settings.devices * settings.num_nodes == 1:
        return run(fabric, job)
    # Bound to the function: the launcher would look into a job that it is given as an argument.
    fabric.launch(partial(_run_launched, job=job))
    return checkpoint.unpack(checkpoint.read_tensors(job.folder / RESULT)[0])


def make_fabric(settings: TrainSettings) -> Any:
    """Lightning's Fabric for some settings; several processes are spawned by its launcher."""
    from lightning.fabric import Fabric

    for name in ("lightning.fabric", "lightning.pytorch"):  # which announce every setting
        logging.getLogger(name).setLevel(logging.WARNING)

    cuda = settings.device != "cpu" and torch.cuda.is_available()
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if cuda or cpu_has_bf16() else "32"
    several = settings.devices * settings.num_nodes > 1
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy="ddp_spawn" if several else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware; else they are slower than 32 bits."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def run(fabric: Any, job: Job) -> dict[str, State]:
    """Fit a network in this process, one of those that Fabric has launched."""
    cuda = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):  # the caller's generators stay as they were
        phase = _Phase(fabric, job, "all")
        trained, history = {"": phase.run(None)}, phase.history
        if job.settings.fine_tune_epochs:
            for name, outputs in job.groups.items():
                phase = _Phase(fabric, job, name, outputs)
                trained[name] = phase.run(trained[""])
                history = history + phase.history
    if fabric.global_rank == 0:
        write_json(job.folder / HISTORY, history)
    return trained


def _run_launched(fabric: Any, job: Job) -> None:
    """Leave the weights in a file: what a launched process returns blocks it once it is large."""
    weights = run(fabric, job)
    if fabric.global_rank == 0:
        checkpoint.write_tensors(job.folder / RESULT, checkpoint.pack(weights), {})
    fabric.barrier()


class _Phase:
    """One stretch of training: all targets, or the fine-tuning of a group."""

    def __init__(self, fabric: Any, job: Job, name: str, outputs: list[int] | None = None) -> None:
        self.fabric, self.job, self.name = fabric, job, name
        settings = job.settings
        if outputs is not None:
            settings = replace(
                settings,
                epochs=settings.fine_tune_epochs,
                learning_rate=settings.learning_rate * settings.fine_tune_rate,
                patience=0,
                final_share=0.999 if settings.final_loss else settings.final_share,
            )
        self.settings, self.device = settings, fabric.device
        shape = job.spec.shape
        n_targets = len(shape.out_source)
        self.weights = torch.ones(n_targets, device=self.device)
        if outputs is not None:
            self.weights.zero_()[outputs] = 1.0
        self.pairs = losses.adjacent(shape.out_source, shape.n_levels, shape.n_profile_targets).to(
            self.device
        )
        self.augment = _augment(settings, shape, job.components)
        self.batches = self._load("fit")
        self.watched = settings.patience > 0
        self.history: list[dict[str, Any]] = []

    def run(self, start: State | None) -> State:
        """Train from given weights or from new ones; gives the averaged weights."""
        settings, job = self.settings, self.job
        torch.manual_seed(job.seed)
        network: nn.Module = job.spec.build()
        if start is not None:
            network.load_state_dict(start)
        network = network.to(self.device)
        raw = network
        if settings.compile:
            network = torch.compile(network)  # type: ignore[assignment]
        optimizer = make_optimizer(raw, settings, self.device)
        model, wrapped = self.fabric.setup(network, optimizer)
        average = {name: value.detach().clone() for name, value in raw.state_dict().items()}
        state = checkpoint.Checkpoint()
        file = job.checkpoints and job.checkpoints / f"{quote(self.name, safe='')}.safetensors"
        if file is not None and file.is_file():
            state = checkpoint.load(file, raw, average, optimizer)
        elif self.fabric.global_rank == 0:
            n_weights, n_rows = sum(p.numel() for p in raw.parameters()), self.batches.n_rows
            log.info("%s: %d parameters, %d rows, %s", job.name, n_weights, n_rows, self.device)
        while state.epoch < settings.epochs and not state.stopped:
            self._epoch(model, raw, wrapped, average, state)
            if file is not None and self.fabric.global_rank == 0:
                checkpoint.save(file, raw, average, optimizer, state)
            self.fabric.barrier()
            if job.on_epoch is not None and start is None:
                job.on_epoch(state.epoch, partial(self._predict, raw, average))
        self.history = [{"phase": self.name} | row for row in state.history]
        chosen = state.best if self.watched and state.best else average
        return {name: value.detach().cpu().clone() for name, value in chosen.items()}

    def _epoch(
        self, model: Any, raw: nn.Module, optimizer: Any, average: State, state: Any
    ) -> None:
        settings, epoch = self.settings, state.epoch
        begun = time.perf_counter()
        torch.manual_seed(np.random.SeedSequence([self.job.seed, epoch]).generate_state(1)[0])
        model.train()
        values = list(raw.state_dict().values())
        averages = list(average.values())
        n_steps = settings.epochs * len(self.batches)
        found: list[Tensor] = []
        for batch in self.batches.epoch(self.job.seed, epoch):
            rate = settings.learning_rate * rate_at(state.step / n_steps, settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(model, batch, settings.loss_in(epoch))
            optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
            self.fabric.clip_gradients(
                model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
            )
            optimizer.step()
            state.step += 1
            decay = min(settings.ema_decay, (1 + state.step) / (10 + state.step))
            with torch.no_grad():
                for mean, value in zip(averages, values, strict=True):
                    mean.lerp_(value, 1 - decay)
            found.append(loss.detach())
            if len(found) % CHECK_EVERY == 0:
                self._check(found, epoch)
        self._check(found, epoch)
        state.epoch += 1
        mean_loss = float(torch.stack(found).mean())
        score = self._watch(raw, average, state) if self.watched else None
        state.history.append({"epoch": state.epoch, "loss": mean_loss, "inner_r2": score})
        if self.fabric.global_rank == 0:
            speed = len(found) * self.batches.batch_size / (time.perf_counter() - begun)
            name = self.job.name if self.name == "all" else f"{self.job.name} {self.name}"
            shown = f"{mean_loss:.4f}" + ("" if score is None else f", inner R2 {score:.4f}")
            done = f"{state.epoch}/{settings.epochs}"
            log.info("%s: epoch %s, loss %s, %.0f rows/s", name, done, shown, speed)

    def _loss(self, model: Any, batch: Batch, name: losses.LossName) -> Tensor:
        settings = self.settings
        inputs, truth, *weights = batch
        rows = weights[0] if weights else None
        for augment in self.augment:
            inputs, truth = augment(inputs, truth)
        there = None
        if self.job.misses:
            there = torch.isfinite(truth).to(truth)
            truth = torch.where(there > 0, truth, 0.0)  # a NaN times 0 would be one
        predicted, expected = model(inputs)
        loss = losses.total(
            name, predicted, truth, self.weights,
            beta=settings.beta, difference=settings.difference, pairs=self.pairs, rows=rows,
            there=there,
        )  # fmt: skip
        if expected is not None:
            error = (predicted.detach() - truth).abs()
            missed = losses.elementwise("smooth_l1", expected, error, settings.beta)
            loss = loss + settings.confidence * losses.mean_over(missed, rows, there)
        return loss

    def _check(self, found: list[Tensor], epoch: int) -> None:
        finite = torch.isfinite(torch.stack(found))
        if not bool(finite.all()):
            batch = int((~finite).nonzero()[0])
            raise ClimstackError(
                f"{self.job.name}: the loss of batch {batch} in epoch {epoch} is"
                f" {float(found[batch])}: lower learning_rate, or look at the data with"
                " 'climstack data check'"
            )

    def _watch(self, raw: nn.Module, average: State, state: Any) -> float:
        """Mean R2, negatives as 0, of the averaged weights on the inner blocks."""
        features, truth, *_ = self._matrices("watch")
        sums = _WatchedSums(truth.shape[1])
        for start in range(0, len(truth), WATCH_ROWS):
            here = slice(start, start + WATCH_ROWS)
            sums.add(truth[here], self._predict(raw, average, features[here]))
        score = sums.score()
        if score > state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            state.best = {name: value.clone() for name, value in average.items()}
        state.stopped = state.epoch - state.best_epoch >= self.settings.patience
        return score

    def _predict(self, raw: nn.Module, average: State, features: Any) -> Values:
        """Predictions of the averaged weights; the network keeps its own."""
        held = {name: value.clone() for name, value in raw.state_dict().items()}
        raw.load_state_dict(average)
        predicted = predict(raw, features, self.device)[0]
        raw.load_state_dict(held)
        return predicted

    def _matrices(self, name: str) -> list[Matrix]:
        """Features, targets and, if there are any, weights."""
        files = [self.job.folder / f"{name}_{what}.npy" for what in ("features", "targets")]
        weights = self.job.folder / f"{name}_weights.npy"
        return [Matrix.of_npy(file) for file in (*files, *[weights][: weights.is_file()])]

    def _load(self, name: str) -> Batches:
        rank, world_size = self.fabric.global_rank, self.fabric.world_size
        matrices, size = self._matrices(name), self.settings.batch_size
        return Batches(matrices, size, self.device, rank=rank, world_size=world_size)


class _WatchedSums:
    """Sums behind the R2 of each target, over the rows that have it."""

    def __init__(self, n_targets: int) -> None:
        self.first = np.full(n_targets, np.nan, np.float32)
        self.error, self.total, self.squares, self.count = np.zeros((4, n_targets))

    def add(self, truth: Values, predicted: Values) -> None:
        there = ~np.isnan(truth)
        at = there.argmax(0)[None]  # a constant target deviates from it by exactly 0
        found = np.take_along_axis(truth, at, axis=0)[0]
        self.first = np.where(np.isnan(self.first), found, self.first)
        away, error = (np.where(there, truth - each, 0) for each in (self.first, predicted))
        self.error += (error**2).sum(0, dtype=np.float64)
        self.total += away.sum(0, dtype=np.float64)
        self.squares += (away**2).sum(0, dtype=np.float64)
        self.count += there.sum(0)

    def score(self) -> float:
        """Mean R2, negatives as 0, of the targets that vary; 0 where none does."""
        spread = self.squares - self.total**2 / np.maximum(self.count, 1)
        varies = spread > 0
        if not varies.any():
            return 0.0
        return float(np.clip(1 - self.error[varies] / spread[varies], 0, None).mean())


def rate_at(progress: float, warmup: float) -> float:
    """Learning rate over its highest: a line up, then a cosine down to 0."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min((progress - warmup) / (1 - warmup), 1.0)))


def make_optimizer(
    network: nn.Module, settings: TrainSettings, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW that decays matrices only; a position embedding or a norm is none."""
    matrices = [
        p for name, p in network.named_parameters() if p.ndim >= 2 and "position" not in name
    ]
    others = [p for name, p in network.named_parameters() if p.ndim < 2 or "position" in name]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        fused=True if device.type == "cuda" else None,
    )


def predict(
    network: nn.Module, features: Any, device: torch.device
) -> tuple[Values, Values | None]:
    """Outputs and, with a confidence head, their expected errors, (n_rows, n_targets) each."""
    was_training = network.training
    network.eval()
    found, expected = [], []
    with torch.inference_mode():
        for start in range(0, len(features), PREDICT_ROWS):
            part = torch.from_numpy(np.array(features[start : start + PREDICT_ROWS]))
            outputs, errors = network(part.to(device))
            found.append(outputs.float().cpu().numpy())
            if errors is not None:
                expected.append(errors.float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(found), np.concatenate(expected) if expected else None


def _augment(
    settings: TrainSettings, shape: Shape, components: tuple[Component, ...]
) -> list[Augment]:
    found: list[Augment] = []
    if settings.mirror:
        found += [mirror(component) for component in components]
    if settings.input_noise:
        found.append(input_noise(settings.input_noise))
    if settings.mixup:
        found.append(mixup(settings.mixup))
    if settings.level_mask:
        levels = torch.full((shape.n_features,), -1)
        for level, row in enumerate(shape.in_profile):
            levels[[position for position in row if position >= 0]] = level
        found.append(level_mask(settings.level_mask, levels))
    return found
