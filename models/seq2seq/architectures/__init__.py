"""One file per architecture, found by file name. An architecture knows nothing of training.

A file defines ``Config`` (a frozen dataclass with ``dim``, the width of a level's token),
``PRESETS`` (``tiny``, ``laptop``, ``gpu``: settings of the network and of its training),
``build(config)``, which gives the body: a module from level tokens (batch, n_levels, dim) to level
tokens of the same shape, and ``search_space(trial)``.
"""
