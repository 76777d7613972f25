"""Is the gradient the derivative of the loss? Compiled gradients against central differences, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fastmlp.network import Network

TOLERANCE = 1e-6
_SMALL = 0.01  # gradients below this are compared absolutely: rounding of the loss alone is then 1e-10 of it or so

# A step may carry a unit across the kink of the ReLU, where no derivative exists; a shorter one then does
# not. A wrong gradient stays wrong at every step.
_STEPS = (1e-5, 1e-6, 3e-7)


@dataclass(frozen=True)
class ArrayCheck:
    """The comparison for the weights or the biases of one layer.

    Parameters
    ----------
    layer : int
        1 for the layer after the input.
    array : str
        "weights" or "biases".
    n_parameters, n_checked : int
        How many the array has, and how many of them were compared.
    worst : float
        The largest difference: |gradient - difference quotient| / max(|gradient|, |difference quotient|,
        0.01).
    worst_index : tuple of int
        Where that was.
    gradient, quotient : float
        The two numbers there.
    """

    layer: int
    array: Literal["weights", "biases"]
    n_parameters: int
    n_checked: int
    worst: float
    worst_index: tuple[int, ...]
    gradient: float
    quotient: float

    @property
    def passed(self) -> bool:
        """Whether the largest difference is within the tolerance (NaN is not)."""
        return self.worst <= TOLERANCE


def check_gradients(
    network: Network,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    l2: float = 0.0,
    n_checked: int = 100,
    seed: int = 0,
) -> Iterator[ArrayCheck]:
    """Compare the network's compiled gradients with central differences of its loss, array by array.

    Parameters
    ----------
    network : Network
        Must be float64: float32 leaves too few digits for a difference quotient. It is not changed.
    X : (n, n_features)
        Raw samples.
    y : int (n,)
        Labels.
    l2 : float, default 0.0
        Weight of the penalty l2/2 times the sum of squared weights.
    n_checked : int, default 100
        Parameters to compare in each array, drawn at random; smaller arrays are compared whole.
    seed : int, default 0
        Of that drawing.

    Yields
    ------
    ArrayCheck
        Weights, then biases, of each layer, from the input to the output.

    Raises
    ------
    ValueError
        If the network is not float64, or X and y do not fit it.
    """
    if network.dtype != np.float64:
        raise ValueError(f"gradients can be checked in float64 only (the network is {network.dtype.name})")
    network = network.copy()
    weight_gradients, bias_gradients, _ = network.gradients(X, y, l2=l2)
    samples = np.asarray(X), np.asarray(y)
    random = np.random.default_rng(seed)
    for layer in range(len(weight_gradients)):
        for array, gradients in (("weights", weight_gradients), ("biases", bias_gradients)):
            yield _check_array(network, samples, l2, layer, array, gradients[layer], n_checked, random)


def _check_array(
    network: Network,
    samples: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    l2: float,
    layer: int,
    array: Any,
    gradient: npt.NDArray[np.float64],
    n_checked: int,
    random: np.random.Generator,
) -> ArrayCheck:
    """Compare some elements of one array; the array is as it was afterwards."""
    original = getattr(network, array)
    values = [np.array(part) for part in original]
    target = values[layer].reshape(-1)  # a view: writing to it changes `values`
    drawn = random.choice(gradient.size, min(n_checked, gradient.size), replace=False)
    worst, worst_at, worst_quotient = -1.0, 0, 0.0
    for index in map(int, drawn):
        value, analytic = target[index], float(gradient.reshape(-1)[index])
        best, best_quotient = np.inf, np.nan
        for step in _STEPS:
            losses = []
            for shifted in (value + step, value - step):
                target[index] = shifted
                losses.append(_loss(network, array, values, samples, l2))
            quotient = (losses[0] - losses[1]) / (2.0 * step)
            difference = abs(analytic - quotient) / max(abs(analytic), abs(quotient), _SMALL)
            if difference < best:
                best, best_quotient = difference, quotient
            if best <= TOLERANCE:
                break
        target[index] = value
        if best > worst:
            worst, worst_at, worst_quotient = best, index, best_quotient
    setattr(network, array, original)
    return ArrayCheck(
        layer=layer + 1,
        array=array,
        n_parameters=gradient.size,
        n_checked=len(drawn),
        worst=worst,
        worst_index=tuple(int(part) for part in np.unravel_index(worst_at, gradient.shape)),
        gradient=float(gradient.reshape(-1)[worst_at]),
        quotient=worst_quotient,
    )


def _loss(
    network: Network,
    array: str,
    values: Sequence[npt.NDArray[np.float64]],
    samples: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    l2: float,
) -> float:
    """Return the penalised loss with one array replaced."""
    setattr(network, array, values)
    loss = network.evaluate(*samples).loss
    if l2:
        loss += l2 / 2.0 * sum(float(np.sum(np.square(weights))) for weights in network.weights)
    return loss
