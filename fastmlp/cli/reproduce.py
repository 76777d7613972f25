"""``fastmlp reproduce``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastmlp.cli.base import Command
from fastmlp.cli.interrupts import Interrupts
from fastmlp.cli.live import preferences_of
from fastmlp.cli.mistakes import BAR_MISSED, INTERRUPTED
from fastmlp.cli.options import DATA, OUTPUT, TRAINING, data_option, force_option, json_option, option
from fastmlp.cli.output import hush_matplotlib, note, print_columns, print_fields, print_json, seconds
from fastmlp.cli.types import Threads, WholeNumber
from fastmlp.report.experiments import EXPERIMENTS, Experiment, ExperimentError, Protocol, choose
from fastmlp.runs import RunFolderError

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.report.findings import Findings
    from fastmlp.report.plan import Plan
    from fastmlp.report.speed import SpeedUp

EXPERIMENT = "Experiments"
_FEWEST_SAMPLES = Protocol.batch_size * Protocol.validations_per_epoch


@click.command(
    cls=Command,
    examples=[
        ("fastmlp reproduce", "everything, five seeds"),
        ("fastmlp reproduce --seeds 1", "a first look"),
        ("fastmlp reproduce --only task3,two-layers", "one task and one experiment"),
        ("fastmlp reproduce --list", "what there is"),
        ("fastmlp reproduce --experiments mine.toml --only own", "experiments of your own"),
        ("fastmlp reproduce --resume", "go on where it was interrupted"),
    ],
)
@option(
    EXPERIMENT,
    "--only",
    metavar="NAME,..",
    help="Only these experiments and tasks (task2, task3, task4, own).",
)
@option(
    EXPERIMENT,
    "--experiments",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Add the experiments of a TOML file.",
)
@option(EXPERIMENT, "--list", "only_list", is_flag=True, help="List the experiments and do nothing else.")
@option(TRAINING, "--seeds", type=WholeNumber(1, 1000), default=5, help="Trainings of each experiment.")
@option(
    TRAINING,
    "--epochs",
    "-e",
    type=WholeNumber(1, 100_000),
    default=Protocol.epochs,
    help="Most epochs of a training; early stopping ends most of them sooner.",
)
@option(
    TRAINING,
    "--jobs",
    "-j",
    type=Threads(),
    default="auto",
    help="Trainings at a time; auto: one per CPU. Any number gives the same results.",
)
@option(TRAINING, "--baseline", is_flag=True, help="Train the default network with plain NumPy, too, and compare.")
@data_option()
@option(
    DATA,
    "--n-train",
    type=WholeNumber(_FEWEST_SAMPLES),
    default=Protocol.n_train,
    help="Use the first N training samples only.",
)
@option(
    OUTPUT,
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default="report",
    help="Folder of the report.",
)
@force_option()
@option(OUTPUT, "--resume", is_flag=True, help="Keep the results of an earlier run and do what is left.")
@json_option()
@option(OUTPUT, "--quiet", "-q", is_flag=True, help="No progress and no notes, only the result and errors.")
@click.pass_context
def reproduce(
    ctx: click.Context,
    /,
    only: str | None,
    file: Path | None,
    only_list: bool,
    seeds: int,
    epochs: int,
    jobs: int | None,
    baseline: bool,
    data: str,
    n_train: int,
    output: Path,
    force: bool,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the course assignment that fastmlp began as and write a report.

    Every experiment of the assignment is trained with several seeds; the report (index.html, self-contained)
    has the figures and numbers of each, and a verdict on each of the original's nine claims.

    Ctrl-C stops it; --resume goes on with what is left. The exit code is 3 if a gradient check fails.
    """
    hush_matplotlib()
    experiments = _chosen(ctx, only, file)
    if only_list:
        _list(experiments, as_json=as_json)
        return
    if force and resume:
        raise click.UsageError("--force: cannot be combined with --resume")
    if not output.name.isprintable() or str(output) == "-":
        raise click.BadParameter(f"is not a name for a folder (got {str(output)!r})", param_hint="--output")
    plan, dataset = _plan(experiments, seeds, Protocol(n_train=n_train, epochs=epochs), data, output, jobs)
    findings, speed_up = _run(ctx, plan, dataset, force=force, resume=resume, baseline=baseline, quiet=quiet)
    page = output / "index.html"
    if as_json:
        print_json({"command": "reproduce", "report": page, **_document(findings, speed_up)})
    else:
        _print(findings, speed_up, page)
    passed = all(check["passed"] for check in findings.results.gradients.values())
    ctx.exit(0 if passed else BAR_MISSED)


def _chosen(ctx: click.Context, only: str | None, file: Path | None) -> dict[str, Experiment]:
    """Return the experiments that are asked for."""
    experiments = dict(EXPERIMENTS)
    if file is not None:
        from fastmlp.report.experiment_file import read_experiments

        try:
            experiments |= read_experiments(file)
        except ExperimentError as error:
            raise click.BadParameter(str(error), ctx, param_hint="--experiments") from error
    words = [word.strip() for word in only.split(",")] if only is not None else []
    try:
        return choose(words, experiments)
    except ExperimentError as error:
        hint = "; a file given to --experiments adds some" if "own" in words and file is None else ""
        raise click.BadParameter(f"{error}{hint}", ctx, param_hint="--only") from error


def _list(experiments: Mapping[str, Experiment], *, as_json: bool) -> None:
    """Show the experiments."""
    if as_json:
        print_json({"command": "reproduce", "experiments": [dataclasses.asdict(e) for e in experiments.values()]})
        return
    rows = [
        (
            experiment.name,
            " ".join(experiment.tasks),
            _layers(experiment.layers),
            experiment.activation,
            experiment.init,
            f"{experiment.learning_rate:g}",
            f"{experiment.momentum:g}",
        )
        for experiment in experiments.values()
    ]
    print_columns(("experiment", "tasks", "hidden layers", "activation", "init", "lr", "momentum"), rows, left=5)


def _layers(layers: tuple[int, ...]) -> str:
    if len(layers) > 3 and len(set(layers)) == 1:
        return f"{len(layers)} of {layers[0]}"
    return ",".join(map(str, layers)) or "none"


def _plan(
    experiments: Mapping[str, Experiment],
    seeds: int,
    protocol: Protocol,
    data: str,
    output: Path,
    jobs: int | None,
) -> tuple[Plan, Dataset]:
    """Load the data and decide how many trainings run at a time, with how many threads each."""
    from fastmlp.datasets import load_dataset
    from fastmlp.report.plan import Plan
    from fastmlp.system import usable_cpus

    try:
        dataset = load_dataset(data, n_train=protocol.n_train)
    except ValueError as error:
        if str(error).startswith("n_train"):
            raise click.BadParameter(str(error).removeprefix("n_train "), param_hint="--n-train") from error
        raise
    workers = jobs or usable_cpus()
    threads = None if workers == 1 else max(1, usable_cpus() // workers)
    return Plan(experiments, seeds, protocol, data, output, workers, threads), dataset


def _run(
    ctx: click.Context,
    plan: Plan,
    dataset: Dataset,
    *,
    force: bool,
    resume: bool,
    baseline: bool,
    quiet: bool,
) -> tuple[Findings, SpeedUp | None]:
    """Do the work and write the report."""
    from fastmlp.cli.reproduction_display import ReproductionDisplay
    from fastmlp.report import runner

    try:
        lock = runner.claim_folder(plan.folder, force=force, resume=resume)
    except RunFolderError as error:
        hint = "; use --resume to go on with it, --force to replace it" if "not empty" in str(error) else ""
        raise click.BadParameter(f"{error}{hint}", ctx, param_hint="--output") from error
    with Interrupts() as interrupts:
        display = ReproductionDisplay(preferences_of(ctx), interrupts.check, quiet=quiet)
        try:
            with display:
                results = runner.run(plan, dataset, display, resume=resume)
            speed_up = _compare(plan, dataset, quiet=quiet) if baseline else None
            if not quiet:
                note("drawing the figures ...")
            from fastmlp.report.build import build_report

            return build_report(plan, dataset, results, speed_up), speed_up
        except KeyboardInterrupt:
            if not quiet:
                done, count = display.progress
                note(f"interrupted; {done} of {count} results are kept: go on with --resume")
            ctx.exit(INTERRUPTED)
        finally:
            lock.release()


def _compare(plan: Plan, dataset: Dataset, *, quiet: bool) -> SpeedUp:
    """Time fastmlp and NumPy, alone on the machine."""
    from fastmlp.report.speed import compare_with_numpy

    if not quiet:
        note("training the default network with fastmlp and with NumPy ...")
    return compare_with_numpy(dataset, plan.protocol)


def _document(findings: Findings, speed_up: SpeedUp | None) -> dict[str, object]:
    """Return what is found in terms of JSON."""
    from fastmlp.report.files import claim_document

    return {
        "claims": [claim_document(verdict) for verdict in findings.verdicts],
        "gradient_checks": findings.results.gradients,
        "seconds": findings.results.seconds,
        "numpy": None if speed_up is None else dataclasses.asdict(speed_up) | {"factor": speed_up.factor},
    }


def _print(findings: Findings, speed_up: SpeedUp | None, page: Path) -> None:
    """Print what is found for people."""
    rows = [(str(v.claim.number), v.claim.statement, v.verdict) for v in findings.verdicts]
    print_columns(("", "claim", "verdict"), rows, left=3)
    click.echo()
    records = [record for some in findings.results.trainings.values() for record in some]
    fields = [("Trainings", f"{len(records):,}")]
    if findings.results.seconds is not None:
        fields.append(("Time", seconds(findings.results.seconds)))
    worst = max((check["worst"] for check in findings.results.gradients.values()), default=0.0)
    fields.append(("Gradients", f"differ by {worst:.1e} at most"))
    if speed_up is not None:
        times = f"{seconds(speed_up.seconds)} against {seconds(speed_up.numpy_seconds)}"
        doubt = "; other programs kept the processor busy, so this says little" if speed_up.disturbed else ""
        fields.append(("Speed", f"{speed_up.factor:.1f} times NumPy ({times}){doubt}"))
    print_fields([*fields, ("Report", str(page))])
