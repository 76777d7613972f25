"""How commands print: one JSON document or aligned columns on stdout, notes on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from fastmlp.runs import json_ready, network_name

SCHEMA_VERSION = 1


def printable(text: str) -> str:
    """Return `text` safe to show on a terminal: control characters and undecodable bytes escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document with the version of its schema; numbers that are not finite become null."""
    click.echo(json.dumps(json_ready({"schema_version": SCHEMA_VERSION} | document), indent=2, allow_nan=False))


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(click.style(f"{name:<{width}}", fg="cyan") + f"  {printable(value)}")


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are text and start at the left, the others are numbers.

    Parameters
    ----------
    header : sequence of str
        Names of the columns.
    rows : sequence of sequences of str
        The cells.
    left : int, default 1
        Number of text columns.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in [list(header), *cells]) for index in range(len(header))]
    for line, row in enumerate([list(header), *cells]):
        text = "  ".join(
            f"{cell:<{width}}" if index < left else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        click.echo(click.style(text, bold=True) if line == 0 else text)


def describe_network(layers: Sequence[int], activation: str) -> str:
    """Return "784-64-10, relu", or "784-10, softmax regression" without a hidden layer."""
    return f"{network_name(layers)}, {activation if len(layers) > 2 else 'softmax regression'}"


def hush_matplotlib() -> None:
    """Keep matplotlib's remarks about its own cache out of our messages."""
    import logging

    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def note(text: str) -> None:
    """Tell something on stderr."""
    tell(printable(text))


def tell(line: str, *, color: bool | None = None) -> None:
    """Print a line on stderr as it is; nobody reading it (a full disk, a closed pipe) is no reason to stop."""
    try:
        click.echo(line, err=True, color=color)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO | None) -> None:
    """Send what is left in a stream's buffer, and all that comes, nowhere: Python would fail at exit otherwise."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        assert stream is not None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def percent(fraction: float) -> str:
    """Return "97.93 %"; "-" where undefined."""
    return "-" if fraction != fraction else f"{100 * fraction:.2f} %"


def seconds(value: float) -> str:
    """Return a time in the unit people would use: "0.42 s", "12.3 s", "3 min 05 s"."""
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
