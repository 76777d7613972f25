"""Figures drawn from results: training curves, the confusion matrix, and a profile.

Only matplotlib's objects are used, never pyplot: no window system, no global state, safe in any thread.
The colours are Okabe and Ito's, which people with any common colour vision can tell apart; line styles differ
as well.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastmlp.history import History
    from fastmlp.profile_point import Point

_VALIDATION = "#0072B2"  # blue
_TRAINING = "#D55E00"  # vermilion
_TRAINING_LIGHT = "#F3C9AA"
_INK = "#333333"
_GRID = "#E3E3E3"

FIGURE_FORMATS = (".png", ".pdf", ".svg")
AVERAGED_STEPS = 10

_LOG_SCALE_FROM = 20.0  # a loss that falls by this factor cannot be read on a linear axis
_TREND_POINTS = 80  # of the line through a long training loss curve, which by itself is too ragged to read
_MARKERS_UP_TO = 40  # validations; more markers than these would hide the line
_NUMBERS_UP_TO = 20  # classes; more cells than these are too small for a number


def training_curves(history: History, title: str) -> Figure:
    """Draw loss and accuracy against training steps.

    Parameters
    ----------
    history : History
        What `fastmlp.train` returned, complete or not.
    title : str
        The headline, such as the network and its final accuracy.

    Returns
    -------
    Figure
        Two panels, 10 x 4.2 inches. Left: training loss averaged over 10 steps with a band from the smallest
        to the largest of them, and validation loss. Right: training and validation accuracy in percent.
    """
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK, x=0.01, ha="left")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    _draw_losses(loss_axes, history)
    _draw_accuracies(accuracy_axes, history)
    last_step = max(len(history.batch_loss), int(history.step[-1]) if len(history.step) else 0, 1)
    for axes in (loss_axes, accuracy_axes):
        _style(axes)
        axes.set_xlabel(f"Training steps ({history.steps_per_epoch:,} per epoch)")
        axes.set_xlim(0, last_step)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _mark_best(axes, history, last_step)
        if axes.get_legend_handles_labels()[0]:
            corner = "upper right" if axes is loss_axes else "lower right"
            axes.legend(framealpha=0.85, edgecolor="none", labelcolor=_INK, fontsize=10, loc=corner)
    return figure


def _draw_losses(axes: Any, history: History) -> None:
    """Fill the left panel."""
    middle, mean = averaged(history.batch_loss)
    trend_steps = len(history.batch_loss) // _TREND_POINTS // 50 * 50
    has_trend = trend_steps > 0
    if len(mean):
        colour, width = (_TRAINING_LIGHT, 0.7) if has_trend else (_TRAINING, 1.5)
        axes.plot(middle, mean, color=colour, linewidth=width, label=f"Training, mean of {AVERAGED_STEPS} steps")
    if has_trend:
        label = f"Training, mean of {trend_steps:,} steps"
        axes.plot(
            *averaged(history.batch_loss, trend_steps),
            color=_TRAINING,
            linewidth=1.8,
            linestyle="--",
            label=label,
        )
    if len(history.step):
        axes.plot(history.step, history.validation_loss, color=_VALIDATION, label="Validation", **_line(history))
    axes.set_ylabel("Cross-entropy loss")
    axes.set_title("Loss", loc="left", fontsize=11, color=_INK)
    shown = np.concatenate([mean, np.asarray(history.validation_loss, dtype=np.float64)])
    shown = shown[np.isfinite(shown) & (shown > 0)]
    if not len(shown):
        return
    # a few outliers would squeeze everything else
    bottom, top = float(np.quantile(shown, 0.002)), float(np.quantile(shown, 0.999))
    if top / bottom > _LOG_SCALE_FROM:
        axes.set_yscale("log")
        axes.set_ylim(bottom / 1.3, top * 1.3)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, top * 1.1)


def _draw_accuracies(axes: Any, history: History) -> None:
    """Fill the right panel."""
    axes.set_ylabel("Accuracy (%)")
    axes.set_title("Accuracy", loc="left", fontsize=11, color=_INK)
    if not len(history.step):
        axes.text(0.5, 0.5, "no validation", transform=axes.transAxes, ha="center", color=_INK)
        return
    training = 100.0 * np.asarray(history.training_accuracy)
    validation = 100.0 * np.asarray(history.validation_accuracy)
    style = _line(history) | {"linestyle": "--"}
    axes.plot(history.step, training, color=_TRAINING, label="Training", **style)
    axes.plot(history.step, validation, color=_VALIDATION, label="Validation", **_line(history))
    both = np.concatenate([training, validation])
    lowest, highest = float(np.nanmin(both)), float(np.nanmax(both))
    margin = max(0.08 * (highest - lowest), 0.2)
    axes.set_ylim(lowest - margin, highest + margin)


def averaged(
    batch_loss: NDArray[np.float64], steps: int = AVERAGED_STEPS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average a loss curve over runs of `steps` batches; a shorter run at the end counts like the others.

    Parameters
    ----------
    batch_loss : float64 (n_steps,)
        The loss of each batch.
    steps : int, default 10
        Batches per point.

    Returns
    -------
    middle, mean : float64 (ceil(n_steps / steps),)
        Step in the middle of the run (steps count from 1), and the mean loss. Runs with a loss that is not
        finite (the last one of a diverged training) are left out.
    """
    losses = np.asarray(batch_loss, dtype=np.float64)
    starts = np.arange(0, len(losses), steps)
    if not len(starts):
        return losses, losses
    ends = np.minimum(starts + steps, len(losses))
    mean = np.add.reduceat(losses, starts) / (ends - starts)
    finite = np.isfinite(mean)
    return ((starts + 1 + ends) / 2.0)[finite], mean[finite]


def _line(history: History) -> dict[str, Any]:
    """Return the style of a curve with one point per validation."""
    marker = "o" if len(history.step) <= _MARKERS_UP_TO else None
    return {"linewidth": 1.8, "marker": marker, "markersize": 3.5, "clip_on": False, "zorder": 3}


def _mark_best(axes: Any, history: History, last_step: int) -> None:
    """Draw a line where the best validation was, if training went on after it."""
    if history.best_step is not None and 0 < history.best_step < last_step and len(history.step) > 1:
        label = f"Best validation loss, step {history.best_step:,}"
        axes.axvline(history.best_step, color="#777777", linestyle=":", linewidth=1.2, label=label)


def confusion_figure(confusion: NDArray[np.int64], title: str, labels: Sequence[str] | None = None) -> Figure:
    """Draw a confusion matrix in which the errors, not the many right answers, carry the colour.

    Parameters
    ----------
    confusion : int64 (n_classes, n_classes)
        Row: the true class; column: the predicted one.
    title : str
        The headline.
    labels : sequence of str, optional
        Names of the classes; default "0", "1", ...

    Returns
    -------
    Figure
        6.4 x 5.6 inches.
    """
    n_classes = len(confusion)
    names = list(labels) if labels is not None else [str(index) for index in range(n_classes)]
    on_diagonal = np.eye(n_classes, dtype=bool)
    errors = np.ma.masked_array(confusion, mask=on_diagonal)
    largest = max(1, int(np.where(on_diagonal, 0, confusion).max()))

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK)
    axes: Any = figure.subplots()
    axes.set_facecolor("#DDE3E8")  # the diagonal
    image = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=largest)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, label="Wrongly classified samples")
    bar.locator = MaxNLocator(6, integer=True)
    bar.outline.set_visible(False)
    every = max(1, -(-n_classes // 50))
    axes.set_xticks(range(0, n_classes, every), names[::every])
    axes.set_yticks(range(0, n_classes, every), names[::every])
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    axes.tick_params(length=0, colors=_INK)
    for side in axes.spines.values():
        side.set_visible(False)
    if n_classes <= _NUMBERS_UP_TO:
        for row, column in np.argwhere(confusion > 0):
            count = int(confusion[row, column])
            dark = row != column and count > 0.6 * largest
            size = 9 if n_classes <= 10 else 6
            colour = "white" if dark else _INK
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=size, color=colour)
    return figure


def profile_curves(points: Sequence[Point], title: str) -> Figure:
    """Draw speed and share of the machine's peak against the width of the hidden layers.

    Parameters
    ----------
    points : sequence of Point
        One per width and number of threads, each measured at least once in training.
    title : str
        The headline, such as what was measured.

    Returns
    -------
    Figure
        Two panels with logarithmic axes, 10 x 4.8 inches. Left: samples per second in training and prediction,
        and NumPy's in training. Right: dense-equivalent operations as a share of the measured peak.
    """
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK, x=0.01, ha="left")
    speed, share = figure.subplots(1, 2)
    counts = list(dict.fromkeys(point.threads for point in points))
    for count, marker in zip(counts, itertools.cycle("os^Dv"), strict=False):
        rows = [point.to_dict() for point in points if point.threads == count]
        widths = [row["hidden"] for row in rows]
        threads = "1 thread" if count == 1 else f"{count} threads"
        for name, colour, line in (("training", _TRAINING, "-"), ("prediction", _VALIDATION, "--")):
            style = {"color": colour, "linestyle": line, "marker": marker, "markersize": 5, "linewidth": 1.6}
            label = f"{name.capitalize()}, {threads}"
            speed.plot(widths, [row[f"{name}_samples_per_second"] for row in rows], label=label, **style)
            share.plot(widths, [100.0 * row[f"{name}_share_of_peak"] for row in rows], label=label, **style)
    rows = [point.to_dict() for point in points if point.threads == counts[0]]
    numpy_speeds = [row["baseline_samples_per_second"] for row in rows]
    speed.plot([row["hidden"] for row in rows], numpy_speeds, color="#777777", linestyle=":", label="NumPy, training")
    share.axhline(100.0, color="#777777", linewidth=1.2, zorder=1)
    speed.set_title("Samples per second", loc="left", fontsize=11, color=_INK)
    share.set_title("Dense-equivalent share of the peak (%)", loc="left", fontsize=11, color=_INK)
    widths = sorted({point.layers[1] for point in points})
    for axes in (speed, share):
        _style(axes)
        axes.set_xlabel("Hidden units per layer")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(FixedLocator(widths[:: -(-len(widths) // 12)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom / 1.5, top * 1.5)  # so that at least two ticks can be read
    figure.legend(*speed.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _style(axes: Any) -> None:
    """Give a panel its plain look: faint grid, two spines."""
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=10)
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)
    for name in ("left", "bottom"):
        axes.spines[name].set_color("#999999")
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)


def save_figure(
    figure: Figure, path: str | os.PathLike[str], *, file_format: str | None = None, dpi: int = 160
) -> None:
    """Write a figure; the same figure gives the same bytes (no time stamp, no version in the file).

    Parameters
    ----------
    figure : Figure
        What one of the functions above returned.
    path : path
        Where to; overwritten.
    file_format : str, optional
        "png", "pdf" or "svg"; default: from the ending of `path`.
    dpi : int, default 160
        Pixels per inch of a PNG.

    Raises
    ------
    ValueError
        If the format is not one of the three.
    OSError
        If the file cannot be written.
    """
    kind = (file_format or Path(path).suffix.lstrip(".")).lower()
    if f".{kind}" not in FIGURE_FORMATS:
        raise ValueError(f"{path}: figures are written as {', '.join(FIGURE_FORMATS)}")
    dated: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None},
    }
    with rc_context({"svg.hashsalt": "fastmlp"}):  # else the ids in an SVG are random
        figure.savefig(path, format=kind, dpi=dpi, facecolor="white", metadata=dated[kind])
