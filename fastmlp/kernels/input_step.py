"""The steps of the weights of inputs with a background; the counterpart of ``input_layer``."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import background, idle, optimizer, singles, sparse, split_bytes, stretch
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get
from fastmlp.kernels.input_layer import (
    bytes_on_matrix_unit,
    gather_as_they_are,
    inputs_of_half,
    joined,
    list_quads,
    multiply,
    rule_of,
    starts_of,
    walks_of,
    where_gathered,
)
from fastmlp.kernels.layout import WORD
from fastmlp.kernels.piece import deltas_of, projections_start
from fastmlp.kernels.team import share
from fastmlp.kernels.thresholds import SINGLY
from fastmlp.kernels.tile import VECTORS, add, add_scaled, lanes_of, load, store, zeros


@phase
def begin_stretch(layers, options, data, memory, piece):
    """All products of a stretch with the weights as they are, and those of its samples with each other."""
    layer = layers[0]
    multiply(layers, options, data, memory, piece)
    block = VECTORS * lanes_of(memory.own)
    quads = memory.input_walks
    if SINGLY:  # also there samples are multiplied with each other by quads, of what is gathered
        quads = memory.units  # free until weights of hidden layers step
        nothing_ahead = np.int64(len(data.order))
        gather_as_they_are(layer, options, data, memory, 0, piece.start, piece.samples, nothing_ahead)
        list_quads(layer, options, data, memory, piece, False, quads)
    for b in range(piece.squares):
        # what is right of the diagonal, or in the rows of the first mini-batch, nobody asks for
        begin, end = max(b * block, options.batch_size), min((b + 1) * block, piece.rows)
        # rows are dealt to threads like groups of outputs
        first = begin + share(end - begin, layer.groups, layer.first_group)
        last = begin + share(end - begin, layer.groups, layer.last_group)
        for k in range(b + 1 if first < last else 0):
            stretch.multiply_samples(
                memory.gathered, 0, options.columns, data.numbers, first, last, k, quads, layer.words * WORD,
                memory.shared, layer.products + k * options.capacity * block,
            )  # fmt: skip


@phase
def catch_up(layers, options, memory):
    """Let the owned weights of inputs with samples do the steps for which they have waited."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    gap = layer.inputs * block * block
    first, last = layer.first_block, layer.last_block
    if SINGLY:
        for half in range(layer.first_half, layer.last_half):
            begin, end = inputs_of_half(layer, half, block)
            idle.catch_up_singly(
                begin, end, memory.input_walks, memory.idle, memory.decay, last - first,
                memory.parameters, memory.velocities, layer.weights + first * gap, gap,
            )  # fmt: skip
    else:
        idle.catch_up(
            memory.input_walks, memory.idle, memory.decay, last - first,
            memory.parameters, memory.velocities, layer.weights + first * gap, gap,
        )  # fmt: skip


@kernel
def where_kept(layer, options, memory, piece):
    """The deltas by which the weights of the inputs step: those of a mini-batch where they are, or of a stretch."""
    deltas, start = memory.shared, deltas_of(layer, options, piece, VECTORS * lanes_of(memory.own))
    if options.stretch > 1:
        deltas, start = memory.kept, np.int64(0)
    return deltas, start


@kernel
def _step_by(layer, options, data, memory, piece, number, shrink, input_walks, deltas, d_start):
    """The step of the owned weights by the samples of piece ``number``: this one, the one before, or a stretch."""
    block = VECTORS * lanes_of(memory.own)
    weights, panel = layer.inputs * block * block, options.capacity * block
    rule, first, last = rule_of(options), layer.first_block, layer.last_block
    d_start, w_start = d_start + first * panel, layer.weights + first * weights
    if SINGLY:
        waits = options.idle != 0
        skips = waits or sparse.leaves_empty(rule, piece.first, piece.last, shrink)
        for half in range(layer.first_half, layer.last_half):
            begin, end = inputs_of_half(layer, half, block)
            singles.step(
                last - first, rule, piece.first, piece.last, options.momentum, shrink, skips, waits,
                data.x, options.n_features, data.factor, memory.starts, starts_of(options, number),
                begin, end, input_walks, deltas, d_start, panel,
                memory.parameters, memory.velocities, memory.sums, w_start, weights,
            )  # fmt: skip
            if options.idle:
                idle.count_singly(begin, end, input_walks, memory.idle)
        return
    sparse.step_inputs(
        last - first, rule, piece.first, piece.last, options.momentum, shrink,
        memory.gathered, where_gathered(layer, options, number), options.columns, data.numbers,
        input_walks, layer.words * WORD, deltas, d_start, panel,
        memory.parameters, memory.velocities, memory.sums, w_start, weights,
    )  # fmt: skip
    if options.idle:
        idle.count(input_walks, layer.words * WORD, memory.idle)
        return
    for b in range(last - first):
        sparse.step_empty_quads(
            rule, piece.first, piece.last, options.momentum, shrink, input_walks, layer.words * WORD,
            memory.parameters, memory.velocities, memory.sums, w_start + b * weights,
        )  # fmt: skip


@phase
def step(layers, options, data, memory, piece, shrink):
    """The step of the owned weights of inputs with a background, also by the piece before if that has left its."""
    layer = layers[0]
    deltas, d_start = where_kept(layer, options, memory, piece)
    common = layer, options, data, memory, piece
    if joined(options, piece):
        _step_by(*common, piece.number - 1, shrink, memory.input_walks, deltas, layer.deltas)
        shrink = 0 * shrink  # only once
    _step_by(*common, piece.number, shrink, walks_of(memory, options, piece), deltas, d_start)


@phase
def step_piece(layers, options, data, memory, piece, shrink):
    """The step of the owned weights by a piece, unless that is left to the next piece or to the end of a stretch."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    weights, panel = layer.inputs * block * block, options.capacity * block
    first, last = layer.first_block, layer.last_block
    d_start = deltas_of(layer, options, piece, block)
    kept, k_start = where_kept(layer, options, memory, piece)
    if options.stretch > 1 or get(data.scale, 0) != 1:  # the inputs wait for their factor
        for b in range(first, last):
            stretch.keep(
                data.scale, memory.shared, d_start + b * panel, piece.samples,
                kept, k_start + b * panel + piece.row * block,
            )  # fmt: skip
    if bytes_on_matrix_unit(layer, options, data, memory, piece):
        if not piece.waits:
            split_bytes.weight_step(
                last - first, options.rule, piece.begins, piece.last, options.momentum, shrink,
                memory.gathered, where_gathered(layer, options, piece.number),
                where_gathered(layer, options, piece.number - 1), options.columns, piece.earlier, piece.samples,
                layer.inputs, memory.shared, d_start + first * panel, layer.deltas + first * panel, panel,
                memory.parameters, memory.velocities, memory.sums, layer.weights + first * weights, weights,
                memory.operands,
            )  # fmt: skip
    elif options.stretch == 1 and not (options.joins_pieces and piece.waits):
        step(layers, options, data, memory, piece, shrink)


@kernel
def step_background(layers, options, memory, piece, shrink, b, d_start, total):
    """The step of q and c of block ``b``, whose deltas are at ``d_start``; ``total`` is their sum over the samples."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    start = projections_start(layers, options) + piece.row
    projected = background.project_deltas(memory.own, start, memory.shared, d_start, piece.rows)
    projected = add_scaled(projected, options.background_square, total)
    q_start = layer.background + b * block
    optimizer.step_row(
        options.rule, piece.first, piece.last, projected, memory.parameters, memory.velocities, memory.sums,
        q_start, options.momentum, shrink,
    )  # fmt: skip
    optimizer.step_row(
        options.rule, piece.first, piece.last, total, memory.parameters, memory.velocities, memory.sums,
        q_start + layer.outputs * block, options.momentum, shrink,
    )  # fmt: skip


# What takes in its background.
WEIGHTS, VELOCITIES, GRADIENTS, KINDS = 0, 1, 2, 3


@kernel
def where_folded(layer, memory, w, kind, half, b, barrier):
    """Where q of a block is put: behind the weights ``w``, or that of a half of the inputs to be exchanged."""
    block = VECTORS * lanes_of(memory.own)
    q, start = w, layer.background
    if layer.halves > 1:
        place = (barrier % 2 * KINDS + kind) * layer.halves + half
        q, start = memory.exchange, layer.folded + place * layer.outputs * block
    return q, start + b * block


@phase
def fold(layers, options, data, memory, for_good, barrier):
    """Let the owned weights of the first hidden layer take in what has been kept aside for them.

    And do the steps for which they have waited; if it is for good, velocities do so too. Where threads share the inputs
    they meet at this barrier before they go on with ``finish_fold``.
    """
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    inputs = layer.inputs * block
    first, last = layer.first_block, layer.last_block
    for half in range(layer.first_half, layer.last_half):
        begin, end = inputs_of_half(layer, half, block)
        if options.idle:
            idle.catch_up_all(
                begin, end, memory.idle, memory.decay, last - first, memory.parameters, memory.velocities,
                layer.weights + first * inputs * block, inputs * block, for_good,
            )  # fmt: skip
        for b in range(first, last):
            w_start, c_start = layer.weights + b * inputs * block, layer.background + (layer.outputs + b) * block
            q, q_start = where_folded(layer, memory, memory.parameters, WEIGHTS, half, b, barrier)
            background.fold(begin, end, data.beta, memory.parameters, w_start, c_start, q, q_start)
            if for_good and len(memory.velocities) > 0:
                q, q_start = where_folded(layer, memory, memory.velocities, VELOCITIES, half, b, barrier)
                background.fold(begin, end, data.beta, memory.velocities, w_start, c_start, q, q_start)
            if options.rule == optimizer.GRADIENT:
                q, q_start = where_folded(layer, memory, memory.sums, GRADIENTS, half, b, barrier)
                background.fold(begin, end, data.beta, memory.sums, w_start, c_start, q, q_start)


@kernel
def _finish_fold(layer, memory, w, kind, b, barrier):
    """``finish_fold`` for one block of weights, velocities or gradients."""
    block = VECTORS * lanes_of(memory.own)
    q, start = where_folded(layer, memory, w, kind, 0, b, barrier)
    total = load(q, start, 0, 1, VECTORS)
    for half in range(1, layer.halves):
        total = add(total, load(q, start + half * layer.outputs * block, 0, 1, VECTORS))
    store(w, layer.background + b * block, 0, total)
    store(w, layer.background + (layer.outputs + b) * block, 0, zeros(w, 1, VECTORS))


@phase
def finish_fold(layers, options, memory, for_good, barrier):
    """Set q to that of all inputs, and c to 0."""
    layer = layers[0]
    for b in range(layer.first_block, layer.last_block):
        _finish_fold(layer, memory, memory.parameters, WEIGHTS, b, barrier)
        if for_good and len(memory.velocities) > 0:
            _finish_fold(layer, memory, memory.velocities, VELOCITIES, b, barrier)
        if options.rule == optimizer.GRADIENT:
            _finish_fold(layer, memory, memory.sums, GRADIENTS, b, barrier)
