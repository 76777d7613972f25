"""Between the network and the kernels: memory, and the calls into compiled code.

Nothing above this file knows how numbers are laid out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import batch, bulk, optimizer, shuffle
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.kernels.idle import LONGEST
from fastmlp.kernels.layout import MICRO_BATCH, OPTIONS, WORD, Layout, aligned_zeros, quad_distance, round_up
from fastmlp.kernels.propagation import Data, Memory, Team
from fastmlp.kernels.team import STRIDE
from fastmlp.kernels.tile import ROWS
from fastmlp.kernels.walks import PAIR
from fastmlp.shuffling import draw_numbers
from fastmlp.workers import run_apart

# Samples that a thread predicts at a time: what is gathered of them stays in the second-level cache. Measured at
# 784-64-10 on two threads: 40 % faster than 256, equal to 128, 40 % faster than 32.
PREDICT_ROWS = 64

# So many multiply-adds, but at most ``LONGEST`` steps, go by before weights take in what their background is due. It
# costs as much as reading and writing them once: at most 1 % of that many steps.
_PERIOD_WORK = 1 << 30

# Mini-batches of at most so many samples come in stretches, of at most so many rows. Measured on two threads, against
# one by one: 784-64-10, 784-128-10 and 784-256-10 train 1.4, 1.6 and 1.5 times as fast at batch 4, 1.16 to 1.25 times
# at 8, 1.02 to 1.18 times at 12; the same within 5 % at 16. Of 16, 24, 32, 48 and 64 rows, 16 are slower, the others
# alike.
_SMALL_BATCH = 12
_STRETCH_ROWS = 32

# Below this many multiply-adds a second thread takes longer to start than it saves.
_PARALLEL_WORK = 20_000_000

# The caller's thread predicts for so many multiply-adds at a time: 0.04 s of one core here.
_CALL_WORK = 1 << 31


@dataclass(frozen=True, eq=False)
class Model:
    """What the kernels need to know of a network.

    Parameters
    ----------
    sizes : tuple of int
        Units of each layer, input and output included.
    activation : str
        One of ``fastmlp.kernels.activation.ACTIVATIONS``.
    dtype : numpy.dtype
        float32 or float64.
    mean, std : ndarray of float64, scalar or of shape (n_features,)
        Standardisation of the inputs.
    skip_background : bool
        Whether zeros in the inputs are to be skipped.
    """

    sizes: tuple[int, ...]
    activation: str
    dtype: np.dtype[Any]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    skip_background: bool

    @property
    def sparse(self) -> bool:
        """Whether the input layer skips the background; without a hidden layer it is the output layer, which cannot."""
        return self.skip_background and len(self.sizes) > 2

    def equals(self, other: Model) -> bool:
        """Whether it surely says the same: arrays are compared by identity, and only if nobody can write to them."""
        return (
            (self.sizes, self.activation, self.dtype) == (other.sizes, other.activation, other.dtype)
            and self.skip_background == other.skip_background
            and all(
                mine is theirs and isinstance(mine, np.ndarray) and not mine.flags.writeable
                for mine, theirs in ((self.mean, other.mean), (self.std, other.std))
            )
        )

    def options(self, layout: Layout, **values: Any) -> NDArray[Any]:
        """The record of options of a kernel call."""
        values |= {
            "capacity": layout.rows,
            "columns": layout.columns,
            "words": layout.words,
            "apart": quad_distance(self.sizes[0]),
            "n_features": self.sizes[0],
            "n_classes": self.sizes[-1],
            "activation": ACTIVATIONS.index(self.activation),
            "sparse": self.sparse,
            "stretch": values.get("stretch", 1),
        }
        return np.array([tuple(values.get(name, 0) for name in OPTIONS.names or ())], OPTIONS)

    def data(
        self,
        layout: Layout,
        X: NDArray[Any],
        labels: NDArray[np.int32],
        order: NDArray[Any],
        projections: NDArray[Any],
    ) -> Data:
        """Samples and how to standardise them: ``x = (value - origin) * factor + beta``, see ``kernels.background``."""
        factor, shift = (aligned_zeros(layout.words * WORD, self.dtype) for _ in range(2))
        zeros = aligned_zeros(layout.words * WORD, self.dtype)
        n_features = self.sizes[0]
        factor[:n_features] = 1.0 / self.std
        shift[:n_features] = -self.mean / self.std if self.sparse else self.mean
        origin, beta = (zeros, shift) if self.sparse else (shift, zeros)
        # floats could overflow without their factor
        scale = factor[:1].copy() if X.dtype == np.uint8 and self.std.ndim == 0 else np.ones(1, self.dtype)
        return Data(_read_only(X), _read_only(labels), _read_only(order), origin, factor, beta, scale, projections)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A flat read-only view: kernels are compiled for one type of array, whether or not the caller's is writable."""
    view = array.reshape(-1).view()
    view.flags.writeable = False
    return view


def rule_of(momentum: float, *, nesterov: bool) -> int:
    """The update rule of some options."""
    if momentum == 0:
        return optimizer.DIRECT
    return optimizer.NESTEROV if nesterov else optimizer.MOMENTUM


def _decay(momentum: float, *, nesterov: bool) -> list[float]:
    """What becomes of velocities and weights that wait, see ``kernels.idle``."""
    powers = [momentum**n for n in range(LONGEST + 2)]
    drifts = [math.fsum(powers[1 + nesterov : n + 1 + nesterov]) for n in range(LONGEST + 1)]
    return powers[: LONGEST + 1] + drifts


def _stretch_of(batch_size: int) -> int:
    """How many small mini-batches the input layer takes at once, see ``kernels.stretch``; 1 if they are not small."""
    if batch_size > _SMALL_BATCH:
        return 1
    return (_STRETCH_ROWS - round_up(batch_size, ROWS)) // batch_size + 1


def pack(model: Model, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Parameters as the kernels want them."""
    return Layout(model.sizes, model.dtype, 1, training=False).pack(weights, biases)


def _masks(length: int) -> NDArray[Any]:
    return aligned_zeros(length, np.dtype(np.uint64))


def _own_memory(layout: Layout) -> tuple[NDArray[Any], ...]:
    return (
        aligned_zeros(layout.n_private, layout.dtype),
        aligned_zeros(layout.n_raw, np.dtype(np.uint8)),
        _masks(layout.columns),
        _masks(layout.n_nonzero),
        aligned_zeros(layout.n_marks, np.dtype(np.uint32)),
        _masks(layout.n_walks),
        _masks(layout.n_walks if layout.training else 0),
        aligned_zeros(layout.words * WORD // PAIR if layout.training else 0, np.dtype(np.uint8)),
    )


def _fit(memory: Memory, layout: Layout, data: Data) -> Memory:
    """Memory for data of their dtype: floats are scaled where they are, unless the next are gathered meanwhile."""
    if data.x.dtype == memory.raw.dtype:
        return memory
    return memory._replace(raw=aligned_zeros(layout.n_raw, data.x.dtype) if layout.shares_inputs else memory.own)


def _with_copies(memory: Memory) -> Memory:
    """The memory of a thread that shares nothing but the inputs: what all others share, it has for itself."""
    arrays = {name: getattr(memory, name) for name in ("parameters", "velocities", "sums", "shared", "masks")}
    copies = {name: aligned_zeros(len(array), array.dtype) for name, array in arrays.items()}
    return memory._replace(background=copies["parameters"], **copies)


class TrainingMemory:
    """The parameters of a training and the memory that its kernels work in.

    Parameters
    ----------
    model : Model
    weights, biases : sequence of ndarray
        Weights ``(fan_in, fan_out)`` and biases ``(fan_out,)``.
    batch_size : int
    steps_per_epoch : int
    rule : int
        Of ``fastmlp.kernels.optimizer``; ``DIRECT`` becomes ``PLAIN`` where a mini-batch comes in pieces.
    momentum, l2 : float
    threads : int

    Attributes
    ----------
    threads : int
        At most so many: more would own no part of the network.
    stretch : int
        Mini-batches that the input layer takes at once, see ``kernels.stretch``; counted from the beginning of an
        epoch.
    parameters : ndarray
        The state of the training. Between two mini-batches some of the weights may be kept aside, see
        ``kernels.background`` and ``kernels.stretch``; before the first and after the last of an epoch none are.
    current : ndarray
        Where ``refresh`` puts the parameters as users know them.
    """

    def __init__(
        self,
        model: Model,
        weights: Sequence[NDArray[Any]],
        biases: Sequence[NDArray[Any]],
        *,
        batch_size: int,
        steps_per_epoch: int,
        rule: int,
        momentum: float,
        l2: float,
        threads: int,
    ) -> None:
        self.model = model
        self.stretch = 1
        if model.sparse and rule == optimizer.DIRECT and l2 == 0:
            self.stretch = min(_stretch_of(batch_size), steps_per_epoch)
        capacity = (self.stretch - 1) * batch_size + round_up(batch_size, ROWS)
        self.layout = Layout(
            model.sizes, model.dtype, min(capacity, MICRO_BATCH), stretches=self.stretch > 1,
            shares_inputs=model.sparse and self.stretch == 1,
        )  # fmt: skip
        in_pieces = batch_size > MICRO_BATCH
        period = min(max(_PERIOD_WORK // (batch_size * self.layout.n_parameters), 1), LONGEST)
        if l2 > 0:  # the penalty is summed over the weights as they are
            period = 1
        if rule == optimizer.DIRECT and in_pieces:
            rule = optimizer.PLAIN
        # with an L2 penalty weights never rest, and pieces of a mini-batch would have to be looked at together
        has_velocity = rule in (optimizer.MOMENTUM, optimizer.NESTEROV)
        idle = has_velocity and model.sparse and l2 == 0 and not in_pieces
        background = np.broadcast_to(model.mean / model.std, model.sizes[:1])
        self.options = model.options(
            self.layout, batch_size=batch_size, steps=steps_per_epoch, rule=rule, momentum=momentum, l2=l2,
            weigh=l2 > 0, period=period, stretch=self.stretch, idle=idle, background_square=background @ background,
        )  # fmt: skip
        self.parameters = self.layout.pack(weights, biases)
        length = self.layout.n_parameters
        self.velocities = aligned_zeros(length if has_velocity else 0, model.dtype)
        self.sums = aligned_zeros(length if in_pieces or rule == optimizer.GRADIENT else 0, model.dtype)
        kept = aligned_zeros(self.layout.n_kept, model.dtype)
        decay = aligned_zeros(0, model.dtype)
        if idle:
            decay = np.array(_decay(momentum, nesterov=rule == optimizer.NESTEROV), model.dtype)
        shared = aligned_zeros(self.layout.n_shared, model.dtype)
        common = (
            self.parameters, self.parameters, self.velocities, self.sums, kept, decay,
            shared, _masks(self.layout.n_masks), aligned_zeros(self.layout.n_exchanged, model.dtype),
        )  # fmt: skip
        self.threads = min(threads, self.layout.useful_threads)
        self.memories = [Memory(*common, *_own_memory(self.layout)) for _ in range(self.threads)]
        if self.layout.shares_inputs:
            self.memories[1:] = map(_with_copies, self.memories[1:])
        self.control = np.zeros(batch.CONTROL_WORDS, np.int64)
        self.times = np.zeros((self.threads, len(batch.PHASES)), np.int64)
        self.current = self.parameters.copy() if model.sparse else self.parameters
        self._kernel: Callable[..., Any] | None = None
        self._data: Data  # with the order of the last call

    @property
    def diverged(self) -> bool:
        """Whether the loss of the last step was not finite."""
        return bool(self.control[batch.DIVERGED])

    @property
    def behind(self) -> bool:
        """Whether ``parameters`` lack steps: the last one was not the end of a stretch, or some weights wait."""
        return bool(self.control[batch.PENDING] or self.memories[0].idle.any())

    @property
    def steps_done(self) -> int:
        """Steps done, counted from the beginning of the order; also valid while a call runs."""
        return int(self.control[batch.DONE])

    def take(self, X: NDArray[Any], labels: NDArray[np.int32]) -> float:
        """Take the samples to train on; returns the seconds spent compiling."""
        projections = aligned_zeros(len(X) if self.model.sparse else 0, self.model.dtype)
        self._data = self.model.data(self.layout, X, labels, np.zeros(0, np.uint32), projections)
        self.memories = [_fit(memory, self.layout, self._data) for memory in self.memories]
        kernel, seconds = batch.project_samples.prepare(self._data, self.model.sizes[0])
        kernel(self._data, self.model.sizes[0])
        self._kernel, more = batch.train_batches.prepare(*self._settle_arguments())
        self._numbers = np.empty(len(X))
        self._draw_order, much_more = shuffle.draw_order.prepare(self._numbers, np.zeros(0, np.uint32))
        return seconds + more + much_more

    def draw_order(self, seed: int, epoch: int, order: NDArray[Any]) -> None:
        """Fill ``order`` (uint32) as ``shuffling.epoch_order`` does, once there are samples."""
        draw_numbers(seed, epoch, self._numbers)
        self._draw_order(self._numbers, order)

    def replace(self, parameters: NDArray[Any]) -> None:
        """Go on from other parameters."""
        np.copyto(self.parameters, parameters)
        self.control[batch.PENDING] = 0
        self.memories[0].idle[:] = 0

    def _settle_arguments(self) -> tuple[Any, ...]:
        memory = self.memories[0]._replace(parameters=self.current, background=self.current)
        team = Team(0, 1, np.zeros(STRIDE, np.int64), self.control)
        nothing = np.zeros(0)
        return self.layout.layers, self.options, self._data, memory, team, nothing, nothing, self.times, 0, 0, True

    def refresh(self) -> NDArray[Any]:
        """Bring ``current`` up to date, the parameters as users know them, and return it."""
        if self._kernel is not None and self.model.sparse:
            np.copyto(self.current, self.parameters)
            self._kernel(*self._settle_arguments())
        return self.current

    def calls(
        self,
        order: NDArray[Any],
        rates: NDArray[np.float64],
        losses: NDArray[np.float64],
        first: int,
        last: int,
        threads: int,
    ) -> list[Callable[[], object]]:
        """The calls that run steps ``first .. last - 1`` on some threads, once there are samples; see ``collect``.

        ``order`` (uint32) is that of the samples in one or more epochs, one behind the other; steps are counted from
        its beginning, where also ``rates`` and ``losses`` begin.
        """
        assert self._kernel is not None
        self._data = data = self._data._replace(order=_read_only(order))
        # a stretch that is not over stays so until a thread has gone on with it
        self.control[[batch.STOP, batch.DIVERGED, batch.LAST_PIECE]] = 0
        self.control[batch.END] = last
        self.control[batch.DONE] = first
        counters = np.zeros(threads * STRIDE, np.int64)
        whole = self.memories[0]
        for memory in self.memories[1:threads]:  # not all have always been there
            np.copyto(memory.idle, whole.idle)
            if self.layout.shares_inputs:
                np.copyto(memory.parameters, whole.parameters)
                np.copyto(memory.velocities, whole.velocities)

        steps = rates, losses, self.times, first, last, False
        calls: list[Callable[[], object]] = []
        for thread in range(threads):
            team = Team(thread, threads, counters, self.control)
            memory = self.memories[thread]
            layers = self.layout.owned(thread, threads)
            calls.append(partial(self._kernel, layers, self.options, data, memory, team, *steps))
        return calls

    def collect(self, threads: int) -> None:
        """After the calls for so many threads: put the weights together that threads with copies own."""
        if not self.layout.shares_inputs:
            return
        whole = self.memories[0]
        for thread in range(1, threads):
            inputs, own = self.layout.owned_inputs(thread, threads), self.memories[thread]
            for name in ("parameters", "velocities") if len(whole.velocities) else ("parameters",):
                target, source = (self.layout.weights_of(getattr(memory, name), inputs) for memory in (whole, own))
                np.copyto(target, source)
            pairs = slice(inputs.start // PAIR, inputs.stop // PAIR)
            np.copyto(whole.idle[pairs], own.idle[pairs])

    def phase_seconds(self, total: float) -> dict[str, float]:
        """How a total of seconds divides among the phases of a mini-batch, by the ticks that all threads counted."""
        ticks = self.times.sum(axis=0, dtype=float)
        return dict(zip(batch.PHASES, (total * ticks / max(ticks.sum(), 1.0)).tolist(), strict=True))

    def stop(self) -> None:
        """Ask a running call to return after its current step."""
        self.control[batch.STOP] = 1


class Predictor:
    """Forward propagation of large sets.

    What does not depend on the samples is kept for the next call: an evaluation of 20,000 samples by 784-64-10 takes
    4 to 5 % less time for it, and the prediction of one sample less than half.

    Parameters
    ----------
    model : Model
    parameters : ndarray
        Packed parameters; the layout does not depend on the number of samples processed at a time.
    threads : int
        At most so many.
    """

    def __init__(self, model: Model, parameters: NDArray[Any], threads: int) -> None:
        self.model, self.parameters, self.threads = model, parameters, threads
        self._memories: list[Memory] = []
        self._layout: Layout | None = None
        self._options: dict[int, NDArray[Any]] = {}  # by the number of samples that are processed at a time
        # by the dtype of the samples: data without samples, and the kernel
        self._data: dict[np.dtype[Any], Data] = {}
        self._kernels: dict[np.dtype[Any], Callable[..., Any]] = {}

    def probabilities(self, X: NDArray[Any]) -> NDArray[Any]:
        """Class probabilities, ``(samples, classes)``."""
        out = np.empty((len(X), self.model.sizes[-1]), self.model.dtype)
        self._run(X, np.zeros(0, np.int32), out)
        return out

    def evaluate(self, X: NDArray[Any], labels: NDArray[np.int32]) -> tuple[float, float]:
        """Mean cross-entropy and share of correct predictions."""
        losses, correct = self._run(X, labels, np.empty((0, self.model.sizes[-1]), self.model.dtype))
        return float(losses.sum() / len(X)), float(correct.sum() / len(X))

    def prepare(self, X: NDArray[Any], labels: NDArray[np.int32]) -> float:
        """Compile or load the kernel for samples of this type; returns the seconds that took."""
        started = time.perf_counter()
        self._calls(X[:0], labels[:0], np.empty((0, self.model.sizes[-1]), self.model.dtype), 1)
        return time.perf_counter() - started

    def _run(
        self, X: NDArray[Any], labels: NDArray[np.int32], out: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        small = len(X) * self.parameters.size <= _PARALLEL_WORK
        threads = 1 if small else self.threads
        calls = self._calls(X, labels, out, min(threads, -(-len(X) // PREDICT_ROWS)))
        *_, team, losses, correct, _, _ = calls[0].args
        run_apart(calls, partial(team.control.__setitem__, bulk.STOP, 1))
        return losses, correct

    def _calls(self, X: NDArray[Any], labels: NDArray[np.int32], out: NDArray[Any], threads: int) -> list[partial[Any]]:
        """The calls of ``predict_pieces`` for each thread."""
        rows = max(1, min(PREDICT_ROWS, len(X)))
        pieces = -(-len(X) // rows)
        layout = self._reserve(rows, threads)
        if rows not in self._options:
            self._options[rows] = self.model.options(layout, batch_size=rows)
        if X.dtype not in self._data:
            nothing = np.zeros(0, X.dtype), np.zeros(0, np.int32), np.zeros(0, np.uint32)
            self._data[X.dtype] = self.model.data(layout, *nothing, aligned_zeros(0, self.model.dtype))
        order = np.arange(len(X), dtype=np.uint32)
        data = self._data[X.dtype]._replace(x=_read_only(X), labels=_read_only(labels), order=_read_only(order))
        losses, correct = np.zeros(pieces), np.zeros(pieces, np.int64)
        team = Team(0, 1, np.zeros(STRIDE, np.int64), np.zeros(bulk.CONTROL_WORDS, np.int64))
        # Ctrl-C is heeded between the calls of the first, which is the caller
        most = max(_CALL_WORK // (rows * self.parameters.size), 1)
        common = layout.layers, self._options[rows], data
        arguments = [
            (*common, _fit(memory, layout, data), team, losses, correct, out, most if i == 0 else pieces)
            for i, memory in enumerate(self._memories[:threads])
        ]
        if X.dtype not in self._kernels:
            self._kernels[X.dtype], _ = bulk.predict_pieces.prepare(*arguments[0])
        return [partial(self._kernels[X.dtype], *each) for each in arguments]

    def _reserve(self, rows: int, threads: int) -> Layout:
        """Memory for that many samples at a time and threads, kept for the next call."""
        if self._layout is None or self._layout.columns < rows:
            self._layout = Layout(self.model.sizes, self.model.dtype, rows, training=False)
            self._memories, self._options = [], {}
        while len(self._memories) < threads:
            none = aligned_zeros(0, self.model.dtype)
            shared = aligned_zeros(self._layout.n_shared, self.model.dtype)
            masks = _masks(self._layout.n_masks)
            own = _own_memory(self._layout)
            self._memories.append(Memory(self.parameters, shared, none, none, none, none, shared, masks, none, *own))
        return self._layout


def compile_kernels(dtype: np.dtype[Any], input_dtype: np.dtype[Any]) -> float:
    """Compile, or load from the cache, all kernels for networks of a dtype and inputs of a dtype; returns seconds."""
    model = Model((1, 1, 2), "relu", dtype, np.zeros(()), np.ones(()), skip_background=False)
    weights, biases = [np.zeros((1, 1)), np.zeros((1, 2))], [np.zeros(1), np.zeros(2)]
    memory = TrainingMemory(
        model, weights, biases, batch_size=1, steps_per_epoch=1, rule=optimizer.DIRECT, momentum=0.0, l2=0.0, threads=1
    )
    X, y = np.zeros((1, 1), input_dtype), np.zeros(1, np.int32)
    return memory.take(X, y) + Predictor(model, memory.parameters, 1).prepare(X, y)
