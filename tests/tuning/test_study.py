"""Studies: reproducible, resumable, exactly as many trials as asked for, whoever is killed."""

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import tomli_w

import tuning.study
import tuning.worker
from ensemble import load_experiment
from features import ClimstackError
from features.core.sealed import seal
from models import CellStore, ModelSpec, cross_validate
from tuning import TuneSettings, tune
from tuning.objective import Step, steps_of
from tuning.race import STAKE, finalists, race
from tuning.result import Choice, Gain, choose, gain_of
from tuning.storage import PLACE, fill, open_storage, open_study

TINY = {"preset": "tiny", "epochs": 9, "batch_size": 64, "device": "cpu", "learning_rate": 5e-3}


def rows_of(result, *keys):
    return [tuple(str(row[key]) for key in keys) for row in result.trials]


@pytest.fixture(scope="module")
def done(folded, trees, ranges, quick, tmp_path_factory):
    """A finished study and its folder."""
    folder = tmp_path_factory.mktemp("study") / "run"
    return tune(folded, trees, folder, quick, ranges=ranges), folder


def test_as_many_trials_as_asked_for_and_the_defaults_first(done, trees):
    result, folder = done
    assert [row["place"] for row in result.trials] == list(range(6))
    assert result.trials[0]["params"]["n_rounds"] == 8
    assert result.trials[0]["state"] == "complete"
    assert result.claim.tuned >= result.claim.defaults == result.trials[0]["value"]
    assert 0 < result.cells_fitted < 0.2 * result.cells_full
    assert json.loads((folder / "tuning/trees/study.json").read_text())["adopted"] == result.adopted
    study = optuna.load_study(study_name="run/trees", storage=f"sqlite:///{folder / 'study.db'}")
    assert len(study.trials) == 6


def test_the_same_seed_gives_the_same_trials_twice(done, folded, trees, ranges, quick, tmp_path):
    result, _ = done
    again = tune(folded, trees, tmp_path / "run", quick, ranges=ranges)
    keys = ("place", "state", "value", "params")
    assert rows_of(again, *keys) == rows_of(result, *keys)
    assert again.spec == result.spec
    other = tune(folded, trees, tmp_path / "x", replace(quick, seed=1), ranges=ranges)
    assert rows_of(other, "params")[1:] != rows_of(result, "params")[1:]


def test_more_trials_go_on_with_the_same_study(done, folded, trees, ranges, quick, tmp_path):
    result, folder = done
    shutil.copytree(folder, tmp_path / "run")
    same = tune(folded, trees, tmp_path / "run", quick, ranges=ranges)
    elsewhere = {"best_file": "", "storage": ""}
    assert same.to_table() | elsewhere == result.to_table() | elsewhere
    more = tune(folded, trees, tmp_path / "run", replace(quick, n_trials=8), ranges=ranges)
    assert rows_of(more, "place", "params", "value")[:6] == rows_of(
        result, "place", "params", "value"
    )
    assert len(more.trials) == 8


def test_a_study_that_is_gone_begins_anew_and_says_so(done, folded, trees, ranges, quick, tmp_path):
    result, folder = done
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "study.db").unlink()
    with pytest.warns(UserWarning, match=r"study\.db holds no trial of the study .* begins anew"):
        again = tune(folded, trees, tmp_path / "run", quick, ranges=ranges)
    assert rows_of(again, "value") == rows_of(result, "value")


def test_finished_cells_are_read_not_fitted(done, folded, trees, ranges, quick, tmp_path):
    result, folder = done
    shutil.copytree(folder / "cells", tmp_path / "run" / "cells")
    again = tune(folded, trees, tmp_path / "run", quick, ranges=ranges)
    assert again.cells_fitted == 0
    assert rows_of(again, "value") == rows_of(result, "value")


def test_another_range_is_refused_or_starts_a_new_study(
    done, folded, trees, ranges, quick, tmp_path
):
    _, folder = done
    shutil.copytree(folder, tmp_path / "run")
    other = ranges | {"num_leaves": [4, 20]}
    with pytest.raises(ClimstackError, match=r"was made with other search space.*--new-study"):
        tune(folded, trees, tmp_path / "run", quick, ranges=other)
    slower = ModelSpec(name="trees", family="lightgbm", params=dict(trees.params) | {"max_bin": 15})
    with pytest.raises(ClimstackError, match="was made with other parameters"):
        tune(folded, slower, tmp_path / "run", quick, ranges=ranges)
    fresh = replace(quick, new_study=True, n_trials=3)
    found = tune(folded, trees, tmp_path / "run", fresh, ranges=other)
    assert found.study == "run/trees-2"
    names = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    assert sorted(names) == ["run/trees", "run/trees-2"]
    again = tune(folded, trees, tmp_path / "run", replace(quick, n_trials=3), ranges=other)
    assert again.study == "run/trees-2"


def test_a_tuned_experiment_gives_the_claimed_score_exactly(
    done, folded, store, trees, ranges, quick, generated, tmp_path
):
    """Fitted anew from ``best.toml``, in other cells, all targets at once."""
    result, _ = done
    best = Path(result.best_file)
    text = f"""
name = "tuned"
[data]
train = "{generated["train"]}"
[[models]]
name = "trees"
family = "lightgbm"
tuned = "{best}"
[models.params]
linear_tree = false
"""
    (tmp_path / "tuned.toml").write_text(text)
    spec = load_experiment(tmp_path / "tuned.toml").model("trees")
    if result.adopted == "tuned":
        assert spec.parsed == result.spec.parsed
    clusters = tuning.study._clusters(folded, trees, quick)
    fitted = [target for cluster in clusters for target in cluster.representatives]
    task_steps = tuning.study.steps_of(store, trees, [0, 1], fitted, quick.seed)
    modelled = store.schema.modelled_targets
    representatives = np.array(sorted({t for step in task_steps for t in step.targets}))
    member = cross_validate(
        folded, spec, CellStore(tmp_path / "cells"), targets=modelled[representatives],
        folds=[0, 1],
    )  # fmt: skip
    assert member.computed == 2 * len(representatives)
    r2 = {}
    for fold in (0, 1):
        for served, cell in zip(member.sets, member.cells[fold], strict=True):
            r2[fold, (int(representatives[served[0]]),)] = max(cell.score["r2"][0], 0.0)
    score = float(np.mean([r2[step.fold, step.targets] for step in task_steps]))
    assert score == (result.claim.tuned if result.adopted == "tuned" else result.claim.defaults)


def test_variants_have_their_own_cells_and_resolve_to_the_same_experiment(
    generated, tmp_path, folded, store
):
    text = f"""
name = "variants"
[data]
train = "{generated["train"]}"
[[models]]
family = "lightgbm"
[models.params]
n_rounds = 5
[[models.variants]]
targets = ["ptend_t_45", "cam_out_SOLS"]
[models.variants.params]
n_rounds = 3
"""
    (tmp_path / "a.toml").write_text(text)
    first = load_experiment(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text(first.to_toml())
    assert load_experiment(tmp_path / "b.toml").to_toml() == first.to_toml()
    names = ["ptend_t_45", "ptend_t_46", "cam_out_SOLS"]
    targets = np.array([store.schema.target_columns.index(name) for name in names])
    cells = CellStore(tmp_path / "cells")
    member = cross_validate(folded, first.models[0], cells, targets=targets, folds=[0])
    for n_rounds, served in ((5, [1]), (3, [0, 2])):
        plain = ModelSpec(name="p", family="lightgbm", params={"n_rounds": n_rounds})
        alone = cross_validate(folded, plain, cells, targets=targets[served], folds=[0])
        assert alone.computed == 0
        np.testing.assert_array_equal(alone.oof(0), member.oof(0)[:, served])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ('tuned = "nowhere.toml"', "is not there: run 'climstack tune' with --model lightgbm"),
        ('tuned = "xgb.toml"', "holds parameters of family 'xgboost'"),
        ('tuned = "changed.toml"', "was changed by hand .* write its parameters into the"),
        ("[models.search]\nleaves = [1, 2]", "'leaves' is not searched"),
        ('[[models.variants]]\ntargets = ["ptend_t_1"]\n' * 2, "two variants for ptend_t_1"),
    ],
)  # fmt: skip
def test_bad_experiments_with_tuning(lines, sentence, tmp_path):
    best = seal({"family": "xgboost", "params": {"n_rounds": 50}})
    (tmp_path / "xgb.toml").write_text(tomli_w.dumps(best))
    (tmp_path / "changed.toml").write_text(tomli_w.dumps(best).replace("50", "51"))
    text = f'name = "x"\n[data]\ntrain = "t.csv"\n[[models]]\nfamily = "lightgbm"\n{lines}\n'
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ClimstackError, match=sentence):
        load_experiment(tmp_path / "x.toml")
    if "nowhere" in lines:
        assert load_experiment(tmp_path / "x.toml", tuned=False).models[0].family == "lightgbm"


def test_a_network_is_pruned_by_epochs_and_leaves_nothing_behind(folded, tmp_path):
    spec = ModelSpec(name="net", family="convnext1d", params=TINY)
    ranges = {"dim": [16, 32], "depth": [1, 4], "kernel": [3, 9], "learning_rate": [1e-5, 1e-2]}
    result = tune(
        folded,
        spec,
        tmp_path / "run",
        TuneSettings(n_trials=7, n_folds=1),
        ranges=ranges,
    )
    states = [row["state"] for row in result.trials]
    assert len(states) == 7
    assert "pruned" in states
    steps = [row["steps"] for row in result.trials]
    assert max(steps) == 10  # nine epochs, one fold
    assert min(steps) < 9
    assert not list((tmp_path / "run" / "cells").glob(".*"))
    assert result.cells_full == 7
    assert len(result.choices) == 1


def test_defaults_are_kept_where_the_unseen_fold_knows_better(
    folded, trees, ranges, quick, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        tuning.study, "_worth", lambda *_: Gain(defaults=0.5, tuned=0.4, low=-0.2, high=-0.05)
    )
    found = tune(folded, trees, tmp_path / "run", replace(quick, n_trials=3), ranges=ranges)
    assert found.adopted == "defaults"
    assert found.spec == trees
    assert "n_rounds = 8" in Path(found.best_file).read_text()
    assert "variants" not in Path(found.best_file).read_text()


def test_a_bad_trial_does_not_end_the_study_but_bad_defaults_do(
    folded, trees, ranges, quick, tmp_path, monkeypatch
):
    fit = tuning.objective.Objective._fit

    def fails(place):
        def broken(self, spec, step, key, watch):
            if (spec.params["n_rounds"] == 8) == (place == 0):
                raise ClimstackError("the model is not finite")
            return fit(self, spec, step, key, watch)

        return broken

    monkeypatch.setattr(tuning.objective.Objective, "_fit", fails(1))
    found = tune(folded, trees, tmp_path / "a", replace(quick, n_trials=3), ranges=ranges)
    assert [row["error"] for row in found.trials][1:] == ["the model is not finite"] * 2
    assert found.claim.gain == 0
    monkeypatch.setattr(tuning.objective.Objective, "_fit", fails(0))
    with pytest.raises(ClimstackError, match="not finite"):
        tune(
            folded,
            trees,
            tmp_path / "b",
            replace(quick, n_trials=3),
            ranges=ranges,
        )


def command(store, plan, folder, url, n_trials, n_workers, spec, ranges):
    plan.save(folder / "folds.parquet")
    script = folder / "script.py"
    script.write_text(f"""
import signal
from pathlib import Path
from features import FoldedStore, FoldPlan, Store
from models import ModelSpec
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from tuning import TuneSettings, tune
spec = ModelSpec(name={spec.name!r}, family={spec.family!r}, params={dict(spec.params)!r})
how = TuneSettings(n_trials={n_trials}, workers={n_workers}, storage={url!r}, n_clusters=5,
                   n_representatives=2)
data = FoldedStore(
    Store({str(store.path)!r}), FoldPlan.load(Path({str(folder / "folds.parquet")!r}))
)
tune(data, spec, {str(folder / "run")!r}, how, ranges={ranges!r})
print("done")
""")
    return [sys.executable, script]


def children(process):
    words = ["ps", "--ppid", str(process), "-o", "pid=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, args in lines if "tuning.worker" in args]


def kill_two(parent, storage, study_name):
    """SIGKILL two of the workers, each while it has a trial."""
    rng, killed = random.Random(0), 0
    deadline = time.monotonic() + 120
    while killed < 2 and time.monotonic() < deadline and parent.poll() is None:
        time.sleep(0.2 + rng.random())
        try:
            running = optuna.load_study(study_name=study_name, storage=storage).get_trials(
                states=(optuna.trial.TrialState.RUNNING,)
            )
        except KeyError:
            continue
        owners = {
            int(t.user_attrs["owner"].split(":")[1]) for t in running if "owner" in t.user_attrs
        }
        alive = sorted(owners & set(children(parent.pid)))
        if alive:
            os.kill(rng.choice(alive), signal.SIGKILL)
            killed += 1
    return killed


def check_whole(url, name, n_trials):
    trials = optuna.load_study(study_name=name, storage=open_storage(url)).trials
    states = [trial.state.name for trial in trials]
    ended = [t.user_attrs[PLACE] for t in trials if t.state.name in ("COMPLETE", "PRUNED")]
    assert sorted(ended) == list(range(n_trials)), states
    assert set(states) <= {"COMPLETE", "PRUNED", "FAIL"}
    return states


@pytest.mark.slow
def test_four_workers_two_killed_on_sqlite(store, plan, trees, ranges, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with subprocess.Popen(command(store, plan, tmp_path, url, 16, 4, trees, ranges)) as parent:
        assert kill_two(parent, url, "run/trees") == 2
        assert parent.wait(240) == 0
    assert check_whole(url, "run/trees", 16).count("FAIL") == 2


def test_a_place_is_granted_once(tmp_path):
    """Four processes take forty places from SQLite as fast as they can."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    fill(open_study(open_storage(url), "s", {}), 40, {})
    (tmp_path / "take.py").write_text(f"""
import optuna
from tuning.storage import open_storage, take
study = optuna.load_study(study_name="s", storage=open_storage({url!r}))
while (trial := take(study, 40, {url!r}, lambda _: optuna.samplers.RandomSampler())) is not None:
    print(trial.number)
""")
    words = [sys.executable, tmp_path / "take.py"]
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    taken = [int(number) for worker in workers for number in worker.communicate()[0].split()]
    assert sorted(taken) == list(range(40))


@contextmanager
def postgres(folder):
    """A PostgreSQL server of this test's own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    place = folder / "pg"
    place.mkdir()
    shutil.chown(place, "postgres")
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binaries = found[-1].parent

    def as_postgres(*words):
        subprocess.run(
            ["runuser", "-u", "postgres", "--", *words], check=True, capture_output=True, cwd="/"
        )

    as_postgres(str(binaries / "initdb"), "-D", str(place / "data"), "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {place}"
    log = str(place / "log")
    as_postgres(
        str(binaries / "pg_ctl"), "-D", str(place / "data"), "-o", options, "-l", log, "-w", "start"
    )
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        as_postgres(str(binaries / "pg_ctl"), "-D", str(place / "data"), "-m", "immediate", "stop")


@pytest.mark.slow
def test_four_workers_two_killed_on_postgresql(store, plan, trees, ranges, tmp_path):
    pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
    with postgres(tmp_path) as url:
        with subprocess.Popen(command(store, plan, tmp_path, url, 16, 4, trees, ranges)) as parent:
            assert kill_two(parent, url, "run/trees") == 2
            assert parent.wait(240) == 0
        assert check_whole(url, "run/trees", 16).count("FAIL") == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_study_goes_on(how, done, store, plan, trees, ranges, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    words = command(store, plan, tmp_path, url, 6, 1, trees, ranges)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.1)
            with open_quietly(url) as study:
                if study is not None and any(t.state.name != "WAITING" for t in study.trials):
                    break
        first.send_signal(how)
        assert first.wait(30) != 0
    subprocess.run(words, check=True)
    check_whole(url, "run/trees", 6)
    result, _ = done
    study = optuna.load_study(study_name="run/trees", storage=url)
    ended = {t.user_attrs[PLACE]: t for t in study.trials if t.state.name != "FAIL"}
    assert [str(ended[p].params) for p in range(6)] == [str(r["params"]) for r in result.trials]


@contextmanager
def open_quietly(url):
    try:
        yield optuna.load_study(study_name="run/trees", storage=url)
    except Exception:  # the other process is about to make it
        yield None


def test_a_cluster_gets_its_own_trial_only_where_that_is_clearly_better():
    class Trial:
        def __init__(self, place, values):
            self.params, self.user_attrs = {"p": place}, {PLACE: place}
            self.intermediate_values = dict(enumerate(values))

    steps = [tuning.study.Step(fold, (t,)) for fold in range(4) for t in range(4)]
    first = tuning.study.Cluster([0, 1], [0, 1])
    second = tuning.study.Cluster([2, 3], [2, 3])
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.6, 16)
    own = np.array([step.targets[0] < 2 for step in steps])
    for size, spread, expected in ((0.05, 0.005, 2), (0.001, 0.05, 1)):
        noise = spread * np.tile([1, -1], 8)
        better = np.where(own, base - 0.1, base + size) + noise
        trials = [Trial(0, base), Trial(1, better)]
        choices = choose(trials, steps, [first, second])
        assert len(choices) == expected
        assert choices[0] == Choice([], {"p": 0}, 0)
    assert choose([Trial(0, base), Trial(1, base)], steps, [first, second])[0].place == 0


def test_a_trial_that_somebody_else_added_is_left_alone(
    done, folded, trees, ranges, quick, tmp_path
):
    _, folder = done
    shutil.copytree(folder, tmp_path / "run")
    url = f"sqlite:///{tmp_path / 'run' / 'study.db'}"
    optuna.load_study(study_name="run/trees", storage=url).enqueue_trial({"n_rounds": 5})
    more = tune(folded, trees, tmp_path / "run", replace(quick, n_trials=7), ranges=ranges)
    assert len(more.trials) == 7
    assert [
        t.state.name for t in optuna.load_study(study_name="run/trees", storage=url).trials
    ].count("WAITING") == 1


def test_the_defaults_take_all_steps(folded, trees, ranges, quick, tmp_path, monkeypatch):
    """Even where a pruner would end every trial at once."""
    monkeypatch.setattr(tuning.worker.Task, "pruner", lambda _: optuna.pruners.ThresholdPruner(2.0))
    found = tune(folded, trees, tmp_path / "run", replace(quick, n_trials=3), ranges=ranges)
    assert [row["state"] for row in found.trials] == ["complete", "pruned", "pruned"]
    assert [row["steps"] for row in found.trials] == [20, 1, 1]


def test_interval_of_a_gain_by_hand():
    gain = gain_of(
        np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.2, 0.3, 0.3, 0.4]), np.array([0, 0, 1, 1])
    )
    assert gain.gain == pytest.approx(0.05)
    half = 0.05 * 12.706204736432095  # t with one degree of freedom
    assert (gain.low, gain.high) == (pytest.approx(0.05 - half), pytest.approx(0.05 + half))
    assert gain_of(np.ones(1), np.ones(1), np.zeros(1, int)).low is None


def test_a_changed_trial_or_a_damaged_file_is_seen(done, folded, trees, ranges, quick, tmp_path):
    folder = shutil.copytree(done[1], tmp_path / "run")
    database = folder / "study.db"
    whole = database.read_bytes()
    with sqlite3.connect(database) as opened:
        opened.execute("UPDATE trial_values SET value = value + 0.001")
    with pytest.raises(ClimstackError, match=r"trial \d+ of study 'run/trees' was changed in its"):
        tune(folded, trees, folder, quick, ranges=ranges)
    database.write_bytes(whole.replace(b"FINITE", b"FINITY"))
    with pytest.raises(ClimstackError, match=r"study\.db is damaged or can't be read"):
        tune(folded, trees, folder, quick, ranges=ranges)


def test_a_step_is_one_cell_however_many_targets_a_model_serves(folded, monkeypatch):
    sets = [[0, 1], [2, 3, 4]]
    monkeypatch.setattr("tuning.objective.target_sets", lambda *_: sets)
    spec = ModelSpec(name="joint", family="ridge")
    found = steps_of(folded.store, spec, [0, 1], [], 0)
    assert found == [Step(fold, tuple(served)) for fold in (0, 1) for served in sets]


def test_a_model_that_can_not_be_tuned_says_why(folded, tmp_path):
    base = ModelSpec(name="ridge", family="ridge")
    with pytest.raises(ClimstackError, match="no search space"):
        tune(folded, base, tmp_path)
    rest = ModelSpec(name="rest", family="lightgbm", inputs_from=(base,))
    with pytest.raises(ClimstackError, match="builds on other models"):
        tune(folded, rest, tmp_path)
    with pytest.raises(ClimstackError, match="n_trials"):
        TuneSettings(n_trials=1)
    with pytest.raises(ClimstackError, match=r"storage mysql://\.\.\.@nowhere/x needs a"):
        tune(folded, ModelSpec(name="m", family="lightgbm"), tmp_path,
             TuneSettings(storage="mysql://nobody:secret@nowhere/x"))  # fmt: skip


def test_command_line(generated, tmp_path):
    (tmp_path / "e.toml").write_text(f"""
name = "cli"
[data]
train = "{generated["train"]}"
grid_columns = 16
[folds]
n_folds = 3
[[models]]
name = "trees"
family = "lightgbm"
[models.params]
n_rounds = 8
num_leaves = 7
[models.search]
n_rounds = [4, 16]
num_leaves = [4, 12]
""")
    words = [sys.executable, "-c", "from ensemble.cli.app import main; main()", "tune",
             str(tmp_path / "e.toml"), "--model", "trees", "--trials", "4", "--clusters", "3",
             "--runs", str(tmp_path / "runs")]  # fmt: skip
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "on the unseen fold" in shown.stdout
    assert "(defaults)" in shown.stdout
    assert "Kept" in shown.stdout
    found = json.loads(
        subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout
    )
    assert len(found["trials"]) == 4
    assert Path(found["best_file"]).is_file()
    wrong = subprocess.run(
        [*words[:5], "--model", "tree"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert "has no model 'tree'" in wrong.stderr


def test_finalists_serve_all_steps_together():
    values = np.array([[0.5, 0.5, 0.0], [0.6, 0.5, 0.1], [0.1, 0.1, 0.6], [0.6, 0.4, 0.1]])
    assert finalists(values, 1) == [1]
    assert finalists(values, 2) == [1, 2]
    assert sorted(finalists(values, 9)) == [0, 1, 2, 3]


def test_each_target_keeps_the_finalist_that_serves_it_best(folded, trees, few_targets, tmp_path):
    """One finalist hardly learns: where both fail a target has nothing at stake."""
    few, many = (replace(trees, params=dict(trees.params) | {"n_rounds": n}) for n in (1, 30))
    cells = CellStore(tmp_path)
    winners, fitted = race(
        folded, [few, many], few_targets, [0, 1], cells, n_jobs=1, progress=print
    )
    r2 = np.zeros((2, 2, len(few_targets)))
    for row, spec in enumerate((few, many)):
        member = cross_validate(folded, spec, CellStore(tmp_path / "x"), targets=few_targets,
                                folds=[0, 1])  # fmt: skip
        for fold in (0, 1):
            r2[row, fold] = [max(cell.score["r2"][0], 0) for cell in member.cells[fold]]
    stake = np.ptp(r2[:, 0], axis=0) > STAKE
    mean = np.where(stake, r2.mean(1), r2[:, 0])
    assert winners.tolist() == mean.argmax(0).tolist()
    assert 1 in winners
    assert fitted == 2 * len(few_targets) + 2 * stake.sum()
    again = race(folded, [few, many], few_targets, [0, 1], cells, n_jobs=1, progress=print)
    assert (again[0] == winners).all()
    assert again[1] == 0


def test_targets_get_the_parameters_that_they_chose(
    done, folded, store, trees, ranges, quick, tmp_path, monkeypatch
):
    """The race itself is stood in for: every third target chooses the second finalist."""
    result, folder = done
    shutil.copytree(folder, tmp_path / "run")
    n_targets = len(store.schema.modelled_targets)
    winners = (np.arange(n_targets) % 3 == 0).astype(np.intp)
    specs = []

    def stand_in(data, finalists, *others, **how):
        specs.extend(finalists)
        return winners, 7

    monkeypatch.setattr(tuning.study, "race", stand_in)
    raced = tune(
        folded,
        trees,
        tmp_path / "run",
        replace(quick, n_finalists=2),
        ranges=ranges,
    )
    assert len(specs) == len(raced.choices) == 2
    assert raced.choices[0].params == result.choices[0].params
    assert raced.choices[1].targets == np.flatnonzero(winners).tolist()
    assert raced.choices[1].params != raced.choices[0].params
    assert raced.cells_fitted == result.cells_fitted + 7
    if raced.adopted == "tuned":
        assert [len(variant.targets) for variant in raced.spec.variants] == [winners.sum()]
