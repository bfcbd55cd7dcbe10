"""How settings are found: the room for Optuna studies, the only one that imports optuna."""

__all__: list[str] = []
