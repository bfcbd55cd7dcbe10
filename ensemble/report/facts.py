"""Run facts: what was run, with which versions, on what machine, and how long it took."""

from __future__ import annotations

import json
from typing import Any

from ensemble.report.finished import Finished
from features.pages.page import Parts, Table


def facts(run: Finished) -> Parts:
    """Tables of models, stages, versions, hardware and hashes."""
    known = run.facts
    models = [
        [spec.name, spec.family, spec.seed, _brief(spec.params)] for spec in run.experiment.models
    ]
    stages = [_stage(stage) for stage in known["stages"]]
    place = {
        **known["hardware"],
        **{f"version of {name}": value for name, value in known["versions"].items()},
        "seed of the folds": run.experiment.seed,
        "hash of the data": known["data_hash"],
        "hash of the folds": known["folds_hash"],
    }
    return [
        Table(["model", "family", "seed", "parameters"], models, "Base learners"),
        Table.of_rows(stages, "Stages, every one that was ever run in this folder"),
        Table(["fact", "value"], list(place.items()), "Versions, machine, hashes"),
    ]


def _stage(stage: dict[str, Any]) -> dict[str, object]:
    return {
        "stage": stage["stage"],
        "began, UTC": stage["began"],
        "wall minutes": round(stage["wall_seconds"] / 60, 2),
        "CPU minutes": round(stage["cpu_seconds"] / 60, 2),
        "CPU minutes of all cells": round(stage.get("cells_cpu_seconds", 0.0) / 60, 2),
        "cells fitted": stage.get("cells_computed", 0),
        "peak memory, MB": max(stage["peak_memory_mb"], stage.get("cells_peak_memory_mb", 0)),
    }


def _brief(params: object) -> str:
    return json.dumps(params, sort_keys=True, default=str).strip("{}").replace('"', "")
