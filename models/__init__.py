"""What learns: model families, the fold loop, the out-of-fold store."""

from typing import TYPE_CHECKING

from features.core.lazy import attach

if TYPE_CHECKING:
    from models.base import Family, FitContext, Fitted, FoldData, TableShape
    from models.cross_validation import cross_validate
    from models.diagnostics.adversarial import Comparison, compare_stores
    from models.external import External
    from models.member import Member, cell_keys, read_member
    from models.oof import Cell, CellKey, CellStore, TrainedModel
    from models.spec import ModelSpec, Variant, available_families, load_family

__all__ = [
    "Cell",
    "CellKey",
    "CellStore",
    "Comparison",
    "External",
    "Family",
    "FitContext",
    "Fitted",
    "FoldData",
    "Member",
    "ModelSpec",
    "TableShape",
    "TrainedModel",
    "Variant",
    "available_families",
    "cell_keys",
    "compare_stores",
    "cross_validate",
    "load_family",
    "read_member",
]

__getattr__, __dir__ = attach(__name__, __file__)
