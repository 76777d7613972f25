"""Kinds of option values, stricter than Click's, which let NaN and infinity through, and 1_0 as a number."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # not generic at run time before Click 8.5
    _ParamType = click.ParamType

MOST_LAYERS = 1000
DATA_SETS = ("mnist",)

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([kKmMgGtT])?B?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" if something known is close to `name`, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class WholeNumber(_ParamType):
    """An integer in ASCII digits within limits.

    Parameters
    ----------
    minimum : int
        Smallest value.
    maximum : int, optional
        Largest value.
    """

    name = "N"

    def __init__(self, minimum: int, maximum: int | None = None) -> None:
        self.minimum, self.maximum = minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number or fail with one line."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        number = int(text) if _WHOLE.fullmatch(text) else None
        if number is None or number < self.minimum or (self.maximum is not None and number > self.maximum):
            self.fail(f"must be a whole number {self._range()} (got {text!r})", param, ctx)
        return number

    def _range(self) -> str:
        return f">= {self.minimum}" if self.maximum is None else f"{self.minimum}..{self.maximum}"


class Seed(WholeNumber):
    """A seed: 0..2^32-1."""

    def __init__(self) -> None:
        super().__init__(0, 2**32 - 1)

    def _range(self) -> str:
        return "0..2^32-1"


class FiniteNumber(_ParamType):
    """A decimal number that is neither NaN nor infinite, within limits.

    Parameters
    ----------
    above, at_least, below : float, optional
        Limits: value > above, value >= at_least, value < below.
    """

    name = "X"

    def __init__(
        self, *, above: float | None = None, at_least: float | None = None, below: float | None = None
    ) -> None:
        self.above, self.at_least, self.below = above, at_least, below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number or fail with one line."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number = float(text) if _DECIMAL.fullmatch(text) else math.nan
        if not math.isfinite(number) or not self._contains(number):
            self.fail(f"must be a finite number{self._range()} (got {text!r})", param, ctx)
        return number

    def _contains(self, number: float) -> bool:
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
        )

    def _range(self) -> str:
        limits = [
            f"{sign} {limit:g}"
            for sign, limit in ((">", self.above), (">=", self.at_least), ("<", self.below))
            if limit is not None
        ]
        return f" {' and '.join(limits)}" if limits else ""


class ByteSize(_ParamType):
    """An amount of memory: "4GB", "500 MB", "123456"."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes or fail with one line."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        size = int(float(match[1]) * 1000 ** " kmgt".index((match[2] or " ").lower())) if match else 0
        if size < 1:
            self.fail(f"must be a size such as 500MB or 4GB (got {value!r})", param, ctx)
        return size


class OneOf(_ParamType):
    """One of some names; case, hyphens and spaces do not matter.

    Parameters
    ----------
    names : sequence of str
        What may be chosen.
    aliases : mapping of str to str, optional
        Other names -> the one they stand for.
    """

    name = "choice"

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str] | None = None) -> None:
        self.names, self.aliases = tuple(names), dict(aliases or {})

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - as Click calls it
        """Return "[a|b|c]"."""
        return f"[{'|'.join(self.names)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name or fail with one line."""
        text = re.sub(r"[-\s]+", "_", str(value).strip().lower())
        text = self.aliases.get(text, text)
        if text not in self.names:
            hint = did_you_mean(text, (*self.names, *self.aliases))
            self.fail(f"must be one of {', '.join(self.names)} (got {str(value)!r}){hint}", param, ctx)
        return text

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - as Click calls it
        param: click.Parameter,  # noqa: ARG002 - as Click calls it
        incomplete: str,
    ) -> list[click.shell_completion.CompletionItem]:
        """Offer the names that begin with what was typed."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self.names if name.startswith(incomplete.lower())]


class HiddenLayers(_ParamType):
    """Widths of the hidden layers: "64,64"; "" or "none" for none."""

    name = "N,N,.."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the widths or fail with one line."""
        if isinstance(value, tuple):
            return value
        text = str(value).strip()
        if text.lower() in ("", "none"):
            return ()
        sizes = text.split(",")
        if len(sizes) > MOST_LAYERS:
            self.fail(f"at most {MOST_LAYERS} layers (got {len(sizes)})", param, ctx)
        for size in sizes:
            if not _WHOLE.fullmatch(size.strip()) or int(size) < 1:
                self.fail(
                    f"layer sizes must be whole numbers >= 1, separated by commas (got {size.strip()!r})",
                    param,
                    ctx,
                )
        return tuple(int(size) for size in sizes)


class Threads(_ParamType):
    """A number of threads that this process can run at once, or "auto" for None."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number, None for auto, or fail with one line that names the limit."""
        if value is None or isinstance(value, int):
            return value
        text = str(value).strip().lower()
        if text == "auto":
            return None
        from fastmlp.system import cpu_limits

        try:
            limits = cpu_limits()
        except ValueError as error:
            self.fail(str(error), param, ctx)
        source = min(limits, key=lambda key: limits[key])
        most = limits[source]
        if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= most:
            plural = "CPU" if most == 1 else "CPUs"
            limited = "" if source == "CPU affinity" else f", limited by {source}"
            self.fail(
                f"must be 1..{most} or auto (this process may use {most} {plural}{limited}; got {text!r})",
                param,
                ctx,
            )
        return int(text)


class DataSource(_ParamType):
    """The name of a data set, or a path; whether it can be read the reader will tell."""

    name = "NAME|PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name or path; fail if it is nearly a name but no path."""
        text = str(value)
        if text not in DATA_SETS and not Path(text).exists() and did_you_mean(text, DATA_SETS):
            self.fail(f"no such data set or file: {text!r}{did_you_mean(text, DATA_SETS)}", param, ctx)
        return text


class FigureFile(_ParamType):
    """A file to draw a figure into."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path or fail with one line."""
        path = Path(value)
        endings = (".png", ".pdf", ".svg")
        if path.suffix.lower() not in endings:
            self.fail(f"must end in {', '.join(endings)} (got {str(value)!r})", param, ctx)
        if path.is_dir():
            self.fail(f"is a directory: {path}", param, ctx)
        if not path.absolute().parent.is_dir():
            self.fail(f"no such directory: {path.parent}", param, ctx)
        return path
