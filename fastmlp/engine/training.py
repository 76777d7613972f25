"""The state of a training, and the calls that run its mini-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.engine.model import Model, read_only
from fastmlp.engine.own_memory import aligned_masks, fit, own_memory
from fastmlp.kernels import batch, optimizer, shuffle
from fastmlp.kernels.idle import LONGEST
from fastmlp.kernels.layout import MICRO_BATCH, Layout, aligned_zeros, is_narrow, round_up
from fastmlp.kernels.piece import Data, Memory, Team
from fastmlp.kernels.team import STRIDE
from fastmlp.kernels.thresholds import SINGLY
from fastmlp.kernels.tile import ROWS
from fastmlp.kernels.walks import PAIR
from fastmlp.shuffling import draw_numbers

# So many multiply-adds, but at most ``LONGEST`` steps, go by before weights take in what their background is due. It
# costs as much as reading and writing them once: at most 1 % of that many steps.
_PERIOD_WORK = 1 << 30

# Mini-batches of at most so many samples come in stretches, of at most so many rows. Measured on two threads, against
# one by one: 784-64-10, 784-128-10 and 784-256-10 train 1.4, 1.6 and 1.5 times as fast at batch 4, 1.16 to 1.25 times
# at 8, 1.02 to 1.18 times at 12; the same within 5 % at 16. Of 16, 24, 32, 48 and 64 rows, 16 are slower, the others
# alike.
_SMALL_BATCH = 12
_STRETCH_ROWS = 32

# Where threads could share the inputs if there were no stretches, and these are walked over singly (see
# ``kernels.singles``). Measured on an AMD Zen 3, without stretches against with them: on two threads 784-64-10 trains
# 1.2 times as fast at batch 8, 1.4 times at 12, 1.1 times at 6 and 0.6 times at 1; on one thread 0.93 times at 8 and
# 1.09 times at 12.
_SMALL_BATCH_SHARING = 6


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


def _stretch_of(model: Model, batch_size: int, *, rule: int, l2: float) -> int:
    """How many small mini-batches the input layer takes at once, see ``kernels.stretch``; 1 if they are not small."""
    small = _SMALL_BATCH_SHARING if SINGLY and is_narrow(model.sizes, model.dtype) else _SMALL_BATCH
    if batch_size > small or not model.sparse or rule != optimizer.DIRECT or l2 > 0:
        return 1
    return (_STRETCH_ROWS - round_up(batch_size, ROWS)) // batch_size + 1


# What an input costs that is zero everywhere, as a part of one that is zero nowhere: on an AMD Zen 4 784-64-10 takes
# 1.9 us a mini-batch to gather inputs and to list them, and 15 to multiply the 19 % that are not zero.
_COST_OF_ZEROS = 0.02


def _balance(X: NDArray[Any]) -> float:
    """Before which part of the inputs half of the work is, by at most 250 samples spread over all."""
    work = (X[:: -(-len(X) // 250)] != 0).mean(axis=0) + _COST_OF_ZEROS
    return float(np.searchsorted(np.cumsum(work), work.sum() / 2)) / len(work)


def _with_copies(memory: Memory, layout: Layout) -> Memory:
    """The memory of a thread that has some of what others share for itself.

    Activations, if they are handed on; all but what is exchanged, if it shares nothing but the inputs.
    """
    names = ["shared", "masks"]
    if layout.shares_inputs:
        names += ["parts", "parameters", "velocities", "sums"]
    arrays = {name: getattr(memory, name) for name in names}
    copies = {name: aligned_zeros(len(array), array.dtype) for name, array in arrays.items()}
    return memory._replace(background=copies.get("parameters", memory.background), **copies)


# Groups are dealt unevenly if that should take less than this part of the time. Where somebody else uses the other half
# of a core its matrix unit is less than half as fast, for seconds, and the other thread would wait: 784-512-512-10 with
# dense inputs, at batch 128, takes 6 % less time so on average, 22 % in the worst twentieth of 50 rounds. Vectors of
# float32 then keep two thirds of their speed, too much for groups as large as ours.
_WORTH_IT = 0.8


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
    X : ndarray, optional
        Samples by which inputs are dealt to threads; else each has as many.

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
        X: NDArray[Any] | None = None,
    ) -> None:
        self.model = model
        stretch = _stretch_of(model, batch_size, rule=rule, l2=l2)
        self.stretch = min(stretch, steps_per_epoch)
        capacity = (self.stretch - 1) * batch_size + round_up(batch_size, ROWS)
        in_pieces = batch_size > MICRO_BATCH
        shares_inputs = model.sparse and stretch == 1  # whatever the number of samples, or the bits depended on it
        looked_at = X if shares_inputs and is_narrow(model.sizes, model.dtype) else None
        self.layout = Layout(
            model.sizes, model.dtype, min(capacity, MICRO_BATCH), stretches=self.stretch > 1,
            shares_inputs=shares_inputs, balance=0.5 if looked_at is None else _balance(looked_at),
            joins_pieces=model.sparse and rule == optimizer.DIRECT and MICRO_BATCH < batch_size <= 2 * MICRO_BATCH,
        )  # fmt: skip
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
            weigh=l2 > 0, period=period, stretch=self.stretch, idle=idle,
            joins_pieces=self.layout.joins_pieces, background_square=background @ background,
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
            shared, aligned_masks(self.layout.n_masks),
            *(aligned_zeros(length, model.dtype) for length in (self.layout.n_parts, self.layout.n_exchanged)),
        )  # fmt: skip
        self.threads = min(threads, self.layout.useful_threads)
        self.memories = [Memory(*common, *own_memory(self.layout)) for _ in range(self.threads)]
        if self.layout.shares_inputs or self.layout.hands_on:
            self.memories[1:] = [_with_copies(memory, self.layout) for memory in self.memories[1:]]
        self.control = np.zeros(batch.CONTROL_WORDS, np.int64)
        self.times = self._times_before = np.zeros((self.threads, len(batch.PHASES)), np.int64)
        self._bounds: dict[int, tuple[float, ...]] = {}  # by the number of threads, see ``Layout.owned``
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
        X = self.model.suited(X)
        projections = aligned_zeros(len(X) if self.model.sparse else 0, self.model.dtype)
        self._data = self.model.data(self.layout, X, labels, np.zeros(0, np.uint32), projections)
        self.memories = [fit(memory, self.layout, self._data) for memory in self.memories]
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
        self._data = data = self._data._replace(order=read_only(order))
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
        self._times_before = self.times.copy()
        for thread in range(threads):
            team = Team(thread, threads, counters, self.control)
            memory = self.memories[thread]
            layers = self.layout.owned(thread, threads, self._bounds.get(threads, ()))
            calls.append(partial(self._kernel, layers, self.options, data, memory, team, *steps))
        return calls

    def collect(self, threads: int) -> None:
        """After the calls for so many threads: deal the groups anew, or put the weights of copies together."""
        if not self.layout.shares_inputs:
            if not self.layout.owns_layers:
                self._deal(threads)
            return
        whole = self.memories[0]
        for thread in range(1, threads):
            inputs, own = self.layout.owned_inputs(thread, threads), self.memories[thread]
            for name in ("parameters", "velocities") if len(whole.velocities) else ("parameters",):
                target, source = (self.layout.weights_of(getattr(memory, name), inputs) for memory in (whole, own))
                np.copyto(target, source)
            pairs = slice(inputs.start // PAIR, inputs.stop // PAIR)
            np.copyto(whole.idle[pairs], own.idle[pairs])

    def _deal(self, threads: int) -> None:
        """Deal the groups by what the threads have just done of them in how much time, if that is worth it."""
        if threads == 1:
            return
        bounds = self._bounds.pop(threads, ())
        done = (self.times - self._times_before)[:threads]
        busy = done.sum(axis=1) - done[:, batch.WAITING]
        work = self.layout.work(threads, bounds)
        if not (busy > 0).all() or not (work > 0).all():
            return
        speed = work / busy
        worth_it = _WORTH_IT * max(self.layout.work(threads) / speed)
        if 1 / speed.sum() < worth_it:  # what would be best, if groups could be divided
            proportional = (0.0, *(np.cumsum(speed) / speed.sum()).tolist())
            if max(self.layout.work(threads, proportional) / speed) < worth_it:
                self._bounds[threads] = proportional

    def phase_seconds(self, total: float) -> dict[str, float]:
        """How a total of seconds divides among the phases of a mini-batch, by the ticks that all threads counted."""
        ticks = self.times.sum(axis=0, dtype=float)
        return dict(zip(batch.PHASES, (total * ticks / max(ticks.sum(), 1.0)).tolist(), strict=True))

    def stop(self) -> None:
        """Ask a running call to return after its current step."""
        self.control[batch.STOP] = 1
