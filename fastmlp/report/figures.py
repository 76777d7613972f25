"""The figures of the report, at web size, as matplotlib objects.

Positions are fixed instead of computed by a layout engine: all figures of a kind line up, and drawing is fast. The
colours are those of `fastmlp.plots`; ``embedding`` swaps them for the dark page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fastmlp.report.curves import Curve, training_loss_curve, validation_curve
from fastmlp.report.training_record import AVERAGED_STEPS, TrainingRecord

BLUE, VERMILION, INK, MUTED, GRID = "#0072b2", "#d55e00", "#333333", "#767676", "#e3e3e3"

# After Okabe and Ito: without yellow, and with a darker sky and orange, which are too faint on white.
# With the line styles, nine curves can be told apart in grey as well.
COLOURS = ("#333333", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#3498d6", "#bf8400", "#882255", "#767676")
_STYLES = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    "-",
    (0, (5, 1.5)),
    "-",
    (0, (2, 1)),
)

WIDTH, HEIGHT = 4.8, 3.3  # inches: as wide as a phone, where 10 points are 10 pixels
_LEFT, _RIGHT = 0.71, 0.27  # inches beside a panel: for "100.0" and a name, and for half of "12,500"
_BAND_POINTS = 240  # of the band of the training loss, which is smooth enough for so few
_TEXT = 10


def loss_figure(records: Sequence[TrainingRecord]) -> Figure:
    """Draw training and validation loss of an experiment: the mean over the seeds with bands."""
    figure, axes = _panel("Cross-entropy loss", records)
    training, validation = training_loss_curve(records), validation_curve(records, "validation_loss")
    band = _thinned(training)
    axes.fill_between(band.step, band.low, band.high, color=VERMILION, alpha=0.18, linewidth=0)
    axes.plot(
        training.step,
        training.mean,
        color=VERMILION,
        linewidth=0.7,
        label=f"Training, mean of {AVERAGED_STEPS} steps",
    )
    _draw(axes, validation, BLUE, "Validation")
    _mark_stops(axes, records)
    axes.set_ylim(0, _top(records, validation, training))
    axes.legend(loc="upper right", **_legend())
    return figure


def accuracy_figure(records: Sequence[TrainingRecord]) -> Figure:
    """Draw training and validation accuracy of an experiment: the mean over the seeds with bands."""
    figure, axes = _panel("Accuracy (%)", records)
    curves = [_percent(validation_curve(records, f"{part}_accuracy")) for part in ("training", "validation")]
    _draw(axes, curves[0], VERMILION, "Training", linestyle="--")
    _draw(axes, curves[1], BLUE, "Validation")
    _mark_stops(axes, records)
    bottom = _accuracy_bottom(records, curves)
    axes.set_ylim(bottom, 100 + 0.03 * (100 - bottom))
    axes.legend(loc="lower right", **_legend())
    return figure


def comparison_figure(
    records: Mapping[str, Sequence[TrainingRecord]], quantity: str, order: Sequence[str] | None = None
) -> Figure:
    """Draw the mean validation loss or accuracy of several experiments.

    Parameters
    ----------
    records : mapping of str to sequence of TrainingRecord
        What to call each experiment -> its trainings.
    quantity : str
        "validation_loss" or "validation_accuracy".
    order : sequence of str, optional
        All names that figures of a report have in common: an experiment has the same colour in each of these.
        By default the names of `records`.
    """
    order = list(records) if order is None else order
    is_loss = quantity == "validation_loss"
    everything = [record for some in records.values() for record in some]
    # below the panel there is room for the legend
    figure, axes = _panel(
        "Validation loss" if is_loss else "Validation accuracy (%)",
        everything,
        legend_lines=(len(records) + 1) // 2,
    )
    curves = [validation_curve(some, quantity) for some in records.values()]
    if not is_loss:
        curves = [_percent(curve) for curve in curves]
    for label, curve in zip(records, curves, strict=True):
        i = order.index(label)
        _draw_mean(axes, curve, COLOURS[i % len(COLOURS)], label, _STYLES[i % len(_STYLES)])
    if is_loss:
        axes.set_ylim(0, max(_top(some, curve) for some, curve in zip(records.values(), curves, strict=True)))
    else:
        bottom = min(_accuracy_bottom(some, [curve]) for some, curve in zip(records.values(), curves, strict=True))
        axes.set_ylim(bottom, 100)
    figure.legend(loc="lower center", ncols=2, **_legend() | {"fontsize": _TEXT - 1, "handlelength": 2.8})
    return figure


def _panel(label: str, records: Sequence[TrainingRecord], legend_lines: int = 0) -> tuple[Figure, Any]:
    """An empty panel with training steps along it."""
    legend = 0.14 + 0.18 * legend_lines if legend_lines else 0.0
    height = HEIGHT + legend
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    box = (_LEFT / WIDTH, (0.5 + legend) / height, 1 - (_LEFT + _RIGHT) / WIDTH, (HEIGHT - 0.6) / height)
    axes = figure.add_axes(box)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=_TEXT)
    axes.set_ylabel(label, fontsize=_TEXT, color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.set_xlabel(f"Training steps ({records[0].steps_per_epoch:,} per epoch)", fontsize=_TEXT, color=INK)
    axes.set_xlim(0, max(1, *(record.steps for record in records)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure, axes


def _draw(axes: Any, curve: Curve, colour: str, label: str, linestyle: str = "-") -> None:
    """Draw a mean with its band."""
    axes.fill_between(curve.step, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    _draw_mean(axes, curve, colour, label, linestyle)


def _draw_mean(axes: Any, curve: Curve, colour: str, label: str, linestyle: Any) -> None:
    """Draw a mean, fainter where some seeds have stopped: there it is one of others."""
    whole, rest = slice(0, curve.complete), slice(max(curve.complete - 1, 0), None)
    axes.plot(curve.step[whole], curve.mean[whole], color=colour, linewidth=1.5, linestyle=linestyle, label=label)
    if curve.complete < len(curve.step):
        axes.plot(curve.step[rest], curve.mean[rest], color=colour, linewidth=1.2, linestyle=linestyle, alpha=0.5)


def _mark_stops(axes: Any, records: Sequence[TrainingRecord]) -> None:
    """Draw a line where early stopping ended each seed."""
    stops = sorted(record.steps for record in records if record.status == "stopped early")
    for i, step in enumerate(stops):
        label = f"Early stopping ({len(stops)} of {len(records)} seeds)" if i == 0 else None
        axes.axvline(step, color=MUTED, linewidth=1.0, linestyle=":", label=label)


def _top(records: Sequence[TrainingRecord], validation: Curve, training: Curve | None = None) -> float:
    """Where a loss panel ends: the first epoch, whose losses are many times the later ones, may leave it."""
    later = validation.high[validation.step >= records[0].steps_per_epoch]
    shown = [later[np.isfinite(later)]]
    if training is not None:
        batches = training.mean[training.step >= records[0].steps_per_epoch]
        shown.append(batches[np.isfinite(batches)])
    highest = max((float(values.max()) for values in shown if len(values)), default=1.0)
    return 1.3 * highest if highest > 0 else 1.0


def _accuracy_bottom(records: Sequence[TrainingRecord], curves: Sequence[Curve]) -> float:
    """Where an accuracy panel begins: with the first epoch's end, and with at most 99 %."""
    later = [float(np.nanmin(curve.low[curve.step >= records[0].steps_per_epoch], initial=100.0)) for curve in curves]
    lowest = min(later)
    return max(0.0, min(99.0, lowest - 0.25 * (100 - lowest)))


def _percent(curve: Curve) -> Curve:
    return Curve(curve.step, 100 * curve.mean, 100 * curve.low, 100 * curve.high, curve.complete)


def _thinned(curve: Curve) -> Curve:
    """A band of few points, each the mean of its neighbours."""
    every = -(-len(curve.step) // _BAND_POINTS)
    if every <= 1:
        return curve
    starts = np.arange(0, len(curve.step), every)
    counts = np.minimum(starts + every, len(curve.step)) - starts
    step, mean, low, high = (
        np.add.reduceat(values, starts) / counts for values in (curve.step, curve.mean, curve.low, curve.high)
    )
    return Curve(step, mean, low, high, curve.complete)


def _legend() -> dict[str, Any]:
    return {
        "framealpha": 0.85,
        "edgecolor": "none",
        "facecolor": "#ffffff",
        "labelcolor": INK,
        "fontsize": _TEXT,
    }
