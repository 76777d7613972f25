"""Forward propagation of some samples, by the thread that owns some blocks of each layer.

The input and hidden layers are owned by columns, the output layer by rows: whoever owns a block of the last hidden
layer owns what leaves it. Narrow networks are shared otherwise, see ``batch``. Training (``batch``) runs this on a team
of threads, prediction (``bulk``) on teams of one.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import dense, input_layer, output, sparse, split, walks
from fastmlp.kernels.activation import RELU, activate
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.marks import MARK
from fastmlp.kernels.matrix_unit import MATRIX_UNIT
from fastmlp.kernels.piece import activations, logits_start, partial_sums
from fastmlp.kernels.team import share
from fastmlp.kernels.thresholds import MATRIX_BLOCKS
from fastmlp.kernels.tile import VECTORS, lanes_of


@phase
def gather(layers, options, data, memory, piece, gathered):
    """Standardise the samples of a piece, for the blocks of inputs that this thread needs, or list what is not zero.

    ``gathered`` tells whether ``input_layer.gather_samples`` has been called for them.
    """
    if options.sparse:
        input_layer.gather(layers, options, data, memory, piece, gathered)
        return
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    first, last = np.int64(0), layer.inputs
    if len(layers) == 1:
        first, last = layer.first_block, layer.last_block
    dense.standardise(
        data.x, options.n_features, data.order, piece.start, piece.samples, piece.squares * block,
        data.origin, data.factor, first, last, memory.own, options.capacity, piece.ahead,
    )  # fmt: skip


@kernel
def on_matrix_unit(layer, memory, piece):
    """Whether the products of a hidden layer are left to the matrix unit, for this piece."""
    wide = layer.inputs >= MATRIX_BLOCKS and layer.outputs >= MATRIX_BLOCKS
    return MATRIX_UNIT and len(memory.operands) > 0 and wide and piece.samples >= split.FEWEST_SAMPLES


@kernel
def rectified(options, memory):
    """Whether products can skip the zeros that a ReLU has left in their inputs."""
    # smaller blocks do not fill the bytes that threads write side by side
    return options.activation == RELU and VECTORS * lanes_of(memory.own) >= 8


@kernel
def skips_zeros(layers, i, options, memory, piece):
    """Whether hidden layer ``i`` walks over the inputs that are not zero: background, or what a ReLU has left."""
    if i == 0:
        return options.sparse != 0
    skips = layers[i].skips != 0 and rectified(options, memory)
    return skips and not on_matrix_unit(layers[i], memory, piece)


@kernel
def activation_marks(layer, options, piece):
    """Where in the shared masks the inputs of a layer are described for this piece."""
    return layer.nonzero + piece.number % 2 * layer.words * options.capacity


@kernel
def mark(layer, options, memory, piece, first, last, a_start, n_start):
    """Describe in the shared masks which numbers are not zero in some blocks of a panel."""
    panel = options.capacity * VECTORS * lanes_of(memory.own)
    rows = (piece.samples + MARK - 1) // MARK * MARK
    for b in range(first, last):
        walks.mark_block(
            memory.shared, a_start + b * panel, piece.samples, rows, memory.masks, n_start, options.capacity, b
        )  # fmt: skip


@phase
def forward_rectified(layer, options, memory, piece, first, last, a_start):
    """Pre-activations of some blocks of a hidden layer, from those inputs that a ReLU has left on."""
    block = VECTORS * lanes_of(memory.own)
    weights = layer.inputs * block * block
    panel = options.capacity * block
    sparse.forward(
        last - first, memory.shared, a_start, options.capacity, piece.rows, layer.words,
        memory.masks, activation_marks(layer, options, piece),
        memory.parameters, layer.weights + first * weights, weights, memory.parameters, layer.bias + first * block,
        memory.shared, activations(layer, options, piece, block) + first * panel, panel,
    )  # fmt: skip


@phase
def forward(layers, i, options, data, memory, piece):
    """Activations of the blocks that this thread owns of hidden layer ``i``.

    Of the first, if inputs have a background, after ``input_layer.multiply``.
    """
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    first, last = layer.first_block, layer.last_block
    z_start = activations(layer, options, piece, block)
    if skips_zeros(layers, i, options, memory, piece):
        if i == 0:
            for b in range(first, last):
                input_layer.complete(layers, options, data, memory, piece, b)
        else:
            a_start = activations(layers[i - 1], options, piece, block)
            forward_rectified(layer, options, memory, piece, first, last, a_start)
    else:
        a, a_start = memory.own, np.int64(0)
        if i > 0:
            a, a_start = memory.shared, activations(layers[i - 1], options, piece, block)
        weights, panel = layer.inputs * block * block, options.capacity * block
        arguments = (
            last - first, a, a_start, options.capacity, piece.rows, layer.inputs,
            memory.parameters, layer.weights + first * weights, weights,
            memory.parameters, layer.bias + first * block, memory.shared, z_start + first * panel, panel,
        )  # fmt: skip
        if on_matrix_unit(layer, memory, piece):
            split.forward(*arguments, memory.operands)
        else:
            dense.forward(*arguments)
    for b in range(first, last):
        offset = z_start + b * options.capacity * block
        activate(options.activation, memory.shared, offset, piece.rows, layer.width - b * block)
    if i + 1 < len(layers) - 1 and skips_zeros(layers, i + 1, options, memory, piece):
        n_start = activation_marks(layers[i + 1], options, piece)
        mark(layer, options, memory, piece, first, last, z_start, n_start)


@kernel
def where_handed(layer, options, memory, piece, b):
    """Where block ``b`` of the activations of a hidden layer is handed on.

    Of even and odd pieces half of the blocks apart: one of two threads then writes where it has read last; see
    ``batch``. Once, since it is taken before the barrier at the logits, and written again after it.
    """
    place = (b + piece.number % 2 * (layer.outputs // 2)) % layer.outputs
    return layer.handed + place * options.capacity * VECTORS * lanes_of(memory.own)


@phase
def hand_on(layers, i, options, memory, piece):
    """Hand on copies of the owned blocks of activations of hidden layer ``i``, of which the next one needs all."""
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    start, panel = activations(layer, options, piece, block), options.capacity * block
    first, last = layer.first_block, layer.last_block
    for b in range(first, last):
        target = where_handed(layer, options, memory, piece, b)
        dense.copy_block(memory.shared, start + b * panel, piece.rows, memory.exchange, target)


@phase
def take(layers, i, options, memory, piece):
    """Take the blocks of activations of hidden layer ``i`` that others have handed on."""
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    start, panel = activations(layer, options, piece, block), options.capacity * block
    skips, n_start = skips_zeros(layers, i + 1, options, memory, piece), activation_marks(layers[i + 1], options, piece)
    for b in range(layer.outputs):
        if b < layer.first_block or b >= layer.last_block:
            source = where_handed(layer, options, memory, piece, b)
            dense.copy_block(memory.exchange, source, piece.rows, memory.shared, start + b * panel)
            if skips:
                mark(layer, options, memory, piece, b, b + 1, start, n_start)


@phase
def forward_output(layers, options, memory, piece):
    """The parts of the logits that come from the groups that this thread owns of the last hidden layer."""
    layer = layers[len(layers) - 1]
    block = VECTORS * lanes_of(memory.own)
    capacity = options.capacity
    squares = capacity // block
    first, last = layer.first_block, layer.last_block
    for b in range(first, last):
        target = layer.transposed + b * capacity * block
        for square in range(piece.squares):
            offset = b * capacity * block + square * block * block
            rows = min(block, piece.samples - square * block)
            if len(layers) > 1:
                source = activations(layers[len(layers) - 2], options, piece, block) + offset
                dense.transpose_square(memory.shared, source, rows, memory.shared, target + square * block * block)
            else:
                dense.transpose_square(memory.own, offset, rows, memory.shared, target + square * block * block)
    for group in range(layer.first_group, layer.last_group):
        output.partial_logits(
            memory.parameters, layer.weights, layer.bias, layer.outputs,
            share(layer.inputs, layer.groups, group), share(layer.inputs, layer.groups, group + 1),
            memory.shared, layer.transposed, piece.samples, squares,
            memory.parts, partial_sums(layer, capacity * layer.outputs, piece, group),
        )  # fmt: skip


@phase
def probabilities(layers, options, memory, piece, scale):
    """Add the parts of the logits and take the softmax; every thread computes the same.

    Leaves in the own memory, one behind the other: logits, ``scale`` times the probabilities, and the logarithms of
    the sums of the exponentials.
    """
    layer = layers[len(layers) - 1]
    length = options.capacity * layer.outputs
    logits = logits_start(options)
    output.softmax(
        memory.parts, partial_sums(layer, length, piece, 0), layer.groups, length, layer.outputs, options.n_classes,
        piece.samples, scale, memory.own, logits, memory.own, logits + length, memory.own, logits + 2 * length,
    )  # fmt: skip
