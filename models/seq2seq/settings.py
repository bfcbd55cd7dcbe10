"""What the trainer can be told, for every architecture alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from features.core.settings import (
    Bounded,
    Count,
    InnerShare,
    Natural,
    NotNegative,
    Positive,
    Rate,
    check,
)
from models.seq2seq.losses import LossName

REPRESENTATIONS = ("level", "variable", "column")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Bounded):
    """Settings of inputs, loss, optimiser and device.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows of a batch, over all processes.
        learning_rate: of AdamW, at its highest.
        weight_decay: of weight matrices; biases, norms and scales are not decayed.
        warmup: share of the steps in which the rate rises; then it falls along a cosine to 0.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: of the moving average of the weights, which is what predicts.
        loss: see :mod:`models.seq2seq.losses`; on standardised targets.
        beta: the error where huber and smooth_l1 turn linear.
        difference: weight of the loss of differences between adjacent levels.
        final_loss: loss of the last epochs, as "mse" after "mae"; None keeps ``loss``.
        final_share: share of the epochs with ``final_loss``.
        confidence: weight of the confidence head's loss; 0 builds none.
        mirror: show half of the rows with mirrored winds, along each horizontal axis.
        input_noise: noise on inputs in their standard deviations; 0 is off.
        mixup: alpha of mixup; 0 is off.
        level_mask: share of levels that are hidden; 0 is off.
        representations: of the inputs, see :class:`models.seq2seq.layers.Representations`.
        soft_clip: inputs beyond it grow with the logarithm only.
        patience: epochs without gain on the inner blocks that end the fit; 0 trains all epochs, on
            all rows.
        inner_fraction: share of the training time in the inner blocks.
        fine_tune_epochs: epochs for each group of targets alone, from the trained weights.
        fine_tune_rate: learning rate of those over ``learning_rate``.
        device: ``"auto"`` takes a GPU where there is one.
        precision: ``"auto"`` takes bf16 on a GPU and on a CPU with instructions for it, else 32
            bits; predictions are always made in 32 bits.
        devices: processes, one per device.
        num_nodes: machines; each calls the trainer, as Fabric's launcher wants it.
        compile: compile the network first: pays on long fits.
    """

    epochs: Count = 20
    batch_size: Count = 256
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 0.02
    warmup: Rate = 0.1
    clip_norm: Positive = 1.0
    ema_decay: Rate = 0.99
    loss: LossName = "smooth_l1"
    beta: Positive = 0.5
    difference: NotNegative = 0.0
    final_loss: LossName | None = None
    final_share: Annotated[float, Interval(gt=0, lt=1)] = 0.25
    confidence: NotNegative = 0.0
    mirror: bool = False
    input_noise: NotNegative = 0.0
    mixup: NotNegative = 0.0
    level_mask: Rate = 0.0
    representations: tuple[str, ...] = ("level",)
    soft_clip: Positive = 6.0
    patience: Natural = 0
    inner_fraction: InnerShare = 0.1
    fine_tune_epochs: Natural = 0
    fine_tune_rate: Positive = 0.1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32", "bf16"] = "auto"
    devices: Count = 1
    num_nodes: Count = 1
    compile: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.representations if name not in REPRESENTATIONS]
        check(
            bool(self.representations) and not unknown,
            f"representations must be some of {', '.join(REPRESENTATIONS)},"
            f" but got {list(self.representations)}",
        )
        world = self.devices * self.num_nodes
        check(
            self.batch_size % world == 0,
            f"batch_size {self.batch_size} must be a multiple of the {world} processes",
        )

    def loss_in(self, epoch: int) -> LossName:
        """The loss of an epoch."""
        last = self.final_loss is not None and epoch >= self.epochs * (1 - self.final_share)
        return self.final_loss if last and self.final_loss is not None else self.loss
