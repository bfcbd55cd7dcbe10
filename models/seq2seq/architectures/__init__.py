"""One file per architecture, found by file name. An architecture knows nothing of training.

A file defines ``Config`` (a frozen dataclass with ``dim``, the width of a level's token),
``PRESETS`` (``tiny``, ``laptop``, ``gpu``: settings of the network and of its training),
``build(config)``, which gives the body: a module from level tokens (batch, n_levels, dim) to level
tokens of the same shape, and ``search_space(trial)``.
"""

from typing import Any

# What the laptop presets share: on some ten thousand rows a network of a million weights learns its
# rows by heart, and these hold it back (docs/networks.md).
LAPTOP: dict[str, Any] = {
    "epochs": 24,
    "batch_size": 32,
    "dropout": 0.1,
    "weight_decay": 0.05,
    "mirror": True,
    "input_noise": 0.1,
    "difference": 0.5,
    "final_loss": "mse",
}
