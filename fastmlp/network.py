"""A multi-layer perceptron for classification: its sizes, parameters, predictions and gradients."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastmlp import __version__, checks
from fastmlp.initialization import INITIALIZATIONS, initial_weights
from fastmlp.memory import check_available, count_parameters
from fastmlp.system import usable_cpus

if TYPE_CHECKING:
    from fastmlp.engine import Model, Predictor

ACTIVATIONS = ("relu", "sigmoid", "tanh", "scaled_tanh", "identity")
ALIASES = {"improved_sigmoid": "scaled_tanh", "improved sigmoid": "scaled_tanh"}
MAX_SEED = (1 << 32) - 1

_Result = TypeVar("_Result")

Parameters = tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]
"""Weights and biases."""


class Evaluation(NamedTuple):
    """How well a network does on labelled samples."""

    loss: float
    """Mean cross-entropy, in nats."""
    accuracy: float
    """Share of samples whose most probable class is their label, from 0 to 1."""


class Network:
    """A fully connected network with softmax output.

    Parameters
    ----------
    layers : sequence of int
        Units of each layer, input and output included: ``(784, 64, 10)``. Two sizes give softmax regression.
    activation : str, default "relu"
        Of the hidden layers: "relu", "sigmoid", "tanh", "identity", or "scaled_tanh", the improved sigmoid
        1.7159 tanh(2 z / 3) of LeCun et al. (1998), also called "improved_sigmoid".
    init : str, default "he"
        How weights are drawn: "he", "lecun", "glorot" or "uniform", see ``fastmlp.initialization``. Biases are zero.
    dtype : str or numpy.dtype, default "float32"
        float32 or float64, of parameters and computation.
    seed : int, default 0
        Of the initial weights, 0 to 2**32 - 1.
    mean, std : float or array_like of shape (n_features,), default 0 and 1
        The network sees ``(x - mean) / std``, so it predicts from raw values.

    Raises
    ------
    TypeError, ValueError
        For arguments outside these.
    OutOfMemoryError
        If the parameters need more memory than there is.

    Examples
    --------
    >>> import fastmlp
    >>> network = fastmlp.Network((784, 64, 10), mean=33.3, std=78.6)
    >>> network.n_parameters
    50890
    """

    def __init__(
        self,
        layers: Sequence[int],
        activation: str = "relu",
        init: str = "he",
        dtype: DTypeLike = "float32",
        seed: int = 0,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ) -> None:
        self._describe(layers, activation, init, dtype, seed, mean, std)
        self._check_memory()
        generator = np.random.default_rng(self.seed)
        weights = tuple(
            _frozen(initial_weights(self.init, fan_in, fan_out, generator, self.dtype))
            for fan_in, fan_out in self._weight_shapes
        )
        # one attribute, so that whoever predicts in another thread sees weights and biases of the same time
        self._parameters = weights, tuple(_frozen(np.zeros(fan_out, self.dtype)) for fan_out in self.layers[1:])

    def _describe(
        self,
        layers: Sequence[int],
        activation: str,
        init: str,
        dtype: DTypeLike,
        seed: int,
        mean: ArrayLike,
        std: ArrayLike,
    ) -> None:
        """Check and take over everything but the parameters."""
        self.layers = checks.check_layers(layers)
        name = ALIASES.get(activation, activation) if isinstance(activation, str) else activation
        self.activation = checks.check_choice("activation", name, ACTIVATIONS)
        self.init = checks.check_choice("init", init, INITIALIZATIONS)
        if dtype is None:  # which means float64 to NumPy
            raise TypeError("dtype must be float32 or float64 (got None)")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"dtype must be float32 or float64 (got {self.dtype})")
        self.seed = checks.check_whole_number("seed", seed, 0, MAX_SEED)
        self.mean = _statistic("mean", mean, self.n_features, self.dtype)
        self.std = _statistic("std", std, self.n_features, self.dtype)
        if not (self.std > 0).all():
            raise ValueError("std must be > 0 for every feature; use 1 for a constant feature")
        with np.errstate(over="ignore", divide="ignore"):
            if not np.isfinite(np.reciprocal(self.std.astype(self.dtype))).all():  # 1 / would be float64 in NumPy 1
                raise ValueError(f"std is too small for {self.dtype.name} (got {self.std.min()})")
        self.skip_background = False
        """Whether zeros in the inputs are skipped; training sets it by the share of zeros it finds."""
        self._packed: tuple[Parameters, NDArray[Any]] | None = None
        self._kept: list[Predictor] = []

    def _check_memory(self) -> None:
        """Refuse a network that cannot be held; weights are drawn in float64, one layer at a time."""
        largest = max(fan_in * fan_out for fan_in, fan_out in self._weight_shapes)
        needed = self.dtype.itemsize * count_parameters(self.layers) + 2 * 8 * largest
        check_available(needed, "network", "for its parameters", "Use fewer or narrower layers")

    @property
    def _weight_shapes(self) -> list[tuple[int, ...]]:
        return list(zip(self.layers[:-1], self.layers[1:], strict=True))

    @property
    def _bias_shapes(self) -> list[tuple[int, ...]]:
        return [(fan_out,) for fan_out in self.layers[1:]]

    @classmethod
    def from_parameters(
        cls,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike],
        *,
        activation: str = "relu",
        init: str = "he",
        seed: int = 0,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ) -> Network:
        """Make a network of given weights ``(fan_in, fan_out)`` and biases ``(fan_out,)``.

        The dtype is float64 if the first weights are, else float32. The other parameters, and the errors raised, are
        those of ``Network``; ``init`` and ``seed`` are recorded only.
        """
        arrays = [checks.check_real(f"weights[{i}]", weight) for i, weight in enumerate(weights)]
        if not arrays or any(array.ndim != 2 for array in arrays):
            raise ValueError("weights: expected two-dimensional arrays, at least one")
        dtype = np.dtype(np.float64 if arrays[0].dtype == np.float64 else np.float32)
        layers = (arrays[0].shape[0], *(array.shape[1] for array in arrays))
        network = cls.__new__(cls)
        network._describe(layers, activation, init, dtype, seed, mean, std)
        network.replace_parameters(arrays, biases)
        return network

    def __repr__(self) -> str:
        return f"Network({self.layers}, activation={self.activation!r}, dtype={self.dtype.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None, "_kept": [], "version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # pickle forgets that arrays are read-only, and may hand over anything: the kernels do not check
        names = ("layers", "activation", "init", "dtype", "seed", "mean", "std")
        if missing := {*names, "_parameters", "skip_background", "version"} - state.keys():
            raise ValueError(f"the pickled network lacks {', '.join(sorted(missing))}: it is of another version")
        if state["version"] != __version__:
            warnings.warn(
                f"the network was pickled by fastmlp {state['version']}, this is {__version__}; files that "
                "Network.save writes can be read by every version",
                stacklevel=2,
            )
        self._describe(*(state[name] for name in names))
        self.replace_parameters(*state["_parameters"])
        self.skip_background = bool(state["skip_background"])

    @property
    def n_features(self) -> int:
        """Units of the input layer."""
        return self.layers[0]

    @property
    def n_classes(self) -> int:
        """Units of the output layer."""
        return self.layers[-1]

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(weight.size + bias.size for weight, bias in zip(*self._parameters, strict=True))

    @property
    def weights(self) -> tuple[NDArray[Any], ...]:
        """Read-only arrays ``(fan_in, fan_out)``, one per layer; assign a sequence of arrays to replace them."""
        return self._parameters[0]

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        self._parameters = self._replacement("weights", values, self._weight_shapes), self.biases

    @property
    def biases(self) -> tuple[NDArray[Any], ...]:
        """Read-only arrays ``(fan_out,)``, one per layer; assign a sequence of arrays to replace them."""
        return self._parameters[1]

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self._parameters = self.weights, self._replacement("biases", values, self._bias_shapes)

    def replace_parameters(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]) -> None:
        """Replace weights and biases at once; a prediction in another thread sees the old ones or the new ones.

        Raises
        ------
        ValueError
            If they do not fit the layers; the old ones stay.
        """
        self._parameters = (
            self._replacement("weights", weights, self._weight_shapes),
            self._replacement("biases", biases, self._bias_shapes),
        )

    def _replacement(
        self, name: str, values: Sequence[ArrayLike], shapes: Sequence[tuple[int, ...]]
    ) -> tuple[NDArray[Any], ...]:
        if len(values) != len(shapes):
            raise ValueError(f"{name}: expected {len(shapes)} arrays (got {len(values)})")
        arrays = []
        for i, (value, shape) in enumerate(zip(values, shapes, strict=True)):
            checks.check_real(f"{name}[{i}]", value)
            with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused below
                array = np.array(value, self.dtype, order="C")
            if array.shape != shape:
                raise ValueError(f"{name}[{i}] has shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}[{i}] contains NaN or infinity")
            arrays.append(_frozen(array))
        return tuple(arrays)

    def copy(self) -> Network:
        """Return an independent network with the same parameters."""
        twin = object.__new__(Network)
        twin.__dict__.update({**self.__dict__, "_packed": None, "_kept": []})
        return twin

    def predict_proba(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """Predict the probability of every class.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Raw values; bytes are not copied.
        threads : int, optional
            At most so many threads. Default: as many as this process may use.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), in the dtype of the network

        Raises
        ------
        TypeError, ValueError
            For samples that do not fit the network, or are so large that it has no answer.
        OutOfMemoryError
            If the probabilities need more memory than there is.
        """
        samples = checks.check_samples(X, self.n_features, self.dtype)
        if not len(samples):
            return np.zeros((0, self.n_classes), self.dtype)
        needed = len(samples) * self.n_classes * self.dtype.itemsize
        check_available(needed, "the prediction", "for a probability of each class", "Predict fewer samples at a time")
        probabilities = self._predict(threads, lambda predictor: predictor.probabilities(samples))
        if math.isnan(float(probabilities.min())):
            row = int(np.isnan(probabilities).any(axis=1).argmax())
            raise ValueError(f"X is too large for the network: its sums overflow {self.dtype.name} (row {row})")
        return probabilities

    def predict(self, X: ArrayLike, *, threads: int | None = None) -> NDArray[np.int64]:
        """Predict the most probable class; arguments and errors as for ``predict_proba``.

        Returns
        -------
        ndarray of int64, shape (n_samples,)
        """
        return self.predict_proba(X, threads=threads).argmax(axis=1)

    def evaluate(self, X: ArrayLike, y: ArrayLike, *, threads: int | None = None) -> Evaluation:
        """Compute the mean cross-entropy and the accuracy on labelled samples.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Raw values.
        y : array_like of shape (n_samples,)
            Labels 0 to n_classes - 1.
        threads : int, optional
            As for ``predict_proba``.

        Returns
        -------
        Evaluation

        Raises
        ------
        TypeError, ValueError
            For samples or labels that do not fit the network, or no samples.
        """
        samples = checks.check_samples(X, self.n_features, self.dtype)
        labels = checks.check_labels(y, len(samples), self.n_classes)
        if not len(samples):
            raise ValueError("X: no samples")
        return Evaluation(*self._predict(threads, lambda predictor: predictor.evaluate(samples, labels)))

    def gradients(
        self, X: ArrayLike, y: ArrayLike, *, l2: float = 0.0
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]], float]:
        """Compute the gradient of the loss over all samples as one mini-batch, with the compiled kernels.

        Parameters
        ----------
        X, y
            As for ``evaluate``.
        l2 : float, default 0
            The loss is the mean cross-entropy plus ``l2 / 2`` times the sum of squared weights.

        Returns
        -------
        weight_gradients : list of ndarray of shape (fan_in, fan_out)
        bias_gradients : list of ndarray of shape (fan_out,)
        loss : float

        Raises
        ------
        TypeError, ValueError
            As for ``evaluate``.
        """
        from fastmlp import engine
        from fastmlp.kernels import optimizer

        samples = checks.check_samples(X, self.n_features, self.dtype)
        labels = checks.check_labels(y, len(samples), self.n_classes)
        if not len(samples):
            raise ValueError("X: no samples")
        model = self.model()
        memory = engine.TrainingMemory(
            model,
            *self._parameters,
            batch_size=len(samples),
            steps_per_epoch=1,
            rule=optimizer.GRADIENT,
            momentum=0.0,
            l2=checks.check_number("l2", l2),
            threads=1,
        )
        memory.take(samples, labels)
        order = np.arange(len(samples), dtype=np.uint32)
        losses = np.zeros(1)
        # the rules sum -learning_rate times the gradient
        calls = memory.calls(order, np.array([-1.0]), losses, 0, 1, threads=1)
        calls[0]()
        return *memory.layout.unpack(memory.sums), float(losses[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file; see ``fastmlp.model_file``."""
        from fastmlp.model_file import write_model

        write_model(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Network:
        """Read a network that ``save`` wrote; no code in the file is run.

        Raises
        ------
        ModelFormatError
            If the file is missing, damaged, hostile or not a network of ours.
        """
        from fastmlp.model_file import read_model

        return read_model(path)

    def model(self, skip_background: bool | None = None) -> Model:
        """What the kernels need to know of this network; it may be told to skip the background or not."""
        from fastmlp.engine import Model

        skip = self.skip_background if skip_background is None else skip_background
        return Model(self.layers, self.activation, self.dtype, self.mean, self.std, skip)

    def _predict(self, threads: int | None, task: Callable[[Predictor], _Result]) -> _Result:
        """Do something with a predictor that no other thread uses meanwhile; the parameters are shared.

        One is kept for the next call: to find new memory takes a tenth of an evaluation of 20,000 samples.
        """
        from fastmlp import engine

        count = (
            usable_cpus() if threads is None else checks.check_whole_number("threads", threads, 1, checks.MAX_THREADS)
        )
        model = self.model()
        parameters, packed = self._parameters, self._packed
        if packed is None or packed[0] is not parameters:
            packed = parameters, engine.pack(model, *parameters)
            self._packed = packed
        try:
            predictor = self._kept.pop()
        except IndexError:
            predictor = None
        if predictor is None or predictor.parameters is not packed[1] or not predictor.model.equals(model):
            predictor = engine.Predictor(model, packed[1], count)
        predictor.threads = count  # nothing that it keeps depends on them
        result = task(predictor)
        self._kept[:] = [predictor]  # not after an error: a thread may still be using its memory
        return result


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _statistic(name: str, value: ArrayLike, n_features: int, dtype: np.dtype[Any]) -> NDArray[np.float64]:
    array = checks.check_real(name, value).astype(np.float64)
    if array.shape not in ((), (n_features,)):
        raise ValueError(f"{name} must be a number or have shape ({n_features},) (got shape {array.shape})")
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype(dtype)).all():
            raise ValueError(f"{name} must be finite in {dtype.name}")
    return _frozen(array)
