"""Back-propagation through some samples and the steps of all weights, each by the thread that owns them.

The counterpart of ``propagation``; ``batch`` says what threads exchange, and when.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import dense, input_step, optimizer, output, sparse, split, walks
from fastmlp.kernels.activation import times_derivative
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.input_layer import inputs_of_half
from fastmlp.kernels.layout import TRANSPOSED_BLOCKS, WORD
from fastmlp.kernels.marks import MARK
from fastmlp.kernels.piece import activations, deltas_of, earlier_activations, logits_start, scratch_start
from fastmlp.kernels.propagation import activation_marks, on_matrix_unit, probabilities, rectified, skips_zeros
from fastmlp.kernels.team import share
from fastmlp.kernels.thresholds import NARROW_INPUTS
from fastmlp.kernels.tile import ROWS, VECTORS, add, lanes_of, load, store, zeros


@phase
def loss(layers, options, data, memory, piece, scale):
    """Sum of the losses of a piece; leaves scale * dL/dlogits in the own memory. Every thread computes the same."""
    probabilities(layers, options, memory, piece, scale)
    layer = layers[len(layers) - 1]
    length = options.capacity * layer.outputs
    logits = logits_start(options)
    return output.cross_entropy(
        data.labels, data.order, piece.start, piece.samples, layer.outputs, scale,
        memory.own, logits, memory.own, logits + length, memory.own, logits + 2 * length,
    )  # fmt: skip


@phase
def backward_output(layers, options, memory, piece, shrink):
    """Gradient of the last hidden layer's owned blocks, and the step of the weights that leave them."""
    layer = layers[len(layers) - 1]
    block = VECTORS * lanes_of(memory.own)
    capacity = options.capacity
    logits = logits_start(options)
    deltas = logits + capacity * layer.outputs
    first, last = layer.first_block, layer.last_block
    for b in range(first, last):
        w_start = layer.weights + b * layer.outputs * block
        if len(layers) > 1:
            below = layers[len(layers) - 2]
            a_start = activations(below, options, piece, block) + b * capacity * block
            d_start = deltas_of(below, options, piece, block) + b * capacity * block
            output.input_gradient(
                options.activation, memory.parameters, w_start, layer.outputs, options.n_classes, piece.rows,
                memory.own, deltas, memory.shared, a_start, memory.shared, d_start,
            )  # fmt: skip
            output.weight_step(
                options.rule, piece.first, piece.last, options.momentum, shrink, memory.own, deltas, layer.outputs,
                piece.samples, memory.shared, a_start, memory.parameters, memory.velocities, memory.sums, w_start,
            )  # fmt: skip
        else:
            output.weight_step(
                options.rule, piece.first, piece.last, options.momentum, shrink, memory.own, deltas, layer.outputs,
                piece.samples, memory.own, b * capacity * block,
                memory.parameters, memory.velocities, memory.sums, w_start,
            )  # fmt: skip
    if first == 0 and last > 0:
        output.step_bias(
            options.rule, piece.first, piece.last, options.momentum, memory.own, deltas, layer.outputs, piece.samples,
            memory.own, logits, memory.parameters, memory.velocities, memory.sums, layer.bias,
        )  # fmt: skip


@phase
def clear_biases(layers, options, memory):
    """Set to zero what stands for the biases in products that have none."""
    for b in range(TRANSPOSED_BLOCKS):
        start = scratch_start(layers, options) + b * VECTORS * lanes_of(memory.own)
        store(memory.own, start, 0, zeros(memory.own, 1, VECTORS))


@kernel
def gaps_of_parts(layer, options, piece, block):
    """How far apart the parts of the gradient of a layer's inputs are: those of two blocks, and those of two groups.

    A part comes from a group of outputs and goes to the owner of a block of inputs. If there are as many of both they
    change places from piece to piece, so that a thread writes where it has read last; see ``batch``.
    """
    panel = options.capacity * block
    if piece.number % 2 == 1 and layer.groups == layer.inputs:
        return layer.inputs * panel, panel
    return panel, layer.inputs * panel


@phase
def propagate_parts(layers, i, options, memory, piece):
    """The parts of dL/da of the layer below hidden layer ``i`` that come from the groups that this thread owns.

    The same products as forwards, ``dz W^T``, with the weights transposed, a few blocks at a time.
    """
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    square, panel = block * block, options.capacity * block
    nothing = scratch_start(layers, options)  # instead of biases
    skip = layer.inputs >= NARROW_INPUTS and rectified(options, memory)
    gap, group_gap = gaps_of_parts(layer, options, piece, block)
    first_group, last_group = layer.first_group, layer.last_group
    for group in range(first_group, last_group):
        first, last = share(layer.outputs, layer.groups, group), share(layer.outputs, layer.groups, group + 1)
        d_start = deltas_of(layer, options, piece, block) + first * panel
        if on_matrix_unit(layer, memory, piece):
            split.input_gradient(
                layer.inputs, last - first, memory.parameters, layer.weights + first * layer.inputs * square,
                layer.inputs * square, memory.shared, d_start, options.capacity, piece.rows,
                memory.parts, layer.parts + group * group_gap, memory.operands,
            )  # fmt: skip
            continue
        w_start, w_gap = nothing + TRANSPOSED_BLOCKS * block, (last - first) * square
        words = ((last - first) * block + WORD - 1) // WORD
        if skip:
            walks.mark_panel(
                memory.shared, d_start, last - first, piece.samples, piece.rows, memory.nonzero, options.capacity, words
            )  # fmt: skip
        for b in range(0, layer.inputs, TRANSPOSED_BLOCKS):
            count = min(TRANSPOSED_BLOCKS, layer.inputs - b)
            for k in range(count):
                for j in range(last - first):
                    source = layer.weights + ((first + j) * layer.inputs + b + k) * square
                    target = w_start + k * w_gap + j * square
                    dense.transpose_square(memory.parameters, source, block, memory.own, target)
            target = layer.parts + group * group_gap + b * gap
            if skip:
                sparse.forward(
                    count, memory.shared, d_start, options.capacity, piece.rows, words,
                    memory.nonzero, 0, memory.own, w_start, w_gap,
                    memory.own, nothing, memory.parts, target, gap,
                )  # fmt: skip
            else:
                dense.forward(
                    count, memory.shared, d_start, options.capacity, piece.rows, last - first,
                    memory.own, w_start, w_gap, memory.own, nothing, memory.parts, target, gap,
                )  # fmt: skip


@phase
def collect_parts(layers, i, options, memory, piece):
    """dL/dz of the owned blocks of the layer below hidden layer ``i``: the parts added, times f'(z)."""
    layer, below = layers[i], layers[i - 1]
    block = VECTORS * lanes_of(memory.own)
    panel = options.capacity * block
    gap, group_gap = gaps_of_parts(layer, options, piece, block)
    first, last = below.first_block, below.last_block
    for b in range(first, last):
        a_start = activations(below, options, piece, block) + b * panel
        for row in range(0, piece.rows * block, ROWS * block):
            start = layer.parts + b * gap + row
            tile = load(memory.parts, start, block, ROWS, VECTORS)
            for group in range(1, layer.groups):
                tile = add(tile, load(memory.parts, start + group * group_gap, block, ROWS, VECTORS))
            tile = times_derivative(options.activation, tile, memory.shared, a_start + row)
            store(memory.shared, deltas_of(below, options, piece, block) + b * panel + row, block, tile)


@phase
def list_units(layer, options, memory, piece):
    """List the walks over the inputs of a hidden layer that a ReLU has left on."""
    words = (piece.samples + MARK - 1) // MARK
    walks.mark_samples(
        memory.masks, activation_marks(layer, options, piece), options.capacity, layer.words, words, memory.marks
    )  # fmt: skip
    inputs = layer.inputs * VECTORS * lanes_of(memory.own)
    walks.list_units(memory.marks, words, inputs, memory.units, layer.words * WORD)


@phase
def step_biases(layers, i, options, memory, piece, shrink, first, last):
    """The step of the biases of some blocks of hidden layer ``i``, and of what is kept aside for its weights."""
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    for b in range(first, last):
        d_start = deltas_of(layer, options, piece, block) + b * options.capacity * block
        total = dense.sum_samples(memory.shared, d_start, piece.rows)
        optimizer.step_row(
            options.rule, piece.first, piece.last, total, memory.parameters, memory.velocities, memory.sums,
            layer.bias + b * block, options.momentum, 0.0,
        )  # fmt: skip
        if i == 0 and options.sparse:
            input_step.step_background(layers, options, memory, piece, shrink, b, d_start, total)


@phase
def step_hidden(layers, i, options, data, memory, piece, shrink):
    """The step of the weights and biases of the owned blocks of hidden layer ``i``."""
    layer = layers[i]
    first, last = layer.first_block, layer.last_block
    step_biases(layers, i, options, memory, piece, shrink, first, last)
    if i == 0 and options.sparse:
        input_step.step_piece(layers, options, data, memory, piece, shrink)
        return
    block = VECTORS * lanes_of(memory.own)
    weights, panel = layer.inputs * block * block, options.capacity * block
    d_start = deltas_of(layer, options, piece, block)
    a, a_start = memory.own, np.int64(0)
    if i > 0:
        a, a_start = memory.shared, activations(layers[i - 1], options, piece, block)
    if skips_zeros(layers, i, options, memory, piece):
        list_units(layer, options, memory, piece)
        sparse.step_units(
            last - first, options.rule, piece.first, piece.last, options.momentum, shrink,
            a, a_start, options.capacity, memory.units, layer.words * WORD,
            memory.shared, d_start + first * panel, panel,
            memory.parameters, memory.velocities, memory.sums, layer.weights + first * weights, weights,
        )  # fmt: skip
    elif on_matrix_unit(layer, memory, piece):
        begins, earlier, a_earlier = piece.first, np.int64(0), np.int64(0)
        if i > 0:  # inputs are kept for one piece only
            begins, earlier = piece.begins, piece.earlier
            a_earlier = earlier_activations(layers[i - 1], options, piece, block)
        if i == 0 or not piece.waits:
            split.weight_step(
                last - first, options.rule, begins, piece.last, options.momentum, shrink,
                a, a_start, a_earlier, options.capacity, earlier, piece.samples, layer.inputs,
                memory.shared, d_start + first * panel, layer.deltas + first * panel, panel,
                memory.parameters, memory.velocities, memory.sums, layer.weights + first * weights, weights,
                memory.operands,
            )  # fmt: skip
    else:
        dense.weight_step(
            last - first, options.rule, piece.first, piece.last, options.momentum, shrink, a, a_start,
            options.capacity, piece.samples, layer.inputs, memory.shared, d_start + first * panel, panel,
            memory.parameters, memory.velocities, memory.sums, layer.weights + first * weights, weights,
        )  # fmt: skip


@kernel
def where_weighed(layer, memory, piece):
    """Where the sums of squared weights of a layer are, and how many: of its groups, or of halves of its inputs."""
    sums, count = memory.parts, layer.groups
    if layer.halves > 1:
        sums, count = memory.exchange, layer.halves
    return sums, layer.squares + piece.number % 2 * count, count


@phase
def weigh(layers, i, memory, piece):
    """Sums of the squared weights that this thread owns of a layer, by groups or halves, for the L2 penalty."""
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    last = i == len(layers) - 1
    length = block * (layer.outputs if last else layer.inputs * block)
    blocks = layer.inputs if last else layer.outputs
    sums, start, _ = where_weighed(layer, memory, piece)
    if layer.halves > 1:
        for half in range(layer.first_half, layer.last_half):
            first, after = inputs_of_half(layer, half, block)
            total = 0.0
            for b in range(blocks):
                offset = layer.weights + b * length + first * block
                total += dense.sum_squares(memory.parameters, offset, (after - first) * block)
            put(sums, start + half, sums.dtype.type(total))
        return
    first_group, last_group = layer.first_group, layer.last_group
    for group in range(first_group, last_group):
        first, after = share(blocks, layer.groups, group), share(blocks, layer.groups, group + 1)
        total = dense.sum_squares(memory.parameters, layer.weights + first * length, (after - first) * length)
        put(sums, start + group, sums.dtype.type(total))


@kernel
def sum_of_squares(layers, memory, piece):
    """What ``weigh`` found for all layers."""
    total = 0.0
    for i in range(len(layers)):
        sums, start, count = where_weighed(layers[i], memory, piece)
        for k in range(count):
            total += np.float64(get(sums, start + k))
    return total
