"""Training: epochs, validation, early stopping and what is recorded on the way."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import checks
from fastmlp.checkpoint import Checkpoint, Checkpoints, Origin, State, flatten, origin_of, unflatten
from fastmlp.errors import DivergedError, TrainingInterrupted
from fastmlp.history import History
from fastmlp.memory import check_training
from fastmlp.network import Network
from fastmlp.recipe import Recipe, checked_recipe
from fastmlp.system import usable_cpus
from fastmlp.team_size import TRIAL_SECONDS, TeamSize
from fastmlp.workers import Workers

# Progress is reported, and the number of threads reconsidered, about this often.
SEGMENT_SECONDS = 0.1
_FIRST_STEPS = 16

# The background of the inputs is skipped where fewer of the values than this differ from zero: at a half the dense
# products are as fast.
_SPARSE_DENSITY = 0.5

# With a mean of many standard deviations, adding the background back would cost digits.
_MAX_BACKGROUND = 64.0


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes
    ----------
    epoch, epochs : int
        The current epoch, from 1, and how many there are to be.
    step, steps : int
        Steps done and steps in all.
    loss : float
        Mean loss of the batches since the last report; NaN before the first.
    validation_loss, validation_accuracy : float or None
        Of the last validation.
    samples_per_second : float
        Speed of training so far.
    elapsed_seconds, remaining_seconds : float
        Seconds of training so far, and an estimate of those left.
    message : str or None
        What else is going on, such as "compiling kernels".
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    samples_per_second: float
    elapsed_seconds: float
    remaining_seconds: float
    message: str | None = None


def train(
    network: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int,
    batch_size: int = 32,
    learning_rate: float = 0.1,
    schedule: str = "constant",
    momentum: float = 0.0,
    nesterov: bool = False,
    l2: float = 0.0,
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int = 0,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    validations_per_epoch: int = 1,
    patience: int | None = None,
    restore_best: bool = True,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Checkpoint | None = None,
) -> History:
    """Train a network in place by mini-batch gradient descent on the cross-entropy.

    The result depends on the arguments and the type of CPU only, not on the number of threads.

    Parameters
    ----------
    network : Network
        Its weights and biases are replaced.
    X : array_like of shape (n_samples, n_features)
        Raw values; bytes are not copied.
    y : array_like of shape (n_samples,)
        Labels 0 to n_classes - 1.
    epochs : int
        Passes over the samples.
    batch_size : int, default 32
        Samples of a mini-batch; at most all.
    learning_rate : float, default 0.1
        Of the first step.
    schedule : {"constant", "linear", "cosine"}, default "constant"
        How the learning rate falls to 0 over all steps, if it does.
    momentum : float, default 0
        v <- momentum v - learning_rate gradient, w <- w + v; at least 0 and below 1.
    nesterov : bool, default False
        w <- w + momentum v - learning_rate gradient instead (Sutskever et al., 2013).
    l2 : float, default 0
        The loss of a batch has l2 / 2 times the sum of squared weights added; biases are not penalised.
    shuffle : bool, default True
        Whether each epoch has a new random order.
    drop_last : bool, default False
        Whether an incomplete last batch is left out instead of trained on.
    seed : int, default 0
        Of the order, 0 to 2**32 - 1.
    validation : tuple of array_like, optional
        Samples and labels to evaluate on.
    validations_per_epoch : int, default 1
        Evenly spaced over the epoch; each also measures the accuracy on all training samples.
    patience : int, optional
        Stop after so many validations in a row without a lower validation loss. Needs ``validation``.
    restore_best : bool, default True
        With ``patience``: end with the weights of the lowest validation loss instead of the last ones.
    threads : int, optional
        Use exactly so many threads (or fewer, if some would have nothing to do). Default: as many as help, at most
        those this process may use.
    progress : callable, optional
        Called with a ``Progress`` about ten times a second and at each validation. If it raises, the training stops,
        the network keeps what it learnt, and the exception is passed on.
    checkpoints : Checkpoints, optional
        Where to keep the state of the training, so that it can go on after a crash or an interruption.
    resume : Checkpoint, optional
        Go on from there, with the same network, data and options; ``threads`` may differ, and with a constant
        learning rate there may be more ``epochs``. Network and history end as if there had been no break.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        For arguments outside these; nothing is trained.
    OutOfMemoryError
        If more memory is needed than there is; nothing is trained.
    DivergedError
        If the loss becomes NaN or infinite; the network keeps its last finite weights.
    TrainingInterrupted
        On Ctrl-C; the network keeps what it learnt.
    CheckpointError
        If ``resume`` is of another training, or a checkpoint cannot be written.
    """
    checks.check_kind("network", network, Network, optional=False)
    checks.check_kind("checkpoints", checkpoints, Checkpoints)
    checks.check_kind("resume", resume, Checkpoint)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable (got {progress!r})")
    samples = checks.check_samples(X, network.n_features, network.dtype)
    labels = checks.check_labels(y, len(samples), network.n_classes)
    if not len(samples):
        raise ValueError("X: no samples")
    recipe = checked_recipe(
        len(samples), epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, schedule=schedule,
        momentum=momentum, nesterov=nesterov, l2=l2, shuffle=shuffle, drop_last=drop_last, seed=seed,
        validations_per_epoch=validations_per_epoch, patience=patience, restore_best=restore_best,
    )  # fmt: skip
    held_out = None
    if validation is not None:
        X_held_out, y_held_out = checks.check_pair("validation", validation)
        held_out_samples = checks.check_samples(X_held_out, network.n_features, network.dtype, "validation X")
        if not len(held_out_samples):
            raise ValueError("validation X: no samples")
        held_out_labels = checks.check_labels(y_held_out, len(held_out_samples), network.n_classes, "validation y")
        held_out = held_out_samples, held_out_labels
    elif patience is not None:
        raise ValueError("patience needs validation samples")
    limit = usable_cpus() if threads is None else checks.check_whole_number("threads", threads, 1, checks.MAX_THREADS)
    check_training(recipe, network.layers, dtype=network.dtype.name, n_train=len(samples), threads=limit)
    training = _Training(network, samples, labels, recipe, held_out, limit, threads is None, progress, checkpoints)
    if resume is not None:
        training.restore(resume)
    with checkpoints or contextlib.nullcontext():
        return training.run()


def input_density(X: NDArray[Any]) -> float:
    """Share of the values that differ from zero, in at most 1000 samples spread over all."""
    some = X[:: -(-len(X) // 1000)]
    return float(np.count_nonzero(some) / some.size)


class _Training:
    """One call of ``train``."""

    def __init__(
        self,
        network: Network,
        X: NDArray[Any],
        y: NDArray[np.int32],
        recipe: Recipe,
        validation: tuple[NDArray[Any], NDArray[np.int32]] | None,
        threads: int,
        adaptive: bool,
        progress: Callable[[Progress], None] | None,
        checkpoints: Checkpoints | None,
    ) -> None:
        from fastmlp import engine

        self.network, self.X, self.y, self.recipe, self.validation = network, X, y, recipe, validation
        self.progress, self.checkpoints = progress, checkpoints
        self.unwritten: State | None = None
        self.resumed = False
        density = input_density(X)
        self.model = network.model(
            skip_background=density < _SPARSE_DENSITY
            and float(np.abs(network.mean / network.std).max()) < _MAX_BACKGROUND
        )
        self.rule = engine.rule_of(recipe.momentum, nesterov=recipe.nesterov)
        self.steps_per_epoch = recipe.steps_per_epoch(len(X))
        self.steps = recipe.epochs * self.steps_per_epoch
        self.memory = engine.TrainingMemory(
            self.model, network.weights, network.biases, X=X, batch_size=recipe.batch_size,
            steps_per_epoch=self.steps_per_epoch, rule=self.rule, momentum=recipe.momentum, l2=recipe.l2,
            threads=threads,
        )  # fmt: skip
        self.team_limit = self.memory.threads
        self.predictor = engine.Predictor(self.model, self.memory.current, threads)
        self.team_size = TeamSize(self.team_limit, adaptive=adaptive)
        self.rates = recipe.rates(self.steps)
        self.losses = np.full(self.steps, np.nan)
        self.good = self.memory.parameters.copy()
        self.best: tuple[float, int, NDArray[Any] | None] | None = None
        self.since_best = 0
        self.done = 0
        self.drawn: tuple[int, NDArray[Any]] = 0, np.zeros((0, len(X)), np.uint32)
        self.reported = 0
        self.report_due = 0.0
        self.seconds_per_step = 0.0
        self.validations: list[tuple[int, float, float, float, float]] = []
        self.history = History(
            steps_per_epoch=self.steps_per_epoch,
            threads=self.team_limit,
            input_path="background-skipping" if self.model.sparse else "dense",
            input_density=density,
        )

    def run(self) -> History:
        """Train, and leave the network with the weights that the options ask for, whatever happens."""
        try:
            self._compile()
            with Workers(self.team_limit) as self.workers:
                if self.checkpoints is not None:
                    self.checkpoints.check_free()
                    if not self.resumed:
                        self._between_epochs(self.checkpoints)
                while self.done < self.steps and not self.history.stopped_early:
                    pause = self._next_pause()
                    self._segment(self._segment_end(pause))
                    if self.validation is not None and self.done == pause:
                        self._validate(*self.validation)
                    at_end_of_epoch = self.done % self.steps_per_epoch == 0
                    if self.checkpoints is not None and at_end_of_epoch and not self.history.stopped_early:
                        self._between_epochs(self.checkpoints)
        except KeyboardInterrupt:
            self.history.interrupted = True
            if self.checkpoints is not None and self.unwritten is not None and self.done:
                self._write(self.checkpoints, self.unwritten)
            raise TrainingInterrupted(self.history) from None
        finally:
            self._finish()
        return self.history

    def restore(self, checkpoint: Checkpoint) -> None:
        """Be where the training was that wrote a checkpoint.

        Raises
        ------
        CheckpointError
            If that is another training.
        """
        self.origin.check_continues(checkpoint.origin)
        state, best = checkpoint.state, None
        self.memory.replace(self._packed(state.parameters))
        np.copyto(self.good, self.memory.parameters)
        if state.velocities is not None:
            np.copyto(self.memory.velocities, self._packed(state.velocities))
        if state.best is not None:
            best = self._packed(state.best)
        self.done = self.reported = len(state.losses)
        self.losses[: self.done] = state.losses
        self.history.epochs, self.history.training_seconds = state.epoch, state.training_seconds
        for step, *measured in state.validations.tolist():
            self.validations.append((int(step), *measured))
            self._judge(measured[0], int(step), best)
        self.resumed = True

    def _packed(self, flat: NDArray[Any]) -> NDArray[Any]:
        """Parameters of a checkpoint as the kernels want them."""
        return self.memory.layout.pack(*unflatten(flat, self.network.layers))

    @functools.cached_property
    def origin(self) -> Origin:
        """What this training is made of; looks at all data."""
        return origin_of(self.network, self.X, self.y, self.recipe, self.validation)

    def _between_epochs(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint if it is time for one, else remember the state for the case of an interruption."""
        parameters, velocities, best = (
            flatten(*self.memory.layout.unpack(packed)) if packed is not None and packed.size else None
            for packed in (self.memory.parameters, self.memory.velocities, self.best and self.best[2])
        )
        assert parameters is not None
        epoch, every = self.history.epochs, checkpoints.every
        self.unwritten = State(
            epoch=epoch,
            training_seconds=self.history.training_seconds,
            parameters=parameters,
            velocities=velocities,
            best=best,
            losses=self.losses[: self.done],
            validations=np.array(self.validations, np.float64).reshape(-1, 5),
        )
        if every is not None and (epoch % every == 0 or epoch == self.recipe.epochs):
            self._write(checkpoints, self.unwritten)

    def _write(self, checkpoints: Checkpoints, state: State) -> None:
        checkpoints.write(Checkpoint(self.origin, state, checkpoints.note))
        self.unwritten = None

    def _compile(self) -> None:
        """Compile or load all kernels that this training needs, before the clock of training starts."""
        self._report("compiling kernels")
        seconds = self.memory.take(self.X, self.y)
        if self.validation is not None:
            seconds += self.predictor.prepare(self.X, self.y)
        self.history.compile_seconds = seconds

    def _next_pause(self) -> int:
        """The step after which a validation is due, or else a checkpoint may be, or all is done."""
        per_epoch = self.steps_per_epoch
        epoch, step = divmod(self.done, per_epoch)
        if self.validation is not None:
            parts = self.recipe.validations_per_epoch
            following = -(-(step + 1) * parts // per_epoch)
            return epoch * per_epoch + following * per_epoch // parts
        return self.steps if self.checkpoints is None else (epoch + 1) * per_epoch

    def _segment_end(self, pause: int) -> int:
        """Until which step to train without a look at anything else.

        That is until a pause, or for about ``SEGMENT_SECONDS``: in that case whole epochs, if it is more than one. To
        come back after each epoch would take 10 % more time in all at 784-64-10 and 20,000 samples, 2 to 5 % at
        784-128-10.
        """
        per_epoch = self.steps_per_epoch
        end = min(pause, self.done + self._segment_steps())
        if end >= (self.done // per_epoch + 1) * per_epoch:
            return end - end % per_epoch
        end += -(end % per_epoch) % self.memory.stretch  # in the midst of one, parameters would have to be settled
        return min(end, pause, (self.done // per_epoch + 1) * per_epoch)

    def _orders(self, first: int, last: int) -> NDArray[Any]:
        """The order of the samples in the epochs ``first .. last - 1``, one behind the other.

        Also that of the next epoch, lest each trial of a team size draws one anew. The caller's thread does it alone:
        with two, ten orders of 20,000 samples take 1.5 ms instead of 1.0, although most of it is compiled.
        """
        start, orders = self.drawn
        if not start <= first <= last <= start + len(orders):
            count = min(max(last - first, 2), self.recipe.epochs - first)
            orders = np.tile(np.arange(len(self.X), dtype=np.uint32), (count, 1))
            if self.recipe.shuffle:
                for i in range(count):
                    self.memory.draw_order(self.recipe.seed, first + i, orders[i])
            start, orders = self.drawn = first, orders
        return orders[first - start : last - start].reshape(-1)

    def _segment_steps(self) -> int:
        """How many steps the next segment is to have; few as long as nothing is known about their duration."""
        if not self.seconds_per_step:
            return _FIRST_STEPS
        seconds = TRIAL_SECONDS if self.team_size.trying else SEGMENT_SECONDS
        return max(1, int(seconds / self.seconds_per_step))

    def _segment(self, end: int) -> None:
        """Run the steps up to ``end``; keep the parameters if they are still finite."""
        per_epoch = self.steps_per_epoch
        epochs = self.done // per_epoch, -(-end // per_epoch)
        order = self._orders(*epochs)
        start, stop = (epoch * per_epoch for epoch in epochs)
        rates, losses, first = self.rates[start:stop], self.losses[start:stop], self.done - start
        threads = self.team_size.current
        calls = self.memory.calls(order, rates, losses, first, end - start, threads)
        began = time.perf_counter()
        try:
            self.workers.run(calls, self.memory.stop, self._report)
        finally:
            self.memory.collect(threads)
            seconds = time.perf_counter() - began
            before, self.done = self.done, start + self.memory.steps_done
            self.history.training_seconds += seconds
            # the loss is that before the step: the weights may overflow in the last one and show in no loss
            parameters = self.memory.refresh() if self.memory.behind else self.memory.parameters
            if self.memory.diverged or not np.isfinite(parameters).all():
                self._diverged(parameters)
            self.history.epochs = self.done // per_epoch
            np.copyto(self.good, parameters)
        if self.done > before:
            self.seconds_per_step = seconds / (self.done - before)
            self.team_size.record(self.done - before, seconds)
        self._report()

    def _diverged(self, parameters: NDArray[Any]) -> None:
        """Go back to the last finite weights and say so."""
        if not np.isfinite(parameters).all():
            self.memory.replace(self.good)
        self.best = None
        step = self.done
        self.history.epochs = (step - 1) // self.steps_per_epoch
        raise DivergedError(self.history.epochs + 1, step, float(self.rates[step - 1]), self.history)

    def _validate(self, X: NDArray[Any], y: NDArray[np.int32]) -> None:
        """Evaluate on the validation and the training set; remember the best parameters; look whether to stop."""
        parameters = self.memory.refresh()
        self.predictor.forget()
        loss, accuracy = self.predictor.evaluate(X, y)
        _, training_accuracy = self.predictor.evaluate(self.X, self.y)
        self.validations.append((self.done, loss, accuracy, training_accuracy, self.history.training_seconds))
        self._judge(loss, self.done, parameters.copy() if self.recipe.keeps_best and self._improves(loss) else None)
        self.history.stopped_early = self.since_best == self.recipe.patience
        self.report_due = 0.0
        self._report()

    def _improves(self, loss: float) -> bool:
        """Whether the loss of a validation is the lowest yet; one that overflowed is higher than any number."""
        return self.best is None or loss < self.best[0] or (math.isnan(self.best[0]) and not math.isnan(loss))

    def _judge(self, loss: float, step: int, parameters: NDArray[Any] | None) -> None:
        """Take note of a validation, and of its parameters if they are to be kept in case it is the best one."""
        if self._improves(loss):
            self.best = loss, step, parameters
            self.since_best = 0
        else:
            self.since_best += 1

    def _report(self, message: str | None = None) -> None:
        """Tell ``progress`` how far the training is, about ten times a second."""
        if self.progress is None or (message is None and time.perf_counter() < self.report_due):
            return
        self.report_due = time.perf_counter() + 0.1
        elapsed = self.history.training_seconds
        recent = self.losses[self.reported : self.done]
        last = self.validations[-1] if self.validations else None
        self.progress(
            Progress(
                epoch=min(self.done // self.steps_per_epoch + 1, self.recipe.epochs),
                epochs=self.recipe.epochs,
                step=self.done,
                steps=self.steps,
                loss=float(recent.mean()) if len(recent) else self._last_loss(),
                validation_loss=None if last is None else last[1],
                validation_accuracy=None if last is None else last[2],
                samples_per_second=self._samples() / elapsed if elapsed else 0.0,
                elapsed_seconds=elapsed,
                remaining_seconds=elapsed * (self.steps - self.done) / self.done if self.done else math.nan,
                message=message,
            )
        )
        self.reported = self.done

    def _last_loss(self) -> float:
        return float(self.losses[self.done - 1]) if self.done else math.nan

    def _samples(self) -> int:
        """Samples trained on; the last batch of an epoch may be incomplete."""
        epochs, steps = divmod(self.done, self.steps_per_epoch)
        per_epoch = min(len(self.X), self.steps_per_epoch * self.recipe.batch_size)
        return epochs * per_epoch + steps * self.recipe.batch_size

    def _finish(self) -> None:
        """Give the network its weights and the history its arrays."""
        parameters = self.memory.refresh()
        if self.best is not None:
            self.history.best_step = self.best[1]
            if self.best[2] is not None:
                parameters = self.best[2]
                self.history.restored = True
        if np.isfinite(parameters).all():
            self.network.replace_parameters(*self.memory.layout.unpack(parameters))
            self.network.skip_background = self.model.skip_background
        history = self.history
        history.batch_loss = self.losses[: self.done].copy()
        history.samples = self._samples()
        columns = list(zip(*self.validations, strict=True)) or [()] * 5
        history.step = np.array(columns[0], np.int64)
        history.validation_loss, history.validation_accuracy = (
            np.array(columns[1], float),
            np.array(columns[2], float),
        )
        history.training_accuracy, history.elapsed_seconds = (
            np.array(columns[3], float),
            np.array(columns[4], float),
        )
        history.phases = self.memory.phase_seconds(history.training_seconds)
