"""The output layer: logits, softmax with cross-entropy, its gradient and step.

The layer is split by its inputs: whoever owns a block of the last hidden layer owns the weights that leave it, stored
as ``[classes][BLOCK]``. Logits are then sums over the blocks, formed per group and added in the order of the groups.
Samples run along the vectors: logits and deltas are ``[blocks of samples][classes][BLOCK]``.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.activation import times_derivative
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.layout import CLASS_ROWS
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    add,
    divide,
    exponential,
    fill,
    lanes_of,
    load,
    logarithm,
    maximum,
    multiply,
    multiply_add,
    multiply_add_rows,
    store,
    subtract,
    sum_elements,
    zeros,
)


def _partial_logits(vectors):
    """Make the kernel for ``vectors`` registers of samples at a time."""

    @phase
    def partial_logits(w, w_start, bias, classes, first, last, a, a_start, samples, capacity, out, out_start):
        """The part of the logits that comes from some blocks of inputs; the part of the first block has the bias.

        Parameters
        ----------
        w : float (flat)
            Weights ``[blocks][classes][BLOCK]`` at ``w_start``, biases ``[classes]`` at ``bias``.
        classes : int
            Classes, a multiple of ``CLASS_ROWS``.
        first, last : int
            Range of blocks of inputs.
        a : float (flat)
            Inputs, a transposed panel ``[blocks][capacity][BLOCK][BLOCK of samples]`` at ``a_start``.
        samples, capacity : int
            Samples in use, and blocks of samples that the panel has room for.
        out : float (flat), overwritten
            ``[blocks of samples][classes][BLOCK]`` at ``out_start``.
        """
        block = VECTORS * lanes_of(w)
        for square in range((samples + block - 1) // block):
            for c in range(0, classes, CLASS_ROWS):
                tile = zeros(w, CLASS_ROWS, vectors)
                if first == 0:
                    tile = multiply_add_rows(tile, w, bias + c, fill(w, 1.0, CLASS_ROWS, vectors))
                for k in range(first, last):
                    w_offset = w_start + (k * classes + c) * block
                    a_offset = a_start + (k * capacity + square) * block * block
                    for i in range(block):
                        tile = multiply_add(tile, w, w_offset + i, block, a, a_offset + i * block)
                store(out, out_start + (square * classes + c) * block, block, tile)

    return partial_logits


_narrow_logits, _wide_logits = _partial_logits(1), _partial_logits(VECTORS)


@kernel
def narrow(array, samples):
    """Whether one register of samples is enough: for them, and for as many as their rows are padded to.

    At 784-64-10 a mini-batch of 4 or 16 takes 5 % less time than with whole blocks.
    """
    return samples <= lanes_of(array) and lanes_of(array) >= ROWS


@kernel
def partial_logits(w, w_start, bias, classes, first, last, a, a_start, samples, capacity, out, out_start):
    """As above, for any number of samples."""
    if narrow(w, samples):
        _narrow_logits(w, w_start, bias, classes, first, last, a, a_start, samples, capacity, out, out_start)
    else:
        _wide_logits(w, w_start, bias, classes, first, last, a, a_start, samples, capacity, out, out_start)


@kernel
def register_count(array, samples):
    """How many registers hold the samples, and as many as their rows are padded to."""
    padding = max(lanes_of(array), ROWS)
    return (samples + padding - 1) // padding * padding // lanes_of(array)


@kernel
def register_start(array, classes, r):
    """Where register ``r`` of samples begins in ``[blocks of samples][classes][BLOCK]``."""
    return (r // VECTORS * classes * VECTORS + r % VECTORS) * lanes_of(array)


@phase
def softmax(
    partial, p_start, groups, p_stride, classes, n_classes, samples, scale,
    logits, l_start, deltas, d_start, log_sums, s_start,
):  # fmt: skip
    """Softmax of the logits, stable for any finite logits: the largest is subtracted first.

    Parameters
    ----------
    partial : float (flat)
        Parts of the logits: ``groups`` arrays from ``partial_logits`` from ``p_start``, ``p_stride`` apart.
    classes, n_classes : int
        Classes with and without padding.
    samples : int
        Samples in use.
    scale : float
        The probabilities are multiplied by this.
    logits, deltas : float (flat), overwritten
        Logits and scaled probabilities, ``[blocks of samples][classes][BLOCK]``; padded classes are 0 in ``deltas``.
    log_sums : float (flat), overwritten
        log(sum(exp(logits))) of each sample.
    """
    block = VECTORS * lanes_of(partial)
    for r in range(register_count(partial, samples)):
        start = register_start(partial, classes, r)
        largest = zeros(partial, 1, 1)
        for c in range(n_classes):
            offset = start + c * block
            tile = load(partial, p_start + offset, 0, 1, 1)
            for group in range(1, groups):
                tile = add(tile, load(partial, p_start + group * p_stride + offset, 0, 1, 1))
            store(logits, l_start + offset, 0, tile)
            largest = tile if c == 0 else maximum(largest, tile)
        total = zeros(partial, 1, 1)
        for c in range(n_classes):
            offset = start + c * block
            tile = exponential(subtract(load(logits, l_start + offset, 0, 1, 1), largest))
            store(deltas, d_start + offset, 0, tile)
            total = add(total, tile)
        store(log_sums, s_start + r * lanes_of(partial), 0, add(logarithm(total), largest))
        share = divide(fill(partial, scale, 1, 1), total)
        for c in range(n_classes):
            offset = d_start + start + c * block
            store(deltas, offset, 0, multiply(load(deltas, offset, 0, 1, 1), share))
        for c in range(n_classes, classes):
            store(deltas, d_start + start + c * block, 0, zeros(deltas, 1, 1))


@phase
def cross_entropy(
    labels,
    order,
    first,
    samples,
    classes,
    scale,
    logits,
    l_start,
    deltas,
    d_start,
    log_sums,
    s_start,
):
    """Finish dL/dlogits = scale (p - onehot) and return the sum of the losses -log p(label).

    Parameters
    ----------
    labels : int (flat)
        Class of every sample of the data set, below the number of classes.
    order, first, samples
        The samples are ``order[first : first + samples]``.
    classes, scale, logits, log_sums
        As in ``softmax``.
    deltas : float (flat), overwritten
        scale * probabilities on entry; samples after the last that are looked at are set to 0.
    """
    block = VECTORS * lanes_of(logits)
    loss = 0.0
    for row in range(samples):
        square, column = row // block, row % block
        label = np.int64(get(labels, np.int64(get(order, first + row))))
        offset = (square * classes + label) * block + column
        put(deltas, d_start + offset, deltas.dtype.type(get(deltas, d_start + offset) - scale))
        loss += np.float64(get(log_sums, s_start + row)) - np.float64(get(logits, l_start + offset))
    for row in range(samples, register_count(logits, samples) * lanes_of(logits)):
        for c in range(classes):
            put(deltas, d_start + (row // block * classes + c) * block + row % block, deltas.dtype.type(0))
    return loss


@phase
def input_gradient(kind, w, w_start, classes, n_classes, rows, deltas, d_start, a, a_start, out, out_start):
    """``out = (deltas W^T) f'(z)`` for one block of the last hidden layer.

    Parameters
    ----------
    kind : int
        The activation function of the hidden layer.
    w : float (flat)
        Block of weights ``[classes][BLOCK]`` at ``w_start``.
    rows : int
        Samples, a multiple of ``ROWS``.
    deltas : float (flat)
        ``[blocks of samples][classes][BLOCK]``.
    a : float (flat)
        Activations of the block, ``[rows][BLOCK]`` at ``a_start``.
    out : float (flat), overwritten
        ``[rows][BLOCK]`` at ``out_start``.
    """
    block = VECTORS * lanes_of(w)
    for row in range(0, rows, ROWS):
        d_offset = d_start + row // block * classes * block + row % block
        tile = zeros(w, ROWS, VECTORS)
        for c in range(n_classes):
            tile = multiply_add(tile, deltas, d_offset + c * block, 1, w, w_start + c * block)
        store(out, out_start + row * block, block, times_derivative(kind, tile, a, a_start + row * block))


@phase
def weight_step(
    rule, first, last, momentum, shrink, deltas, d_start, classes, samples, a, a_start, w, v, sums, w_start
):
    """One step for one block of weights ``[classes][BLOCK]``: ``deltas^T a``, then the update rule.

    Parameters
    ----------
    rule, first, last, momentum, shrink
        See ``optimizer``.
    deltas : float (flat)
        ``[blocks of samples][classes][BLOCK]``, already multiplied by -learning_rate / batch_size.
    a : float (flat)
        Inputs, a block ``[samples][BLOCK]`` at ``a_start``.
    w, v, sums : float (flat), overwritten
        Weights, velocities, sums of earlier pieces, at ``w_start``.
    """
    block = VECTORS * lanes_of(w)
    for c in range(0, classes, CLASS_ROWS):
        offset = w_start + c * block
        tile = optimizer.begin(rule, first, zeros(w, CLASS_ROWS, VECTORS), w, sums, offset, 0, shrink)
        for row in range(samples):
            d_offset = d_start + (row // block * classes + c) * block + row % block
            tile = multiply_add(tile, deltas, d_offset, block, a, a_start + row * block)
        optimizer.end(rule, last, tile, w, v, sums, offset, 0, momentum, shrink)


@phase
def step_bias(rule, first, last, momentum, deltas, d_start, classes, samples, scratch, s_start, w, v, sums, bias):
    """One step for the biases: the deltas of each class summed over the samples, then the update rule.

    ``scratch`` (float, overwritten) needs room for BLOCK numbers at ``s_start``.
    """
    block = VECTORS * lanes_of(w)
    for start in range(0, classes, block):
        store(scratch, s_start, 0, zeros(scratch, 1, VECTORS))
        for c in range(start, min(start + block, classes)):
            tile = zeros(w, 1, 1)
            for r in range(register_count(w, samples)):
                tile = add(tile, load(deltas, d_start + register_start(w, classes, r) + c * block, 0, 1, 1))
            put(scratch, s_start + c - start, sum_elements(tile))
        total = load(scratch, s_start, 0, 1, VECTORS)
        optimizer.step_row(rule, first, last, total, w, v, sums, bias + start, momentum, 0.0)
