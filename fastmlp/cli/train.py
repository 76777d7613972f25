"""``fastmlp train``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastmlp.cli.base import Command
from fastmlp.cli.interrupts import Interrupts
from fastmlp.cli.live import TrainingDisplay, preferences_of, report_compile_time
from fastmlp.cli.mistakes import FAILED, INTERRUPTED
from fastmlp.cli.options import (
    DATA,
    OUTPUT,
    data_option,
    force_option,
    json_option,
    max_bytes_option,
    network_options,
    option,
    training_options,
)
from fastmlp.cli.output import (
    describe_network,
    hush_matplotlib,
    note,
    percent,
    print_fields,
    print_json,
    printable,
    seconds,
    tell,
)
from fastmlp.cli.resume import check_no_new_run, given_settings, report_finished, resume_command
from fastmlp.cli.types import WholeNumber
from fastmlp.errors import FastmlpError
from fastmlp.experiment import Settings, run_training
from fastmlp.resumption import RunFinishedError, resume_training
from fastmlp.runs import RunFolderError

if TYPE_CHECKING:
    from fastmlp.experiment import Outcome
    from fastmlp.training import Progress


@click.command(
    cls=Command,
    examples=[
        ("fastmlp train", "MNIST, one hidden layer"),
        ("fastmlp train --layers 64,64 --epochs 20", "two hidden layers, longer"),
        ('fastmlp train --layers ""', "softmax regression"),
        ("fastmlp train --momentum 0.9 --lr 0.02", "with momentum"),
        ("fastmlp train --epochs 50 --patience 10", "stop when it gets no better"),
        ("fastmlp train --data fashion/ --output runs/fashion", "IDX files in a folder"),
        ("fastmlp train --data table.npz --json", "arrays X and y; result as JSON"),
        ("fastmlp train --checkpoint-every 1", "prepare for a crash or a power cut"),
        ("fastmlp train --resume runs/NAME", "go on after one, or after Ctrl-C"),
    ],
)
@network_options()
@training_options()
@data_option()
@max_bytes_option()
@option(DATA, "--n-train", type=WholeNumber(1), help="Use the first N training samples only.")
@option(
    OUTPUT,
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run folder. Default: a new one under runs/, named after the time and the network.",
)
@force_option()
@option(
    OUTPUT,
    "--checkpoint-every",
    type=WholeNumber(1, 1_000_000),
    metavar="N",
    help="Keep a checkpoint every N epochs. Default: only when interrupted.",
)
@option(
    OUTPUT,
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with the run in this folder, with its settings, to exactly the result it would have had.",
)
@json_option()
@option(OUTPUT, "--quiet", "-q", is_flag=True, help="No progress and no notes, only the result and errors.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    output: Path | None,
    force: bool,
    checkpoint_every: int | None,
    resume: Path | None,
    as_json: bool,
    quiet: bool,
    no_shuffle: bool,
    keep_last: bool,
    **options: Any,
) -> None:
    """Train a network and keep it in a run folder.

    The sizes of the input and the output layer come from the data. The run folder receives the model
    (model.safetensors), the learning curves (history.csv, history.json, curves.png) and a record of all
    settings, versions and the machine (config.json).

    Ctrl-C stops the training and keeps what was learnt. With --resume it goes on from the last complete epoch;
    --threads may be others then, --data may have moved, and with --schedule constant there may be more --epochs.
    """
    hush_matplotlib()
    settings = Settings(shuffle=not no_shuffle, restore_best=not keep_last, **options)
    if resume is None:
        _check_combinations(settings, output)
    else:
        check_no_new_run(ctx)
        changes = given_settings(ctx, dataclasses.asdict(settings))
    try:
        with Interrupts() as interrupts, TrainingDisplay(preferences_of(ctx), quiet=quiet) as display:

            def progress(report: Progress) -> None:
                interrupts.check()
                display(report)

            common: dict[str, Any] = {
                "checkpoint_every": checkpoint_every,
                "progress": progress,
                "tell": display.tell,
            }
            if resume is None:
                outcome = run_training(settings, output=output, overwrite=force, **common)
            else:
                outcome = resume_training(resume, changes, **common)
    except RunFinishedError as finished:
        report_finished(finished, as_json=as_json, quiet=quiet)
        return
    except RunFolderError as error:
        hint = "; use --force to replace its files" if "not empty" in str(error) else ""
        raise click.BadParameter(
            f"{error}{hint}", ctx, param_hint="--output" if resume is None else "--resume"
        ) from error
    except FastmlpError:
        raise
    except ValueError as error:
        raise _as_usage_error(error) from error
    report_compile_time(outcome.history.compile_seconds, quiet=quiet)
    peak = _peak(outcome)
    if as_json:
        print_json({"command": "train", "run": outcome.run, **outcome.summary(), **peak})
    elif outcome.status != "diverged":
        print_fields(_fields(outcome, peak))
    _finish(ctx, outcome, quiet=quiet)


def _as_usage_error(error: ValueError) -> Exception:
    """Return an error about a setting that does not fit the data as one about the option."""
    name, _, rest = str(error).partition(" ")
    if name not in {field.name for field in dataclasses.fields(Settings)}:
        return error
    others = {"learning_rate": "lr", "shuffle": "no-shuffle", "restore_best": "keep-last"}
    return click.BadParameter(rest, param_hint=f"--{others.get(name, name.replace('_', '-'))}")


def _check_combinations(settings: Settings, output: Path | None) -> None:
    """Refuse options that make no sense together, or as the name of a folder."""
    if settings.nesterov and settings.momentum == 0.0:
        raise click.BadParameter("needs --momentum greater than 0", param_hint="--nesterov")
    # a byte that the locale cannot decode is a lone surrogate, which is no letter but does no harm either
    if output is not None and (
        not os.fsencode(output.name).decode(errors="ignore").isprintable() or str(output) == "-"
    ):
        raise click.BadParameter(f"is not a name for a folder (got {str(output)!r})", param_hint="--output")


def _peak(outcome: Outcome) -> dict[str, float]:
    """Measure the peak of the threads that were used, in a moment; nothing for a training that was cut short."""
    if outcome.status in ("interrupted", "diverged"):
        return {}
    from fastmlp.profile_point import training_flops
    from fastmlp.profiling import peak_gflops

    history = outcome.history
    gflops = 1e-9 * training_flops(outcome.network.layers) * history.samples_per_second
    peak = peak_gflops(outcome.settings.dtype, history.threads, seconds=0.05)
    return {"gflops": gflops, "peak_gflops": peak, "share_of_peak": gflops / peak}


def _fields(outcome: Outcome, peak: dict[str, float]) -> list[tuple[str, str]]:
    """Return the result for people."""
    history, network = outcome.history, outcome.network
    epochs = "1 epoch" if history.epochs == 1 else f"{history.epochs} epochs"
    compiling = "from the cache" if history.compile_seconds < 1.0 else "once per version and machine"
    return [
        ("Network", describe_network(network.layers, network.activation)),
        ("Parameters", f"{network.n_parameters:,}"),
        ("Test loss", f"{outcome.test.loss:.4f}"),
        ("Test accuracy", percent(outcome.test.accuracy)),
        ("Training time", f"{seconds(history.training_seconds)} ({epochs})"),
        ("Compile time", f"{seconds(history.compile_seconds)} ({compiling})"),
        ("Speed", f"{history.samples_per_second:,.0f} samples/s"),
        *_peak_fields(peak),
        ("Threads", f"{history.threads}"),
        (
            "Input path",
            f"{history.input_path} ({100 * history.input_density:.0f} % of the inputs are not 0)",
        ),
        ("Run folder", str(outcome.run)),
    ]


def _peak_fields(peak: dict[str, float]) -> list[tuple[str, str]]:
    """Return what the speed is beside what the processor can do; more than all of it where zeros are skipped."""
    if not peak:
        return []
    share, gflops, most = 100.0 * peak["share_of_peak"], peak["gflops"], peak["peak_gflops"]
    text = f"{share:.0f} % ({gflops:,.0f} GFLOP/s of the dense algorithm, peak {most:,.0f})"
    return [("Share of peak", text)]


def _finish(ctx: click.Context, outcome: Outcome, *, quiet: bool) -> None:
    """Leave with the exit code that says how the training ended."""
    if outcome.status == "diverged":
        error = click.style("Error:", fg="red", bold=True)
        tell(f"{error} {outcome.error}. The weights are in {printable(str(outcome.run))}")
        ctx.exit(FAILED)
    if outcome.status == "interrupted":
        if not quiet:
            note(f"interrupted in epoch {outcome.history.epochs + 1}; what was learnt is in {outcome.run}")
            note(f"go on with: {resume_command(outcome.run)}")
        ctx.exit(INTERRUPTED)
