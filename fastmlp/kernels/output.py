"""The output layer: logits, softmax with cross-entropy, its gradient and step.

The layer is split by its inputs: whoever owns a block of the last hidden layer owns the weights that leave it, stored
as ``[classes][BLOCK]``. Logits are then sums over the blocks, formed per group and added in the order of the groups.
Samples run along the vectors: logits and deltas are ``[blocks of samples][classes][BLOCK]``.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import optimizer
from fastmlp.kernels.activation import times_derivative
from fastmlp.kernels.compiler import phase
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


@phase
def partial_logits(w, w_start, bias, classes, first, last, a, a_start, squares, capacity, out, out_start):
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
    squares, capacity : int
        Blocks of samples in use, and blocks of samples that the panel has room for.
    out : float (flat), overwritten
        ``[squares][classes][BLOCK]`` at ``out_start``.
    """
    block = VECTORS * lanes_of(w)
    for square in range(squares):
        for c in range(0, classes, CLASS_ROWS):
            tile = zeros(w, CLASS_ROWS, VECTORS)
            if first == 0:
                tile = multiply_add_rows(tile, w, bias + c, fill(w, 1.0, CLASS_ROWS, VECTORS))
            for k in range(first, last):
                w_offset = w_start + (k * classes + c) * block
                a_offset = a_start + (k * capacity + square) * block * block
                for i in range(block):
                    tile = multiply_add(tile, w, w_offset + i, block, a, a_offset + i * block)
            store(out, out_start + (square * classes + c) * block, block, tile)


@phase
def softmax(
    partial,
    p_start,
    groups,
    p_stride,
    classes,
    n_classes,
    squares,
    scale,
    logits,
    l_start,
    deltas,
    d_start,
    log_sums,
    s_start,
):
    """Softmax of the logits, stable for any finite logits: the largest is subtracted first.

    Parameters
    ----------
    partial : float (flat)
        Parts of the logits: ``groups`` arrays ``[squares][classes][BLOCK]`` from ``p_start``, ``p_stride`` apart.
    classes, n_classes : int
        Classes with and without padding.
    scale : float
        The probabilities are multiplied by this.
    logits, deltas : float (flat), overwritten
        Logits and scaled probabilities, ``[squares][classes][BLOCK]``; padded classes are 0 in ``deltas``.
    log_sums : float (flat), overwritten
        log(sum(exp(logits))) of each sample.
    """
    block = VECTORS * lanes_of(partial)
    for square in range(squares):
        largest = zeros(partial, 1, VECTORS)
        for c in range(n_classes):
            offset = (square * classes + c) * block
            tile = load(partial, p_start + offset, 0, 1, VECTORS)
            for group in range(1, groups):
                tile = add(tile, load(partial, p_start + group * p_stride + offset, 0, 1, VECTORS))
            store(logits, l_start + offset, 0, tile)
            largest = tile if c == 0 else maximum(largest, tile)
        total = zeros(partial, 1, VECTORS)
        for c in range(n_classes):
            offset = (square * classes + c) * block
            tile = exponential(subtract(load(logits, l_start + offset, 0, 1, VECTORS), largest))
            store(deltas, d_start + offset, 0, tile)
            total = add(total, tile)
        store(log_sums, s_start + square * block, 0, add(logarithm(total), largest))
        share = divide(fill(partial, scale, 1, VECTORS), total)
        for c in range(n_classes):
            offset = d_start + (square * classes + c) * block
            store(deltas, offset, 0, multiply(load(deltas, offset, 0, 1, VECTORS), share))
        for c in range(n_classes, classes):
            store(deltas, d_start + (square * classes + c) * block, 0, zeros(deltas, 1, VECTORS))


@phase
def cross_entropy(
    labels,
    order,
    first,
    samples,
    classes,
    squares,
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
    classes, squares, scale, logits, log_sums
        As in ``softmax``.
    deltas : float (flat), overwritten
        scale * probabilities on entry; samples after the last are set to 0.
    """
    block = VECTORS * lanes_of(logits)
    loss = 0.0
    for row in range(samples):
        square, column = row // block, row % block
        offset = (square * classes + np.int64(labels[order[first + row]])) * block + column
        deltas[d_start + offset] -= scale
        loss += np.float64(log_sums[s_start + row]) - np.float64(logits[l_start + offset])
    for row in range(samples, squares * block):
        for c in range(classes):
            deltas[d_start + (row // block * classes + c) * block + row % block] = 0
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
def step_bias(rule, first, last, momentum, deltas, d_start, classes, squares, scratch, s_start, w, v, sums, bias):
    """One step for the biases: the deltas of each class summed over the samples, then the update rule.

    ``scratch`` (float, overwritten) needs room for BLOCK numbers at ``s_start``.
    """
    block = VECTORS * lanes_of(w)
    for start in range(0, classes, block):
        store(scratch, s_start, 0, zeros(scratch, 1, VECTORS))
        for c in range(start, min(start + block, classes)):
            tile = zeros(w, 1, VECTORS)
            for square in range(squares):
                tile = add(tile, load(deltas, d_start + (square * classes + c) * block, 0, 1, VECTORS))
            scratch[s_start + c - start] = sum_elements(tile)
        total = load(scratch, s_start, 0, 1, VECTORS)
        optimizer.step_row(rule, first, last, total, w, v, sums, bias + start, momentum, 0.0)
