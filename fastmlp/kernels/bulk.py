"""Prediction and evaluation: large sets of samples, in pieces that the threads take as they come.

Each thread predicts its pieces alone, with memory of its own. What a piece gives is written to its own place, so that
the result does not depend on which thread took it.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import input_layer, output
from fastmlp.kernels.compiler import entry_kernel, kernel, phase
from fastmlp.kernels.flat import flat, get
from fastmlp.kernels.machine import (
    fetch_add,
    flush_subnormals,
    load_acquire,
    pause,
    restore_floating_point,
    yield_processor,
)
from fastmlp.kernels.matrix_unit import begin_tiles, end_tiles
from fastmlp.kernels.piece import logits_start, lone_piece, scratch_start
from fastmlp.kernels.propagation import forward, forward_output, gather, probabilities
from fastmlp.kernels.reference import by_reference
from fastmlp.kernels.team import SPINS
from fastmlp.kernels.tile import VECTORS, fill, lanes_of, load, store, where_greater, zeros

# Words of the control array: next piece to take, whether to stop, pieces done.
NEXT, STOP, DONE = 0, 8, 16
CONTROL_WORDS = 24

# The caller, once no piece is left, waits for those of others; after so many turns of its processor it looks whether
# Ctrl-C was pressed.
_TURNS = 100


@phase
def count_correct(layers, options, data, memory, piece):
    """Number of samples whose largest logit is that of their label; of equal logits the first counts."""
    layer = layers[len(layers) - 1]
    block = VECTORS * lanes_of(memory.own)
    scratch = scratch_start(layers, options)
    correct = 0
    for square in range(piece.squares):
        start = logits_start(options) + square * layer.outputs * block
        largest = load(memory.own, start, 0, 1, VECTORS)
        predicted = zeros(memory.own, 1, VECTORS)
        for c in range(1, options.n_classes):
            logits = load(memory.own, start + c * block, 0, 1, VECTORS)
            predicted = where_greater(logits, largest, fill(memory.own, c, 1, VECTORS), predicted)
            largest = where_greater(logits, largest, logits, largest)
        store(memory.own, scratch, 0, predicted)
        for row in range(square * block, min((square + 1) * block, piece.samples)):
            label = get(data.labels, np.int64(get(data.order, piece.start + row)))
            correct += np.int64(get(memory.own, scratch + row - square * block)) == label
    return correct


@phase
def copy_probabilities(layers, options, memory, piece, out):
    """Rows of class probabilities, ``out[start : start + samples]``."""
    layer = layers[len(layers) - 1]
    block = VECTORS * lanes_of(memory.own)
    first = logits_start(options) + options.capacity * layer.outputs
    for row in range(piece.samples):
        start = first + row // block * layer.outputs * block + row % block
        for c in range(options.n_classes):
            out[piece.start + row, c] = get(memory.own, start + c * block)


@kernel
def all_done(control, pieces):
    """Wait for a while until all pieces are done; returns whether they are."""
    waited = 0
    while load_acquire(control, DONE) < pieces and waited < SPINS + _TURNS:
        waited += 1
        if waited < SPINS:
            pause()
        else:
            yield_processor()
    return load_acquire(control, DONE) >= pieces


@entry_kernel
def predict_pieces(layers, options_record, data, memory, team, losses, correct, out, prepared, most):
    """Forward propagation of all samples in ``data.order``; every thread calls this with a team of one.

    Parameters
    ----------
    layers : LAYER (n_layers,)
    options_record : OPTIONS (1,)
        ``batch_size`` is the number of samples of a piece.
    data : Data
        Without labels (none at all), losses and accuracy are not computed.
    memory : Memory
        Only the parameters are shared between threads.
    team : Team
        ``control`` is shared between threads.
    losses : float64 (pieces,), overwritten
        Sum of the cross-entropies of each piece.
    correct : int64 (pieces,), overwritten
        Number of correct predictions of each piece.
    out : float (samples or 0, classes), overwritten
        Probabilities; not computed if there is no room for any.
    prepared : uint8 (2,), overwritten
        What this thread's memory holds already, see ``input_layer.prepare``.
    most : int
        Return after so many pieces at the latest.

    Returns
    -------
    bool
        Whether all pieces are done, also those of other threads.
    """
    mode = flush_subnormals()
    if len(memory.operands) > 0:
        begin_tiles()
    options = options_record[0]
    layers, data, memory, team = flat(layers), by_reference(data), by_reference(memory), by_reference(team)
    pieces = (len(data.order) + options.batch_size - 1) // options.batch_size
    ahead = fetch_add(team.control, NEXT, 1) * options.batch_size
    # whoever finds nothing left does not touch the memory, which may be in use again
    if ahead < len(data.order) and options.sparse:
        input_layer.prepare(layers, data, memory, prepared)
    taken = 0
    while ahead < len(data.order) and load_acquire(team.control, STOP) == 0:
        taken += 1
        start, ahead = ahead, np.int64(len(data.order))
        if taken < most:
            ahead = fetch_add(team.control, NEXT, 1) * options.batch_size
        samples = min(options.batch_size, len(data.order) - start)
        piece = by_reference(lone_piece(start, samples, ahead, memory))
        gather(layers, options, data, memory, piece, False)
        if options.sparse:
            input_layer.multiply(layers, options, data, memory, piece)
        for i in range(len(layers) - 1):
            forward(layers, i, options, data, memory, piece)
        forward_output(layers, options, memory, piece)
        probabilities(layers, options, memory, piece, 1.0)
        if len(out) > 0:
            copy_probabilities(layers, options, memory, piece, out)
        if len(data.labels) > 0:
            layer = layers[len(layers) - 1]
            length = options.capacity * layer.outputs
            logits = logits_start(options)
            index = start // options.batch_size
            correct[index] = count_correct(layers, options, data, memory, piece)
            losses[index] = output.cross_entropy(
                data.labels, data.order, start, samples, layer.outputs, 1.0,
                memory.own, logits, memory.own, logits + length, memory.own, logits + 2 * length,
            )  # fmt: skip
        fetch_add(team.control, DONE, 1)
    if len(memory.operands) > 0:
        end_tiles()
    restore_floating_point(mode)
    return taken < most and all_done(team.control, pieces)
