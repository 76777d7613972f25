"""How much memory a training will need, told before it starts rather than by the out-of-memory killer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastmlp.errors import FastmlpError
from fastmlp.system import available_memory, usable_cpus

if TYPE_CHECKING:
    from fastmlp.experiment import Settings

_BATCH_AT_ONCE = 512  # samples; larger batches are summed up from pieces
_BYTES = {"float32": 4, "float64": 8}


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
    """Estimate what a training allocates on top of the data.

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
    size = _BYTES[dtype]
    parameters = count_parameters(layers) * size * (1 + copies + (1 if momentum else 0))
    # each thread holds activations and their gradients; evaluation goes through at least 512 samples at a
    # time
    activations = 2 * sum(layers) * max(batch_size, 512) * size * threads
    return parameters + activations + 24 * steps  # loss and learning rate of each step, and a copy


def check_memory(settings: Settings, layers: tuple[int, ...], n_train: int) -> int:
    """Estimate the memory that a training needs and compare it with what is there.

    Returns
    -------
    int
        An upper bound of the bytes that the run folder will take.

    Raises
    ------
    FastmlpError
        If the model does not fit.
    """
    steps = settings.epochs * -(-n_train // max(1, min(settings.batch_size, n_train)))
    needed = training_bytes(
        layers,
        dtype=settings.dtype,
        batch_size=min(settings.batch_size, n_train),
        steps=steps,
        momentum=settings.momentum > 0,
        # in the layout of the kernels, the last finite ones, the sums of a batch in pieces, the best ones, and for a
        # checkpoint those between two epochs with their velocities
        copies=3 + (settings.batch_size > _BATCH_AT_ONCE) + (settings.patience is not None) + (settings.momentum > 0),
        threads=settings.threads or usable_cpus(),
    )
    available = available_memory()
    if available is not None and needed > available:
        raise FastmlpError(
            f"model needs {human_bytes(needed)} for weights and training state, "
            f"{human_bytes(available)} available. Use fewer or narrower layers"
        )
    parameter_bytes = training_bytes(
        layers, dtype=settings.dtype, batch_size=0, steps=0, momentum=False, copies=0, threads=0
    )
    return parameter_bytes + 25 * steps + 2**20


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
