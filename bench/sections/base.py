"""What the sections of the report share: their options, goals with a verdict, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure.

    Attributes
    ----------
    rounds : int
        Alternating rounds of every comparison.
    seconds : float
        A measurement repeats its work until it takes about this long.
    quick : bool
        A few points only, to see that everything works; not for the README.
    with_optional : bool
        Also what is slow to set up, such as compiled PyTorch.
    peaks : dict
        Measured float32 peak in GFLOP/s: "1" and "all" threads.
    """

    rounds: int
    seconds: float
    quick: bool
    with_optional: bool
    peaks: dict[str, float]


@dataclass(frozen=True)
class Goal:
    """A number that was asked for, and what was measured.

    Attributes
    ----------
    what : str
        In words.
    value : float
        Measured.
    must : float or None
        What has to be reached; None where there is an aim only.
    aim : float
        What would be good.
    unit : str
        "x" (times), "%" (the value is a fraction), "s" or "MB".
    at_most : bool
        Whether smaller is better.
    """

    what: str
    value: float
    must: float | None
    aim: float
    unit: str = "x"
    at_most: bool = False

    def reaches(self, bar: float) -> bool:
        """Tell whether the value is as good as a bar; NaN never is."""
        return self.value <= bar if self.at_most else self.value >= bar

    @property
    def verdict(self) -> str:
        """Return "aim", "must", "missed" (the must), or "short" (of an aim without a must)."""
        if self.reaches(self.aim):
            return "aim"
        if self.must is None:
            return "short"
        return "must" if self.reaches(self.must) else "missed"

    def as_json(self) -> Json:
        """Return the goal with its verdict, for the results file."""
        return {**asdict(self), "verdict": self.verdict}


VERDICTS = {"aim": "aim reached", "must": "reached", "short": "short of the aim", "missed": "**missed**"}


def amount(value: float, unit: str, *, more_digits: int = 0) -> str:
    """Return a number with its unit: 5.63 x, 76 %, 0.42 s, 212 MB."""
    if unit == "%":
        return f"{100 * value:.{more_digits}f} %"
    if unit == "MB":
        return f"{value:.{more_digits}f} MB"
    digits = 1 if unit == "x" and value >= 9.95 else 2
    return f"{value:.{digits + more_digits}f} {unit}"


def measured(goal: Json) -> str:
    """Return what was measured for a goal; if it was missed by so little that it looks the same, to more digits."""
    for more_digits in range(4):
        value = amount(goal["value"], goal["unit"], more_digits=more_digits)
        if goal["verdict"] != "missed" or value != amount(goal["must"], goal["unit"], more_digits=more_digits):
            break
    return value


def thousands(rate: float) -> str:
    """Return samples per second in thousands: 1,663 k, 88 k, 8.1 k."""
    return f"{rate / 1e3:,.0f} k" if rate >= 9_950 else f"{rate / 1e3:.1f} k"


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction in percent."""
    return f"{100 * fraction:.{digits}f} %"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers (all columns but the first) to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def goals_table(goals: Sequence[Json]) -> str:
    """Return goals with must, aim, measured value and verdict as a Markdown table."""
    rows = []
    for goal in goals:
        sign = "at most " if goal["at_most"] else ""
        bars = ["" if goal[bar] is None else sign + amount(goal[bar], goal["unit"]) for bar in ("must", "aim")]
        rows.append([goal["what"], *bars, measured(goal), VERDICTS[goal["verdict"]]])
    return table(["goal", "must", "aim", "measured", "verdict"], rows)
