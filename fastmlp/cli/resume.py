"""What ``fastmlp train --resume`` adds to the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastmlp.cli.output import note, print_fields, print_json
from fastmlp.resumption import RunFinishedError


def resume_command(run: Path) -> str:
    """Return the command that goes on with a run, ready to be pasted."""
    return f"fastmlp train --resume {shlex.quote(str(run))}"


def given_settings(ctx: click.Context, settings: dict[str, Any]) -> dict[str, Any]:
    """Return those settings that were given on the command line; what stands in the environment is for new runs."""
    parameters = {"shuffle": "no_shuffle", "restore_best": "keep_last"}
    return {
        name: value
        for name, value in settings.items()
        if ctx.get_parameter_source(parameters.get(name, name)) is click.core.ParameterSource.COMMANDLINE
    }


def check_no_new_run(ctx: click.Context) -> None:
    """Refuse options that are about a new run folder."""
    for name in ("output", "force"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.BadParameter(
                "is for new runs; --resume goes on in the folder of the run", param_hint=f"--{name}"
            )


def report_finished(finished: RunFinishedError, *, as_json: bool, quiet: bool) -> None:
    """Say that there is nothing left to do, and the result once more."""
    found = finished.record.get("result")
    result = found if isinstance(found, dict) else {}
    if not quiet:
        note(str(finished))
    if as_json:
        print_json({"command": "train", "run": finished.run, "status": finished.record["status"], **result})
    else:
        print_fields([("Status", str(finished.record["status"])), ("Run folder", str(finished.run))])
