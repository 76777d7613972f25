"""How much memory a training will need, told before it starts rather than by the out-of-memory killer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from fastmlp.errors import OutOfMemoryError
from fastmlp.system import available_memory, cpu_features, usable_cpus

if TYPE_CHECKING:
    from fastmlp.experiment import Settings

_BYTES = {"float32": 4, "float64": 8}
_NOT_WORTH_ASKING = 1 << 24

# As in ``fastmlp.kernels.layout`` and ``split``, which need Numba and cannot count beyond 64 bits; a test compares.
_ROWS_AT_ONCE = 64
_WIDE, _WIDE_FOR_BYTES, _NARROW = 12, 4, 8
_OPERANDS = 106_496


def count_parameters(layers: Sequence[int]) -> int:
    """Return the number of weights and biases of a network, in Python's unbounded integers.

    Parameters
    ----------
    layers : sequence of int
        Sizes of all layers, input and output included.
    """
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(layers))


def training_bytes(
    layers: Sequence[int],
    *,
    dtype: str,
    batch_size: int,
    steps: int,
    momentum: bool,
    copies: int,
    threads: int,
) -> int:
    """Estimate what a training allocates on top of the data; an upper bound, whatever the CPU.

    Parameters
    ----------
    layers : sequence of int
        Sizes of all layers.
    dtype : str
        "float32" or "float64".
    batch_size, steps : int
        Samples per batch and batches in all: the loss of each is kept.
    momentum : bool
        Whether there is a velocity for each parameter.
    copies : int
        Further copies of the parameters that are kept (the last finite ones, the best ones).
    threads : int
        Threads of the team.

    Returns
    -------
    int
        Bytes.
    """
    block = _block_width(_BYTES[dtype])
    pairs = list(itertools.pairwise(-(-size // block) * block for size in layers))
    rows = -(-max(64, min(batch_size, _ROWS_AT_ONCE)) // block) * block
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairs) * (1 + copies + momentum)
    # activations and deltas of some pieces, and the parts of the logits and of the gradients
    *hidden, output = pairs
    matrix_unit = dtype == "float32" and "amx_bf16" in cpu_features() and bool(hidden)
    # then the inputs and the deltas of both are kept
    two_pieces = bool(hidden) and not momentum and _ROWS_AT_ONCE < batch_size <= 2 * _ROWS_AT_ONCE
    panels = (4 + max(2 * matrix_unit, two_pieces)) * sum(pair[1] for pair in hidden)
    shared = rows * (output[0] + 2 * _groups(output[0] // block) * output[1] + panels)
    shared += rows * sum(_groups(fan_out // block) * fan_in for fan_in, fan_out in hidden[1:])
    # the inputs and their masks, logits, and some transposed weights
    scratch = (
        4 * block * (1 + max((fan_out // _groups(fan_out // block) + block for _, fan_out in hidden[1:]), default=0))
    )
    own = (2 + two_pieces) * rows * (max(pair[0] for pair in pairs) + pairs[-1][1]) + scratch
    # a thread that evaluates has shared memory to itself
    working = shared + threads * (shared + 2 * own)
    if matrix_unit:
        working += threads * _for_matrix_unit([(fan_in // block, fan_out // block) for fan_in, fan_out in hidden])
    return _BYTES[dtype] * (parameters + working) + 48 * steps  # rates, losses, copies of them


def _for_matrix_unit(hidden: Sequence[tuple[int, int]]) -> int:
    """Numbers that a thread needs for the matrix unit, by the blocks of its layers."""
    inputs, outputs = hidden[0]
    numbers = 0
    if outputs >= _WIDE_FOR_BYTES or any(min(pair) >= _WIDE for pair in hidden):
        numbers += _OPERANDS
    if outputs <= _NARROW:  # to evaluate, with split weights
        numbers += _OPERANDS + 1536 * inputs * outputs
    return numbers


def _block_width(itemsize: int) -> int:
    """Units that are computed together: two of the widest registers, four on ARM."""
    features = cpu_features()
    register = 64 if "avx512f" in features else 32 if "avx" in features else 16
    return (4 if "asimd" in features else 2) * register // itemsize


def _groups(blocks: int) -> int:
    """Groups of blocks that are summed on their own."""
    return min(blocks, max(4, blocks // 4))


class Plan(Protocol):
    """What of a training's options takes memory."""

    @property
    def epochs(self) -> int:
        """Passes over the samples."""

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""

    @property
    def momentum(self) -> float:
        """More than 0 needs a velocity for each parameter."""

    @property
    def patience(self) -> int | None:
        """If given, the best parameters are kept."""


def check_training(plan: Plan, layers: Sequence[int], *, dtype: str, n_train: int, threads: int) -> None:
    """Refuse a training that needs more memory than there is, before anything is allocated.

    Parameters
    ----------
    plan : Plan
        Its options.
    layers : sequence of int
        Sizes of all layers.
    dtype : str
        "float32" or "float64".
    n_train : int
        Training samples.
    threads : int
        At most so many.

    Raises
    ------
    OutOfMemoryError
    """
    needed = training_bytes(
        layers,
        dtype=dtype,
        batch_size=min(plan.batch_size, n_train),
        steps=_steps(plan, n_train),
        momentum=plan.momentum > 0,
        # the network's own and those that take their place, the last finite ones, those that are evaluated, the sums
        # of a batch in pieces, the best ones, and for a checkpoint those between two epochs with their velocities
        copies=4 + (plan.batch_size > _ROWS_AT_ONCE) + (plan.patience is not None) + (plan.momentum > 0),
        threads=threads,
    )
    # the projections of the samples; the orders of two epochs, and the numbers that one is drawn by
    needed += n_train * (_BYTES[dtype] + 2 * 4 + 8)
    check_available(needed, "model", "for weights and training state", "Use fewer or narrower layers, or fewer epochs")


def _steps(plan: Plan, n_train: int) -> int:
    return plan.epochs * -(-n_train // max(1, min(plan.batch_size, n_train)))


def check_available(needed: int, what: str, purpose: str, hint: str) -> None:
    """Refuse to need more memory than this process may still take.

    Raises
    ------
    OutOfMemoryError
        ``<what> needs <needed> <purpose>, <available> available. <hint>``
    """
    if needed < _NOT_WORTH_ASKING:
        return
    available = available_memory()
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{what} needs {human_bytes(needed)} {purpose}, {human_bytes(available)} available. {hint}"
        )


def check_memory(settings: Settings, layers: tuple[int, ...], n_train: int) -> int:
    """As `check_training`, for a command's settings.

    Returns
    -------
    int
        An upper bound of the bytes that the run folder will take.

    Raises
    ------
    OutOfMemoryError
        If the model does not fit.
    """
    threads = settings.threads or usable_cpus()
    check_training(settings, layers, dtype=settings.dtype, n_train=n_train, threads=threads)
    return _BYTES[settings.dtype] * count_parameters(layers) + 25 * _steps(settings, n_train) + 2**20


def human_bytes(count: int) -> str:
    """Return a number of bytes in three digits or so: "954 TB", "23 GB", "1.2 MB"."""
    amount, unit = float(min(count, 10**300)), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB", "EB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    if amount >= 1e4:
        return f"{amount:.0e} {unit}"
    return f"{amount:.0f} {unit}" if amount >= 9.95 or unit == "bytes" else f"{amount:.1f} {unit}"
