"""What a network looks at and where it errs: first-layer weights and the most confident mistakes, as pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fastmlp.report.figures import INK, WIDTH

if TYPE_CHECKING:
    from fastmlp.datasets import Dataset
    from fastmlp.network import Network

MOST_UNITS = 64
MISTAKES = 12

_COLUMNS = 8
_NEGATIVE, _POSITIVE = (
    np.array([0, 114, 178]),
    np.array([213, 94, 0]),
)  # the blue and the vermilion of the figures
_LEVELS = 24  # of each colour: a picture of noise cannot be compressed, but it can be made of few colours
_GAP = np.array([128, 128, 128], np.uint8)


class Mistake(NamedTuple):
    """A sample that a network got wrong.

    Parameters
    ----------
    row : int
        Row of the validation set.
    pixels : uint8 (height, width)
        The picture.
    label, predicted : int
        What it is, and what it was taken for.
    confidence : float
        The probability given to the wrong class.
    """

    row: int
    pixels: NDArray[np.uint8]
    label: int
    predicted: int
    confidence: float


def weight_mosaic(weights: NDArray[Any], image_shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The weights into each unit of the first hidden layer as pictures side by side.

    Parameters
    ----------
    weights : float (n_features, units)
        At most the first 64 units are shown.
    image_shape : (int, int)
        Height and width of a sample.

    Returns
    -------
    uint8 (height, width, 3)
        Blue: negative, white: zero, vermilion: positive; one scale for all, whose end is the 99.5th percentile of the
        absolute values.
    """
    units = min(weights.shape[1], MOST_UNITS)
    shown = weights[:, :units].T.reshape(units, *image_shape)
    largest = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    level = np.round(np.clip(shown / largest, -1, 1) * _LEVELS) / _LEVELS
    ends = np.where(level[..., None] < 0, _NEGATIVE, _POSITIVE)
    coloured = (255 + np.abs(level)[..., None] * (ends - 255)).astype(np.uint8)
    height, width = image_shape
    columns = min(_COLUMNS, units)
    rows = -(-units // columns)
    mosaic = np.empty((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.uint8)
    mosaic[:] = _GAP
    for i, tile in enumerate(coloured):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        mosaic[top : top + height, left : left + width] = tile
    return mosaic


def confident_mistakes(network: Network, dataset: Dataset, count: int = MISTAKES) -> list[Mistake]:
    """The validation samples that were given a wrong class with the highest probability."""
    assert dataset.image_shape is not None
    probabilities = network.predict_proba(dataset.X_test)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(predicted)), predicted]
    wrong = np.flatnonzero(predicted != dataset.y_test)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")[:count]]
    return [
        Mistake(
            int(i),
            as_bytes(dataset.X_test[i]).reshape(dataset.image_shape),
            int(dataset.y_test[i]),
            int(predicted[i]),
            float(confidence[i]),
        )
        for i in worst
    ]


def as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey levels; values that are not bytes are scaled from the smallest to the largest."""
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    return np.round(255 * (values - low) / ((high - low) or 1.0)).astype(np.uint8)


def mistakes_figure(mistakes: list[Mistake]) -> Figure:
    """Draw the mistakes with what they were taken for."""
    columns = 4
    rows = max(1, -(-len(mistakes) // columns))
    figure = Figure(figsize=(WIDTH, 1.5 * rows))
    FigureCanvasAgg(figure)
    for i, mistake in enumerate(mistakes):
        row, column = divmod(i, columns)
        box = ((column + 0.08) / columns, 1 - (row + 0.96) / rows, 0.84 / columns, 0.68 / rows)
        axes: Any = figure.add_axes(box)
        axes.imshow(mistake.pixels, cmap="gray_r", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(caption(mistake).replace(", ", "\n"), fontsize=9, color=INK, pad=3)
    return figure


def caption(mistake: Mistake) -> str:
    """Return "4 taken for 9, 99.98 %", rounded down: no network is certain."""
    percent = math.floor(10_000 * mistake.confidence) / 100
    return f"{mistake.label} taken for {mistake.predicted}, {percent:.2f} %"
