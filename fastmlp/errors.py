"""The errors that fastmlp raises on purpose; each message is one line that says what is wrong and what is expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmlp.history import History


class FastmlpError(Exception):
    """Base of the errors below."""


class DataFormatError(FastmlpError, ValueError):
    """A data file is missing, damaged or not in a format that fastmlp reads."""


class ModelFormatError(FastmlpError, ValueError):
    """A model file is missing, damaged, hostile or of another version."""


class CheckpointError(FastmlpError, ValueError):
    """A checkpoint is missing, damaged or hostile, cannot be written, or is not of this training."""


class OutOfMemoryError(FastmlpError, MemoryError):
    """What is asked for needs more memory than this process may take; nothing was allocated."""


class DivergedError(FastmlpError, ArithmeticError):
    """The training loss became infinite or NaN; the network keeps its last finite weights.

    Parameters
    ----------
    epoch, step : int
        Where it happened; both count from 1.
    learning_rate : float
        The learning rate of that step.
    history : History
        What was recorded up to that step.
    """

    def __init__(self, epoch: int, step: int, learning_rate: float, history: History) -> None:
        super().__init__(
            f"training diverged: the loss is not finite in epoch {epoch} (step {step}) at learning rate "
            f"{learning_rate:g}; the last finite weights are kept. Try a learning rate of {learning_rate / 10:g}"
        )
        self.epoch = epoch
        self.step = step
        self.learning_rate = learning_rate
        self.history = history


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped the training; the network holds what was learnt so far.

    Parameters
    ----------
    history : History
        What was recorded up to the interruption.
    """

    def __init__(self, history: History) -> None:
        super().__init__("training interrupted")
        self.history = history
