"""The first hidden layer of inputs with a background, forwards: samples are gathered, what is not zero is multiplied.

See ``background`` for what is kept aside, and ``sparse``, ``singles`` and ``split_bytes`` for the products.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import background, dense, optimizer, singles, sparse, split_bytes, stretch, walks
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.layout import WORD
from fastmlp.kernels.matrix_unit import MATRIX_UNIT
from fastmlp.kernels.piece import activations, projections_start
from fastmlp.kernels.thresholds import MATRIX_BYTES_BLOCKS, SINGLY
from fastmlp.kernels.tile import VECTORS, lanes_of, store, zeros


@kernel
def joined(options, piece):
    """Whether the weights of inputs with a background step by this piece and by the one before it at once."""
    return options.joins_pieces != 0 and piece.earlier > 0


@kernel
def rule_of(options):
    """The rule by which the weights of inputs with a background step: by both pieces at once they need no sums."""
    return optimizer.DIRECT if options.joins_pieces != 0 else options.rule


@kernel
def walks_of(memory, options, piece):
    """The walks over the inputs of this piece."""
    return memory.later_input_walks if joined(options, piece) else memory.input_walks


@kernel
def where_gathered(layer, options, number):
    """Where the samples of piece ``number`` are, once they are gathered."""
    return number % options.gathered_pieces * layer.words * WORD * options.columns


@kernel
def inputs_of_half(layer, half, block):
    """The first input of a half, and the one after its last; all inputs if they are not cut."""
    return half * layer.middle, (layer.middle if half == 0 else layer.inputs * block)


@kernel
def words_of_half(layer, half, block):
    """The first word of a half of the inputs, and the one after its last."""
    first, last = inputs_of_half(layer, half, block)
    return first // WORD, (last + WORD - 1) // WORD


@kernel
def starts_of(options, number):
    """Where in ``Memory.starts`` it is noted where the samples of a piece begin, if walks are over single inputs.

    Those of the next piece are gathered before the step, and with those of the one before it may step together.
    """
    return number % 3 * options.capacity


@kernel
def bytes_suit(layer, data, memory):
    """Whether the products of the first hidden layer may be left to the matrix unit; to predict they are.

    For any number of samples, as a sample has the same bits alone and among others.
    """
    # what waits for its factor is bytes
    return MATRIX_UNIT and len(memory.operands) > 0 and layer.halves == 1 and get(data.scale, 0) != 1


@kernel
def bytes_on_matrix_unit(layer, options, data, memory, piece):
    """Whether they are for this piece, whose inputs have a background, also in training."""
    enough = piece.samples >= split_bytes.FEWEST_SAMPLES or piece.earlier > 0
    trains = enough and layer.outputs >= MATRIX_BYTES_BLOCKS and options.stretch == 1 and options.idle == 0
    return bytes_suit(layer, data, memory) and (len(data.projections) == 0 or trains)


@phase
def gather_samples(layers, options, data, memory, number, start, samples, ahead):
    """Gather some samples with a background, those of piece ``number``: the inputs of the halves this thread owns.

    As they are, or only which of their inputs are not zero.
    """
    layer = layers[0]
    if SINGLY:
        block = VECTORS * lanes_of(memory.own)
        for half in range(layer.first_half, layer.last_half):
            first, last = words_of_half(layer, half, block)
            singles.mark(
                data.x, options.n_features, data.order, start, samples, memory.starts, starts_of(options, number),
                first, last, memory.nonzero, options.capacity, ahead,
            )  # fmt: skip
    else:
        gather_as_they_are(layer, options, data, memory, number, start, samples, ahead)


@phase
def gather_as_they_are(layer, options, data, memory, number, start, samples, ahead):
    """What ``gather_samples`` does where walks are over quads: gather the samples as they are, see ``background``."""
    block = VECTORS * lanes_of(memory.own)
    for half in range(layer.first_half, layer.last_half):
        first, last = inputs_of_half(layer, half, block)
        background.gather(
            data.x, options.n_features, data.order, start, samples, memory.gathered,
            where_gathered(layer, options, number), first, last, options.columns, memory.starts, ahead,
        )  # fmt: skip


@phase
def list_walks(layer, options, data, memory, piece, training):
    """List the walks over the inputs that are not zero in what is gathered."""
    listed = walks_of(memory, options, piece)
    if SINGLY:
        block = VECTORS * lanes_of(memory.own)
        for half in range(layer.first_half, layer.last_half):
            first, last = words_of_half(layer, half, block)
            singles.transpose(memory.nonzero, options.capacity, piece.samples, first, last, memory.marks, listed)
    else:
        pairs = training and sparse.steps_pairs(layer.last_block - layer.first_block, rule_of(options))
        list_quads(layer, options, data, memory, piece, pairs, listed)


@phase
def list_quads(layer, options, data, memory, piece, pairs, quads):
    """List the walks over quads of inputs in samples that are gathered as they are; scale these, if they are floats.

    ``pairs`` and ``quads`` as in ``walks.list_inputs``.
    """
    block = VECTORS * lanes_of(memory.own)
    count, empty = 0, 0
    start = where_gathered(layer, options, piece.number)
    for half in range(layer.first_half, layer.last_half):
        first, last = inputs_of_half(layer, half, block)
        walks.begin_half(quads, half, count)
        count, empty = walks.list_inputs(
            memory.gathered, start, options.columns, piece.samples, first, last, options.apart, pairs,
            quads, layer.words * WORD, count, empty,
        )  # fmt: skip
        background.scale_floats(memory.gathered, start, options.columns, piece.samples, data.factor, first, last)
    walks.begin_half(quads, layer.last_half, count)


@phase
def gather(layers, options, data, memory, piece, gathered):
    """Gather the samples of a piece, list what is not zero, and look up their projections.

    ``gathered`` tells whether ``gather_samples`` has been called for them.
    """
    layer = layers[0]
    training = len(data.projections) > 0
    on_unit = bytes_on_matrix_unit(layer, options, data, memory, piece)
    if not gathered and (training or not on_unit):
        gather_samples(layers, options, data, memory, piece.number, piece.start, piece.samples, piece.ahead)
    if not on_unit and (training or not SINGLY):
        list_walks(layer, options, data, memory, piece, training)
    start = projections_start(layers, options)
    for row in range(piece.rows):
        known = training and row < piece.samples
        sample = np.int64(get(data.order, piece.start + row)) if known else 0
        put(memory.own, start + row, get(data.projections, sample) if known else data.projections.dtype.type(0))


@kernel
def where_summed(layer, options, memory, piece):
    """Where the products of inputs and weights are, or those of a thread's first half of the inputs.

    Where the activations will be, or at a place for a whole stretch.
    """
    block = VECTORS * lanes_of(memory.own)
    if options.stretch > 1:
        return layer.sums + piece.row * block
    return activations(layer, options, piece, block)


@kernel
def where_exchanged(layer, options, memory, piece, half):
    """Where the products of a half of the inputs are handed on to who owns the other.

    There are two places, and each thread writes to the one that it has read last; see ``batch``.
    """
    panel = layer.outputs * options.capacity * VECTORS * lanes_of(memory.own)
    return layer.sums + (piece.number + half) % 2 * panel


@phase
def hand_on(layer, options, memory, piece):
    """Hand the products of the half that this thread owns on to the other thread."""
    panel = options.capacity * VECTORS * lanes_of(memory.own)
    target = where_exchanged(layer, options, memory, piece, layer.first_half)
    source = where_summed(layer, options, memory, piece)
    for b in range(layer.outputs):
        dense.copy_block(memory.shared, source + b * panel, piece.rows, memory.exchange, target + b * panel)


@phase
def multiply(layers, options, data, memory, piece):
    """Products of inputs with a background and the weights of the blocks that this thread owns."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    weights = layer.inputs * block * block
    panel = options.capacity * block
    first, last = layer.first_block, layer.last_block
    start = where_summed(layer, options, memory, piece)
    if bytes_on_matrix_unit(layer, options, data, memory, piece):
        predicts = len(data.projections) == 0  # else the next samples are asked for in ``gather_samples``
        split_bytes.forward(
            last - first, data.x, options.n_features, data.order, piece.start, piece.samples,
            piece.ahead if predicts else np.int64(len(data.order)), memory.starts, layer.inputs,
            memory.parameters, layer.weights + first * weights, weights, predicts,
            memory.shared, start + first * panel, panel, memory.operands,
        )  # fmt: skip
        return
    for half in range(layer.first_half, layer.last_half):
        sums, target = memory.shared, start + first * panel
        if half > layer.first_half:
            sums, target = memory.exchange, where_exchanged(layer, options, memory, piece, half)
        if SINGLY:
            first_word, last_word = words_of_half(layer, half, block)
            singles.forward(
                last - first, data.x, data.factor, memory.starts, starts_of(options, piece.number),
                first_word, last_word, memory.nonzero, options.capacity, piece.rows,
                memory.parameters, layer.weights + first * weights, weights, sums, target, panel,
            )  # fmt: skip
        else:
            quads = walks_of(memory, options, piece)
            first_walk, last_walk = walks.walks_of_half(quads, half)
            sparse.forward_inputs(
                last - first, memory.gathered, where_gathered(layer, options, piece.number), options.columns,
                data.numbers, piece.rows, quads, layer.words * WORD, first_walk, last_walk,
                memory.parameters, layer.weights + first * weights, weights, sums, target, panel,
            )  # fmt: skip
    if layer.last_half - layer.first_half < layer.halves:
        hand_on(layer, options, memory, piece)


@phase
def complete(layers, options, data, memory, piece, b):
    """Pre-activations of a block of the first hidden layer, from ``multiply``."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    panel = b * options.capacity * block
    q_start = layer.background + b * block
    other = where_exchanged(layer, options, memory, piece, 1 - layer.first_half)
    stretch.complete(
        data.scale, memory.shared, where_summed(layer, options, memory, piece) + panel,
        layer.halves > 1, memory.exchange, other + panel,
        memory.shared, layer.products, options.capacity, piece.row, piece.samples, piece.rows, memory.kept, panel,
        memory.parameters, layer.bias + b * block, memory.own, projections_start(layers, options) + piece.row,
        memory.background, q_start, q_start + layer.outputs * block,
        memory.shared, activations(layer, options, piece, block) + panel,
    )  # fmt: skip


@phase
def _prepare_background(layers, data, memory):
    """Compute q of the first hidden layer from weights for which nothing is kept aside."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    inputs = layer.inputs * block
    for b in range(layer.outputs):
        w_start, q_start = layer.weights + b * inputs * block, layer.background + b * block
        background.background_product(0, inputs, data.beta, memory.parameters, w_start, memory.background, q_start)
        store(memory.background, q_start + layer.outputs * block, 0, zeros(memory.background, 1, VECTORS))


@phase
def prepare(layers, data, memory, prepared):
    """Whatever predictions need of the weights of the first hidden layer alone, if it is not there.

    Parameters
    ----------
    prepared : uint8 (2,), overwritten
        Whether q is there, and the weights as the matrix unit takes them.
    """
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    if prepared[0] == 0:
        _prepare_background(layers, data, memory)
        prepared[0] = 1
    if prepared[1] == 0 and bytes_suit(layer, data, memory):
        weights = layer.inputs * block * block
        split_bytes.prepare(layer.outputs, layer.inputs, memory.parameters, layer.weights, weights, memory.operands)
        prepared[1] = 1
