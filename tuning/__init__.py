"""How settings are found: Optuna studies over the shared folds."""

from typing import TYPE_CHECKING

from features.core.lazy import attach

if TYPE_CHECKING:
    from tuning.clusters import Cluster, cluster_targets
    from tuning.result import Choice, Gain, TuneResult
    from tuning.settings import TuneSettings
    from tuning.space import Space
    from tuning.study import tune

__all__ = [
    "Choice",
    "Cluster",
    "Gain",
    "Space",
    "TuneResult",
    "TuneSettings",
    "cluster_targets",
    "tune",
]

__getattr__, __dir__ = attach(__name__, __file__)
