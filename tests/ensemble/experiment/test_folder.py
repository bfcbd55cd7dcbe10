import json

import pytest

from ensemble import (
    DataSettings,
    Experiment,
    RunFolder,
    load_leaderboard,
    load_uncertainty,
    plan_run,
    run_experiment,
    submit_run,
)
from ensemble.report import write_report
from features import ClimstackError
from models import ModelSpec


def test_every_file_lies_in_the_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.blend == tmp_path / "run" / "stack" / "blend.json"
    assert run.test_store() == tmp_path / "run" / "store" / "test"
    assert run.test_store("ab") == tmp_path / "run" / "store" / "test-ab"
    assert [file.name for file in run.outputs(2)] == ["fold-0.npy", "fold-1.npy"]
    assert run.read_facts() == {}


def test_a_run_of_an_earlier_version_is_refused_by_one_sentence(tmp_path):
    experiment = Experiment(
        name=tmp_path.name,
        data=DataSettings(train="train.csv"),
        models=(ModelSpec(name="ridge", family="ridge"),),
    )
    (tmp_path / "run.json").write_text(json.dumps({"versions": {"climstack": "0.1.1"}}))
    (tmp_path / "leaderboard.json").write_text("[]")
    for read in (
        load_leaderboard,
        load_uncertainty,
        write_report,
        lambda run: submit_run(run, run / "s.parquet"),
        lambda run: plan_run(experiment, run.parent),
        lambda run: run_experiment(experiment, run.parent),
    ):
        with pytest.raises(ClimstackError, match=r"filled by climstack 0\.1\.1, .* another name"):
            read(tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - {".lock"}
    assert left == {"leaderboard.json", "run.json"}
