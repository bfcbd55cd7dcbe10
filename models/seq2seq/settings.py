"""What the trainer can be told, for every architecture alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from features.core.settings import check, require
from models.seq2seq.losses import LossName

REPRESENTATIONS = ("level", "variable", "column")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
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

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.1
    clip_norm: float = 1.0
    ema_decay: float = 0.99
    loss: LossName = "smooth_l1"
    beta: float = 0.5
    difference: float = 0.0
    final_loss: LossName | None = None
    final_share: float = 0.25
    confidence: float = 0.0
    mirror: bool = False
    input_noise: float = 0.0
    mixup: float = 0.0
    level_mask: float = 0.0
    representations: tuple[str, ...] = ("level",)
    soft_clip: float = 6.0
    patience: int = 0
    inner_fraction: float = 0.1
    fine_tune_epochs: int = 0
    fine_tune_rate: float = 0.1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32", "bf16"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        require(
            self,
            epochs="[1, inf)",
            batch_size="[1, inf)",
            learning_rate="(0, inf)",
            weight_decay="[0, inf)",
            warmup="[0, 1)",
            clip_norm="(0, inf)",
            ema_decay="[0, 1)",
            beta="(0, inf)",
            difference="[0, inf)",
            final_share="(0, 1)",
            confidence="[0, inf)",
            input_noise="[0, inf)",
            mixup="[0, inf)",
            level_mask="[0, 1)",
            soft_clip="(0, inf)",
            patience="[0, inf)",
            inner_fraction="(0, 0.5)",
            fine_tune_epochs="[0, inf)",
            fine_tune_rate="(0, inf)",
            devices="[1, inf)",
            num_nodes="[1, inf)",
        )
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
