"""Figures of the report, drawn from results files only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.rounds import best, ratios
from bench.sections.base import Json

# Okabe and Ito's colours, which people with any common colour vision can tell apart; one per library,
# everywhere.
_COLOURS = {
    "fastmlp": "#0072B2",
    "jax": "#D55E00",
    "pytorch": "#009E73",
    "numpy-float64": "#CC79A7",
    "scikit-learn": "#E69F00",
}
_LABELS = {
    "fastmlp": "fastmlp",
    "jax": "JAX",
    "pytorch": "PyTorch",
    "numpy-float64": "NumPy float64",
    "scikit-learn": "scikit-learn",
}
_INK, _GRID, _LIMIT = "#333333", "#E3E3E3", "#777777"
_LIMIT_LINE: dict[str, Any] = {"color": _LIMIT, "linestyle": (0, (5, 3)), "linewidth": 1.3}


def draw_all(results: Mapping[str, Json], folder: Path) -> list[Path]:
    """Draw every figure whose results are there; return the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, tuple[str, Callable[[Json], Figure]]] = {
        "throughput-by-width.png": ("growth", throughput_by_width),
        "growth.png": ("growth", growth),
        "speed-up.png": ("training", speed_up),
        "time-to-accuracy.png": ("accuracy", time_to_accuracy),
    }
    written = []
    for name, (section, draw) in wanted.items():
        if section in results:
            draw(results[section]).savefig(folder / name, dpi=150, metadata={"Software": None})
            written.append(folder / name)
    return written


def throughput_by_width(result: Json) -> Figure:
    """Draw samples/s in training against the hidden width, with the dense limit of all threads."""
    figure, axes = _figure("Training throughput, 784-n-10, batch 32, MNIST", 7.2, 4.6)
    points = result["series"]["width"]
    widths = [point["n"] for point in points]
    styles = {"fastmlp-all": "-", "fastmlp-1": ":", "jax-all": "-", "pytorch-all": "-"}
    for name, style in styles.items():
        if name not in points[0]["median"]:
            continue
        family = name.rsplit("-", 1)[0]
        threads = "1 thread" if name.endswith("-1") else "all threads"
        label = f"{_LABELS[family]}, {threads}"
        axes.plot(
            widths,
            [point["median"][name] for point in points],
            style,
            color=_COLOURS[family],
            marker="o",
            markersize=4,
            linewidth=2 if style == "-" else 1.4,
            label=label,
        )
    limits = [point["dense_limits"]["all"] for point in points]
    axes.plot(widths, limits, **_LIMIT_LINE, label="dense limit: every pixel multiplied")
    _logarithmic(axes.xaxis, widths)
    _logarithmic(axes.yaxis)
    axes.set_xlabel("hidden units n")
    axes.set_ylabel("samples per second")
    axes.legend(frameon=False, fontsize=9)
    return figure


def growth(result: Json) -> Figure:
    """Draw fastmlp's samples/s against width, depth, batch size and number of samples."""
    names = {
        "width": "hidden units, one layer",
        "depth": "hidden layers of 64 units",
        "batch size": "batch size",
        "samples": "training samples",
    }
    figure = Figure(figsize=(10.0, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    _title(figure, "fastmlp's training throughput as the work grows (else 784-64-10, batch 32, 20,000 images)")
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, names.items(), strict=True):
        points = result["series"][name]
        ns = [point["n"] for point in points]
        limits = [point["dense_limits"]["all"] for point in points]
        axes.plot(ns, limits, **_LIMIT_LINE, label="dense limit")
        rates = [point["median"]["fastmlp-all"] for point in points]
        axes.plot(ns, rates, color=_COLOURS["fastmlp"], marker="o", markersize=4, linewidth=2, label="fastmlp")
        _style(axes)
        _logarithmic(axes.xaxis, _some(ns))
        _logarithmic(axes.yaxis)
        axes.set_ylim(bottom=min(*rates, *limits) / 2, top=max(*rates, *limits) * 2)
        axes.set_xlabel(label)
        axes.set_ylabel("samples per second")
    figure.axes[0].legend(frameon=False, fontsize=9)
    return figure


def speed_up(result: Json) -> Figure:
    """Draw how many times faster fastmlp trains than each peer's best setting, network by network."""
    rows = result["rows"]
    figure, axes = _figure(
        "How many times faster fastmlp trains than each peer's best setting", 8.0, 0.9 + 0.62 * len(rows)
    )
    families = ("jax", "pytorch", "numpy-float64")
    height = 0.8 / len(families)
    for index, family in enumerate(families):
        for position, row in enumerate(rows):
            rival = best(row["results"], family)
            if rival is None:
                continue
            each = ratios(row["results"]["fastmlp-all"], rival)
            value, place = statistics.median(each), position + (index - 1) * height
            label = _LABELS[family] if position == 0 else None
            axes.barh(place, value, height * 0.9, color=_COLOURS[family], label=label)
            axes.plot([min(each), max(each)], [place, place], color=_INK, linewidth=1)
            axes.text(max(each), place, f" {value:.1f}", va="center", fontsize=8, color=_INK)
    axes.axvline(1, color=_LIMIT, linewidth=1)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
    axes.set_xlabel("median ratio of samples per second; the line spans all rounds")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(families))
    return figure


def time_to_accuracy(result: Json) -> Figure:
    """Draw mean test accuracy against training seconds; every point is a whole recipe of its own length."""
    figure, axes = _figure("Test accuracy against training time, full MNIST", 7.2, 4.6)
    axes.axhline(100 * result["target"], **_LIMIT_LINE)
    for name, each in result["results"].items():
        family = name.rsplit("-", 1)[0]
        seconds = [statistics.mean(point["seconds"]) for point in each["points"]]
        means = [100 * statistics.mean(point["accuracy"]) for point in each["points"]]
        low = [100 * min(point["accuracy"]) for point in each["points"]]
        high = [100 * max(point["accuracy"]) for point in each["points"]]
        axes.fill_between(seconds, low, high, color=_COLOURS[family], alpha=0.15, linewidth=0)
        axes.plot(seconds, means, color=_COLOURS[family], marker="o", markersize=4, linewidth=2)
        for point, x, y in zip(each["points"], seconds, means, strict=True):
            axes.annotate(str(point["epochs"]), (x, y), (-9, 1), textcoords="offset points", fontsize=8)
        start = seconds[0], means[0]
        axes.annotate(_LABELS[family], start, (7, -4), textcoords="offset points", color=_COLOURS[family], fontsize=10)
    _logarithmic(axes.xaxis)
    axes.set_xlabel("training seconds (numbers: epochs; band: all seeds)")
    axes.set_ylabel("test accuracy, %")
    return figure


def _figure(title: str, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    _title(figure, title)
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _title(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=12, fontweight="bold", color=_INK, x=0.01, ha="left")


def _style(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_INK, labelsize=9)


def _logarithmic(axis: Any, ticks: Sequence[int] | None = None) -> None:
    """Make an axis logarithmic, with plain numbers (16, 20 k, 1.5 M) at 1, 2 and 5 or at given places."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if ticks is None else FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))


def _some(numbers: Sequence[int]) -> list[int]:
    """Return those of many numbers that have room on an axis: powers of ten, or every second one."""
    powers = [n for n in numbers if math.log10(n).is_integer()]
    if len(powers) > 2:
        return powers
    return list(numbers[::2] if len(numbers) > 8 else numbers)


def _plain(value: float) -> str:
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= unit and (unit > 1e3 or value >= 1e4):
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}" if value < 1 or not math.isclose(value, round(value)) else f"{value:,.0f}"
