"""Run facts: what was run, with which versions, on what machine, and how long it took."""

from __future__ import annotations

import json

from ensemble.report.finished import Finished
from features.pages.page import Cell, Section, Table


def facts_section(run: Finished) -> Section:
    """Tables of models, stages, versions, hardware and hashes."""
    facts = run.facts
    models: list[list[Cell]] = [
        [spec.name, spec.family, spec.seed, _brief(spec.params)] for spec in run.experiment.models
    ]
    stages: list[list[Cell]] = [
        [
            stage["stage"],
            stage["began"],
            round(stage["wall_seconds"] / 60, 2),
            round(stage["cpu_seconds"] / 60, 2),
            round(stage.get("cells_cpu_seconds", 0.0) / 60, 2),
            stage.get("cells_computed", 0),
            max(stage["peak_memory_mb"], stage.get("cells_peak_memory_mb", 0)),
        ]
        for stage in facts["stages"]
    ]
    head = [
        "stage", "began, UTC", "wall minutes", "CPU minutes", "CPU minutes of all cells",
        "cells fitted", "peak memory, MB",
    ]  # fmt: skip
    place: list[list[Cell]] = [
        *([name, value] for name, value in facts["hardware"].items()),
        *([f"version of {name}", value] for name, value in facts["versions"].items()),
        ["seed of the folds", run.experiment.seed],
        ["hash of the data", facts["data_hash"]],
        ["hash of the folds", facts["folds_hash"]],
    ]
    return Section(
        "facts",
        "Run facts",
        [
            Table(["model", "family", "seed", "parameters"], models, "Base learners"),
            Table(head, stages, "Stages, every one that was ever run in this folder"),
            Table(["fact", "value"], place, "Versions, machine, hashes"),
        ],
    )


def _brief(params: object) -> str:
    return json.dumps(params, sort_keys=True, default=str).strip("{}").replace('"', "")
