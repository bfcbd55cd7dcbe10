"""The command line: each command calls one function and prints what it returns."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ensemble.cli import console, tables
from ensemble.cli.data import compare, describe, explore
from ensemble.cli.main import main as main
from ensemble.evaluation.leaderboard import load_leaderboard
from ensemble.experiment.experiment import load_experiment
from ensemble.experiment.folder import RunFolder
from ensemble.inference.submission import score_files
from ensemble.runs.pipeline import open_run, run_experiment, submit_run, write_members
from ensemble.runs.planner import parse_memory, plan_run
from ensemble.runs.tune import tune_model
from features.core.errors import ClimstackError
from features.schemas.known import load_schema
from features.scoring.metric import load_metric
from features.sources.source import parse_broken
from features.store.check import check_data
from features.store.conversion import convert

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Trees and networks over shared folds, tuned and stacked, for tables with many targets.",
)
data = typer.Typer(no_args_is_help=True, help="Generate, convert, check, explore and compare data.")
app.add_typer(data, name="data")

MOST = 10**7  # timesteps or grid columns: more is a slip of the finger
ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT.toml", show_default=False)]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", show_default=False)]
Runs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
SchemaName = Annotated[str, typer.Option("--schema", help="Schema of the columns.")]
Grid = Annotated[
    int | None,
    typer.Option("--grid-columns", max=MOST, help="Rows per timestep, if not the schema's."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="COLUMN", help="A column that is not read; * stands for any letters."
    ),
]
Broken = Annotated[str, typer.Option(help="NetCDF pairs that can't be read: refuse or skip.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"climstack {version('climstack')}")
        raise typer.Exit


@app.callback()
def _top(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Trees and networks over shared folds, tuned and stacked, for tables with many targets."""


@app.command()
def demo(out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/demo")) -> None:
    """Run the whole job on generated data.

    Example: climstack demo --out runs/demo
    """
    from ensemble.runs.demo import run_demo

    with console.progress() as report:
        result = run_demo(out, report)
    tables.show_leaderboard(
        result.leaderboard, score=load_metric("leap").title(load_schema("leap"))
    )
    chosen = next(row for row in result.leaderboard if row["chosen"])
    if chosen["blend"]:
        console.out.print(
            f"The blend gains {chosen['gain']:+.4f} honestly over its best member"
            f" ({chosen['best_member']})."
        )
    console.out.print(f"Score of the submission on the generated test set: {result.test_score:.4f}")
    run = RunFolder(result.folder)
    for file in (run.report, run.submission, run.leaderboard, run.blend):
        console.out.print(f"  {file}", soft_wrap=True)


@data.command("generate")
def generate(
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False)],
    timesteps: Annotated[int, typer.Option(min=1, max=MOST, help="Stored timesteps.")] = 80,
    columns: Annotated[int, typer.Option(min=1, max=MOST, help="Columns of the grid.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
) -> None:
    """Write train, test, sample_submission and solution files of simulated columns of air.

    Example: climstack data generate generated --timesteps 80 --columns 96 --seed 0
    """
    from features.synthetic import write_dataset

    there = sorted(out.glob("*.parquet"))
    if there:
        raise ClimstackError(f"{there[0]} exists: give another folder or delete it first")
    for path in write_dataset(out, timesteps, columns, seed).values():
        console.out.print(str(path), soft_wrap=True)


@data.command("convert")
def convert_command(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", show_default=False)],
    out: Annotated[Path, typer.Option(help="The store's folder.")],
    schema: SchemaName = "leap",
    grid_columns: Grid = None,
    memory_limit: Annotated[
        str, typer.Option(help="Memory that converting may take, as 2GB or 800MB.")
    ] = "2GB",
    broken: Broken = "refuse",
    grid: Annotated[Path | None, typer.Option(help="Grid file to keep with the store.")] = None,
    ignore: Ignore = None,
) -> None:
    """Turn CSV, Parquet and folders of NetCDF pairs into a store; a rerun goes on.

    Example: climstack data convert train.csv.gz --out stores/train --memory-limit 2GB
    """
    with console.byte_progress() as report:
        store = convert(
            sources,
            out,
            load_schema(schema),
            grid_columns,
            memory_limit_mb=parse_memory(memory_limit),
            broken=parse_broken(broken),
            grid=grid,
            ignore=ignore or (),
            progress=report,
        )
    tables.show_converted(store)


@data.command("check")
def check(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", show_default=False)],
    schema: SchemaName = "leap",
    grid_columns: Grid = None,
    broken: Broken = "refuse",
    ignore: Ignore = None,
) -> None:
    """Say what is wrong with tables, folders of NetCDF pairs or stores; exit 1 if it is an error.

    Example: climstack data check train.csv
    """
    with console.byte_progress() as report:
        findings = check_data(
            sources,
            load_schema(schema),
            grid_columns,
            broken=parse_broken(broken),
            ignore=ignore or (),
            progress=report,
        )
    tables.show_findings(findings)
    errors = sum(finding.level == "error" for finding in findings)
    console.out.print(f"errors: {errors}, other findings: {len(findings) - errors}")
    if errors:
        raise typer.Exit(1)


data.command("describe")(describe)
data.command("explore")(explore)
data.command("compare")(compare)


@app.command()
def run(
    experiment: ExperimentFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take.")
    ] = False,
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory that fits may take, as 2GB or 800MB.")
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Folds, all models, stack, leaderboard, report, submission; a rerun resumes.

    Example: climstack run configs/leap_real.toml --dry-run
    """
    settings = load_experiment(experiment)
    limit_mb = None if memory_limit is None else parse_memory(memory_limit)
    if dry_run:
        tables.show_plan(plan_run(settings, runs, limit_mb))
        return
    with console.progress() as report:
        rows = run_experiment(settings, runs, report, limit_mb)
    tables.show_leaderboard(rows, score=settings.metric.title(settings.schema))
    console.out.print(f"Everything is in {runs / settings.name}", soft_wrap=True)


@app.command()
def fit(
    experiment: ExperimentFile,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    fold: Annotated[int | None, typer.Option(help="Only this fold.")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Fit models on the folds, without stacking.

    Example: climstack fit configs/leap_real.toml --model lightgbm --fold 0
    """
    settings = load_experiment(experiment)
    with console.progress() as report, open_run(settings, runs / settings.name, report) as opened:
        members = opened.fit(model, fold)
    for member in members:
        n_cells = sum(map(len, member.cells))
        console.out.print(
            f"{member.spec.name}: {member.computed} cells fitted, {n_cells - member.computed}"
            " were there"
        )


@app.command()
def tune(
    experiment: ExperimentFile,
    model: Annotated[str, typer.Option(help="The base learner to tune.", show_default=False)],
    trials: Annotated[int, typer.Option(help="Trials in all, the first with the defaults.")] = 25,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(help="Database URL that machines share; by default study.db in the run."),
    ] = None,
    clusters: Annotated[int, typer.Option(help="Clusters of targets.")] = 8,
    representatives: Annotated[int, typer.Option(help="Targets tuned in each.")] = 2,
    folds: Annotated[
        int | None, typer.Option(help="Folds to score on; all but the last if not given.")
    ] = None,
    finalists: Annotated[
        int, typer.Option(help="Best trials that all targets choose among in the end.")
    ] = 1,
    new_study: Annotated[
        bool, typer.Option("--new-study", help="Start another where data or ranges changed.")
    ] = False,
    as_json: AsJson = False,
    runs: Runs = Path("runs"),
) -> None:
    """Search a model's parameters on the experiment's folds; a rerun goes on.

    Example: climstack tune configs/leap_real.toml --model lightgbm --trials 25 --workers 2
    """
    from tuning import TuneSettings

    settings = load_experiment(experiment, tuned=False)
    how = TuneSettings(
        n_trials=trials,
        workers=workers,
        storage=storage,
        new_study=new_study,
        n_clusters=clusters,
        n_representatives=representatives,
        n_folds=folds,
        seed=settings.seed,
        n_finalists=finalists,
    )
    with console.progress() as report:
        found = tune_model(settings, model, how, runs, report)
    if as_json:
        typer.echo(json.dumps(found.to_table(), indent=2))
    else:
        tables.show_tuning(found)


@app.command()
def stack(experiment: ExperimentFile, runs: Runs = Path("runs")) -> None:
    """Blend the out-of-fold predictions, fitting only what is missing.

    Example: climstack stack configs/leap_real.toml
    """
    settings = load_experiment(experiment)
    with console.progress() as report, open_run(settings, runs / settings.name, report) as opened:
        rows = opened.stack()
    tables.show_leaderboard(rows, score=settings.metric.title(settings.schema))


@app.command()
def leaderboard(
    run: RunPath,
    sort: Annotated[str, typer.Option(help="Column to sort by.")] = "honest",
    by: Annotated[str, typer.Option(help="fold or group: their scores instead.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show a run's leaderboard.

    Example: climstack leaderboard runs/demo --by group --sort model
    """
    rows = load_leaderboard(run)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        settings = load_experiment(RunFolder(run).experiment)
        score = settings.metric.title(settings.schema)
        tables.show_leaderboard(rows, sort, by, score=score)


@app.command()
def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="By default report.html in the run.")
    ] = None,
) -> None:
    """Write a finished run's report: one HTML file that needs nothing else.

    Example: climstack report runs/demo --out demo.html
    """
    from ensemble.report import write_report

    with console.progress() as shown:
        file = write_report(run, out, shown)
    console.out.print(f"{file} written", soft_wrap=True)


@app.command()
def submit(
    run: RunPath,
    out: Annotated[Path, typer.Option(help="FILE.parquet or FILE.csv")],
    test: Annotated[Path | None, typer.Option(help="Rows to predict, if not the run's.")] = None,
    sample_submission: Annotated[
        Path | None, typer.Option(help="File whose ids and row order to take.")
    ] = None,
    intervals: Annotated[
        Path | None, typer.Option(help="FILE.parquet for the ends of prediction intervals.")
    ] = None,
) -> None:
    """Predict test rows with a run's models and blend.

    Example: climstack submit runs/demo --test test.csv --out submission.csv
    """
    with console.progress() as report:
        submit_run(
            run,
            out,
            test=test,
            sample_submission=sample_submission,
            intervals=intervals,
            progress=report,
        )
    for written in (out, intervals):
        if written is not None:
            console.out.print(f"{written} written", soft_wrap=True)


@app.command()
def members(
    run: RunPath,
    out: Annotated[Path, typer.Option(help="FILE.parquet or FILE.csv for held-out rows.")],
    test: Annotated[
        Path | None, typer.Option(help="FILE.parquet or FILE.csv for the run's test rows, too.")
    ] = None,
    member: Annotated[
        list[str] | None, typer.Option(help="Only this member; may be given again.")
    ] = None,
) -> None:
    """Write members' out-of-fold predictions, to blend them elsewhere.

    Columns are the id, fold and, of one member, its targets: a model of family external reads
    that. Of several members the columns are called MEMBER/TARGET.

    Example: climstack members runs/demo --member ridge --out oof.parquet --test test.parquet
    """
    with console.progress() as report:
        write_members(run, out, test=test, names=member or (), progress=report)
    for written in (out, test):
        if written is not None:
            console.out.print(f"{written} written", soft_wrap=True)


@app.command()
def score(
    submission: Annotated[Path, typer.Argument(metavar="SUBMISSION", show_default=False)],
    solution: Annotated[Path, typer.Argument(metavar="SOLUTION", show_default=False)],
    weights: Annotated[
        Path | None, typer.Option(help="Sample submission with the weights, if not 0/1.")
    ] = None,
    schema: SchemaName = "leap",
    as_json: AsJson = False,
) -> None:
    """Score a submission: the mean R2 over the schema's targets, LEAP's exact metric.

    Example: climstack score submission.parquet solution.parquet
    """
    known = load_schema(schema)
    r2 = score_files(submission, solution, known, weights)
    value = float(np.mean(list(r2.values())))
    if as_json:
        name = f"mean R2 over {len(r2)} targets, weight 0 counts 1"
        name = load_metric("leap").title(known) if known.metric == "leap" else name
        typer.echo(json.dumps({"score": value, "name": name, "r2": r2}, indent=2))
    else:
        typer.echo(repr(value))
