"""Figures of the report, drawn from results files only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

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
    axes.plot(
        widths,
        [point["dense_limits"]["all"] for point in points],
        color=_LIMIT,
        linestyle=(0, (5, 3)),
        linewidth=1.4,
    )
    axes.annotate(
        "dense limit: no algorithm that multiplies\nevery pixel can be above this line",
        (widths[-1], points[-1]["dense_limits"]["all"]),
        (0.03, 0.06),
        textcoords="axes fraction",
        color=_LIMIT,
        fontsize=9,
    )
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
    _logarithmic(axes, widths)
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
    _title(
        figure, "fastmlp's training throughput as the work grows (else 784-64-10, batch 32, 20,000 images)"
    )
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, names.items(), strict=True):
        points = result["series"][name]
        ns = [point["n"] for point in points]
        limits = [point["dense_limits"]["all"] for point in points]
        axes.plot(ns, limits, color=_LIMIT, linestyle=(0, (5, 3)), linewidth=1.2, label="dense limit")
        rates = [point["median"]["fastmlp-all"] for point in points]
        axes.plot(
            ns, rates, color=_COLOURS["fastmlp"], marker="o", markersize=4, linewidth=2, label="fastmlp"
        )
        _style(axes)
        _logarithmic(axes, ns if name != "samples" else ns[::2])
        axes.set_ylim(bottom=min(*rates, *limits) / 2, top=max(*rates, *limits) * 2)
        axes.set_xlabel(label)
        axes.set_ylabel("samples per second")
    figure.axes[0].legend(frameon=False, fontsize=9)
    return figure


def speed_up(result: Json) -> Figure:
    """Draw how many times faster fastmlp trains than each peer's best setting, network by network."""
    rows = result["rows"]
    figure, axes = _figure("How many times faster fastmlp trains", 8.0, 0.9 + 0.62 * len(rows))
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
    axes.legend(frameon=False, fontsize=9, loc="lower right", title="against its best setting of")
    return figure


def time_to_accuracy(result: Json) -> Figure:
    """Draw mean test accuracy against training seconds; every point is a whole recipe of its own length."""
    figure, axes = _figure("Test accuracy against training time, full MNIST", 7.2, 4.6)
    axes.axhline(100 * result["target"], color=_LIMIT, linestyle=(0, (5, 3)), linewidth=1.2)
    for name, each in result["results"].items():
        family = name.rsplit("-", 1)[0]
        seconds = [statistics.mean(point["seconds"]) for point in each["points"]]
        means = [100 * statistics.mean(point["accuracy"]) for point in each["points"]]
        low = [100 * min(point["accuracy"]) for point in each["points"]]
        high = [100 * max(point["accuracy"]) for point in each["points"]]
        axes.fill_between(seconds, low, high, color=_COLOURS[family], alpha=0.15, linewidth=0)
        axes.plot(
            seconds, means, color=_COLOURS[family], marker="o", markersize=4, linewidth=2, label=each["title"]
        )
        for point, x, y in zip(each["points"], seconds, means, strict=True):
            axes.annotate(
                str(point["epochs"]), (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7
            )
    _logarithmic(axes, None, only="x")
    axes.set_xlabel("training seconds (numbers: epochs; band: all seeds)")
    axes.set_ylabel("test accuracy, %")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
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


def _logarithmic(axes: Any, ticks: list[int] | None, only: str = "xy") -> None:
    """Use logarithmic axes with plain numbers: 16, 2 k, 1.5 M."""
    for name in only:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.axes.set(**{f"{name}scale": "log"})
        axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        axis.set_minor_formatter(NullFormatter())
    if ticks is not None and "x" in only:
        axes.set_xticks(ticks, [_plain(tick) for tick in ticks])
        axes.minorticks_off()


def _plain(value: float) -> str:
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= unit and (unit > 1e3 or value >= 1e4):
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}" if value < 1 or not math.isclose(value, round(value)) else f"{value:,.0f}"
