"""Training: many mini-batches in one compiled call, on a team of threads.

Every thread runs ``train_batches`` with the same arguments and its own number. With one hidden layer a mini-batch
needs a single barrier, where the parts of the logits are exchanged; all else is private. Each further hidden layer
exchanges its activations and, on the way back, the parts of the gradient of its inputs that come from each group of its
outputs. Only the owner of weights ever looks at them, and moves them while it waits for the others. To exchange deltas
and weights instead takes 7 to 40 % longer for two hidden layers of 512 at batch 32, the more the busier the memory is,
and 10 % for two of 256; for two of 1024 at batch 512 it takes 5 % less.

What is exchanged is kept twice, for even and odd pieces, so that a thread that is ahead does not overwrite what
another still reads: it can be ahead by less than one piece, as each piece has at least one barrier. Parts of gradients
are kept once: they are read before the barrier at the logits of the next piece, and written again after it.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import background, dense, optimizer, output, sparse, walks
from fastmlp.kernels.activation import times_derivative
from fastmlp.kernels.compiler import entry_kernel, kernel, phase
from fastmlp.kernels.layout import MICRO_BATCH, TRANSPOSED_BLOCKS, WORD
from fastmlp.kernels.machine import clock, flush_subnormals, load_acquire, restore_floating_point
from fastmlp.kernels.propagation import (
    Piece,
    activation_marks,
    activations,
    forward,
    forward_output,
    gather,
    logits_start,
    owned_blocks,
    owned_groups,
    probabilities,
    projections_start,
    rectified,
    scratch_start,
    skips_zeros,
)
from fastmlp.kernels.team import arrive, share, wait
from fastmlp.kernels.tile import MARK, ROWS, VECTORS, add, add_scaled, get, lanes_of, load, store, zeros

# Phases of a mini-batch whose time is measured.
PHASES = ("gather", "forward", "loss", "backward", "waiting")
GATHER, FORWARD, LOSS, BACKWARD, WAITING = range(len(PHASES))

# Words of ``Team.control``, a cache line apart: stop after this step (written from outside), number of steps agreed
# on, steps done, whether the loss was not finite.
STOP, END, DONE, DIVERGED = 0, 8, 16, 24
CONTROL_WORDS = 32


@phase
def loss(layers, options, data, memory, piece, scale):
    """Sum of the losses of a piece; leaves scale * dL/dlogits in the own memory. Every thread computes the same."""
    probabilities(layers, options, memory, piece, scale)
    layer = layers[len(layers) - 1]
    length = options.capacity * layer.outputs
    logits = logits_start(options)
    return output.cross_entropy(
        data.labels, data.order, piece.start, piece.samples, layer.outputs, piece.squares, scale,
        memory.own, logits, memory.own, logits + length, memory.own, logits + 2 * length,
    )  # fmt: skip


@phase
def backward_output(layers, options, memory, team, piece, shrink):
    """Gradient of the last hidden layer's owned blocks, and the step of the weights that leave them."""
    layer = layers[len(layers) - 1]
    block = VECTORS * lanes_of(memory.own)
    capacity = options.capacity
    logits = logits_start(options)
    deltas = logits + capacity * layer.outputs
    first, last = owned_blocks(layer.inputs, layer, team)
    for b in range(first, last):
        w_start = layer.weights + b * layer.outputs * block
        if len(layers) > 1:
            below = layers[len(layers) - 2]
            a_start = activations(below, options, piece, block) + b * capacity * block
            output.input_gradient(
                options.activation, memory.parameters, w_start, layer.outputs, options.n_classes, piece.rows,
                memory.own, deltas, memory.shared, a_start, memory.shared, below.deltas + b * capacity * block,
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
            options.rule, piece.first, piece.last, options.momentum, memory.own, deltas, layer.outputs, piece.squares,
            memory.own, logits, memory.parameters, memory.velocities, memory.sums, layer.bias,
        )  # fmt: skip


@phase
def clear_biases(layers, options, memory):
    """Set to zero what stands for the biases in products that have none."""
    for b in range(TRANSPOSED_BLOCKS):
        start = scratch_start(layers, options) + b * VECTORS * lanes_of(memory.own)
        store(memory.own, start, 0, zeros(memory.own, 1, VECTORS))


@phase
def propagate_parts(layers, i, options, memory, team, piece):
    """The parts of dL/da of the layer below hidden layer ``i`` that come from the groups that this thread owns.

    The same products as forwards, ``dz W^T``, with the weights transposed, a few blocks at a time.
    """
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    square, panel = block * block, options.capacity * block
    nothing = scratch_start(layers, options)  # instead of biases
    skip = rectified(layer.inputs, options, memory)
    first_group, last_group = owned_groups(layer, team)
    for group in range(first_group, last_group):
        first, last = share(layer.outputs, layer.groups, group), share(layer.outputs, layer.groups, group + 1)
        d_start = layer.deltas + first * panel
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
                    dense.transpose_square(memory.parameters, source, memory.own, w_start + k * w_gap + j * square)
            target = layer.parts + (group * layer.inputs + b) * panel
            if skip:
                sparse.forward(
                    count, memory.shared, d_start, options.capacity, piece.rows, words,
                    memory.nonzero, 0, memory.own, w_start, w_gap,
                    memory.own, nothing, memory.shared, target, panel,
                )  # fmt: skip
            else:
                for k in range(count):
                    dense.forward(
                        memory.shared, d_start, options.capacity, piece.rows, last - first,
                        memory.own, w_start + k * w_gap, memory.own, nothing, memory.shared, target + k * panel,
                    )  # fmt: skip


@phase
def collect_parts(layers, i, options, memory, team, piece):
    """dL/dz of the owned blocks of the layer below hidden layer ``i``: the parts added, times f'(z)."""
    layer, below = layers[i], layers[i - 1]
    block = VECTORS * lanes_of(memory.own)
    panel = options.capacity * block
    first, last = owned_blocks(below.outputs, below, team)
    for b in range(first, last):
        a_start = activations(below, options, piece, block) + b * panel
        for row in range(0, piece.rows * block, ROWS * block):
            start = layer.parts + b * panel + row
            tile = load(memory.shared, start, block, ROWS, VECTORS)
            for group in range(1, layer.groups):
                tile = add(tile, load(memory.shared, start + group * layer.inputs * panel, block, ROWS, VECTORS))
            tile = times_derivative(options.activation, tile, memory.shared, a_start + row)
            store(memory.shared, below.deltas + b * panel + row, block, tile)


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
        d_start = layer.deltas + b * options.capacity * block
        total = dense.sum_samples(memory.shared, d_start, piece.rows)
        optimizer.step_row(
            options.rule, piece.first, piece.last, total, memory.parameters, memory.velocities, memory.sums,
            layer.bias + b * block, options.momentum, 0.0,
        )  # fmt: skip
        if i == 0 and options.sparse:
            start = projections_start(layers, options)
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


@phase
def fold_background(layers, options, data, memory, team):
    """Let the owned weights and velocities of the first hidden layer take in what has been kept aside for them."""
    if options.sparse == 0:
        return
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    inputs = layer.inputs * block
    first, last = owned_blocks(layer.outputs, layer, team)
    for b in range(first, last):
        w_start, q_start = layer.weights + b * inputs * block, layer.background + b * block
        c_start = q_start + layer.outputs * block
        background.fold(inputs, data.beta, memory.parameters, w_start, q_start, c_start)
        if len(memory.velocities) > 0:
            background.fold(inputs, data.beta, memory.velocities, w_start, q_start, c_start)
        if options.rule == optimizer.GRADIENT:
            background.fold(inputs, data.beta, memory.sums, w_start, q_start, c_start)


@phase
def step_hidden(layers, i, options, data, memory, team, piece, shrink):
    """The step of the weights and biases of the owned blocks of hidden layer ``i``."""
    layer = layers[i]
    first, last = owned_blocks(layer.outputs, layer, team)
    step_biases(layers, i, options, memory, piece, shrink, first, last)
    block = VECTORS * lanes_of(memory.own)
    weights, panel = layer.inputs * block * block, options.capacity * block
    a, a_start = memory.own, np.int64(0)
    if i > 0:
        a, a_start = memory.shared, activations(layers[i - 1], options, piece, block)
    capacity = options.columns if i == 0 and options.sparse else options.capacity
    before = last - first, options.rule, piece.first, piece.last, options.momentum, shrink, a, a_start, capacity
    after = (
        layer.words * WORD, memory.shared, layer.deltas + first * panel, panel,
        memory.parameters, memory.velocities, memory.sums, layer.weights + first * weights, weights,
    )  # fmt: skip
    if not skips_zeros(layers, i, options, memory):
        for b in range(first, last):
            dense.weight_step(
                options.rule, piece.first, piece.last, options.momentum, shrink, a, a_start, options.capacity,
                piece.samples, layer.inputs, memory.shared, layer.deltas + b * panel,
                memory.parameters, memory.velocities, memory.sums, layer.weights + b * weights,
            )  # fmt: skip
    elif i == 0:
        if get(data.scale, 0) != 1:  # the inputs wait for their factor
            for b in range(first, last):
                background.scale_block(memory.shared, layer.deltas + b * panel, piece.rows, data.scale)
        sparse.step_inputs(*before, memory.quads, memory.pairs, *after)
    else:
        list_units(layer, options, memory, piece)
        sparse.step_units(*before, memory.units, *after)


@phase
def weigh(layers, i, memory, team, piece):
    """Sums of the squared weights of the groups that this thread owns of a layer, for the L2 penalty."""
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    last = i == len(layers) - 1
    length = block * (layer.outputs if last else layer.inputs * block)
    blocks = layer.inputs if last else layer.outputs
    first_group, last_group = owned_groups(layer, team)
    for group in range(first_group, last_group):
        first, after = share(blocks, layer.groups, group), share(blocks, layer.groups, group + 1)
        total = dense.sum_squares(memory.parameters, layer.weights + first * length, (after - first) * length)
        memory.shared[layer.squares + piece.number % 2 * layer.groups + group] = total


@kernel
def sum_of_squares(layers, memory, piece):
    """What ``weigh`` found for all layers and groups."""
    total = 0.0
    for layer in layers:
        for group in range(layer.groups):
            total += np.float64(memory.shared[layer.squares + piece.number % 2 * layer.groups + group])
    return total


@kernel
def lap(times, team, phase, since):
    """Add the time since the last lap to a phase; returns the time now."""
    now = clock()
    times[team.thread, phase] += now - since
    return now


@kernel
def meet(team, barriers, times, since):
    """Wait for the other threads; returns the time now."""
    if team.threads > 1:
        arrive(team.counters, team.thread, barriers)
        wait(team.counters, team.threads, barriers)
        return lap(times, team, WAITING, since)
    return since


@entry_kernel
def train_batches(layers, options_record, data, memory, team, rates, losses, times, first_step, last_step):
    """Run the mini-batches ``first_step .. last_step - 1``; every thread of the team calls this.

    After the last step of an epoch all weights are as ``fold_background`` leaves them.

    Parameters
    ----------
    layers : LAYER (n_layers,)
    options_record : OPTIONS (1,)
    data : Data
        The order is that of one or more epochs, one behind the other.
    memory : Memory
        Parameters, velocities and sums are overwritten.
    team : Team
    rates : float64 (steps,)
        Learning rate of each step.
    losses : float64 (steps,), overwritten
        Loss of each mini-batch before its step: mean cross-entropy plus l2 / 2 times the sum of squared weights.
    times : int64 (threads, phases), overwritten
        Clock ticks spent in each of ``PHASES``, added to what is there.
    first_step, last_step : int
        Steps to run, counted from the beginning of the order; a step that is not complete takes what is left of its
        epoch.
    """
    mode = flush_subnormals()
    options = options_record[0]
    barriers, number = 0, 0
    clear_biases(layers, options, memory)
    since = clock()
    step = first_step
    while step < last_step:
        if team.thread == 0 and load_acquire(team.control, STOP) != 0:
            # the others learn of it at the first barrier of this step and look after the last one
            team.control[END] = step + 1
        epoch = step // options.steps
        step_of_epoch = step - epoch * options.steps
        begin = step_of_epoch * options.batch_size
        count = min(options.batch_size, len(data.labels) - begin)
        begin += epoch * len(data.labels)
        if step_of_epoch % options.period == 0:
            fold_background(layers, options, data, memory, team)
        scale = -rates[step] / count
        shrink = rates[step] * options.l2
        total, penalty, stopped = 0.0, 0.0, False
        for offset in range(0, count, MICRO_BATCH):
            samples = min(MICRO_BATCH, count - offset)
            block = VECTORS * lanes_of(memory.own)
            piece = Piece(
                number, begin + offset, samples, (samples + ROWS - 1) // ROWS * ROWS, (samples + block - 1) // block,
                offset == 0, offset + samples == count, begin + offset + samples,
            )  # fmt: skip
            number += 1
            if team.thread == 0 and offset > 0 and load_acquire(team.control, STOP) != 0:
                team.control[END] = step
            if options.weigh and piece.first:
                for i in range(len(layers)):
                    weigh(layers, i, memory, team, piece)
            gather(layers, options, data, memory, team, piece)
            since = lap(times, team, GATHER, since)
            for i in range(len(layers) - 1):
                if i > 0:
                    barriers += 1
                    since = meet(team, barriers, times, since)
                forward(layers, i, options, data, memory, team, piece)
                since = lap(times, team, FORWARD, since)
            forward_output(layers, options, memory, team, piece)
            since = lap(times, team, FORWARD, since)
            barriers += 1
            since = meet(team, barriers, times, since)
            if team.control[END] <= step:
                stopped = True
                break
            if options.weigh and piece.first:
                penalty = 0.5 * options.l2 * sum_of_squares(layers, memory, piece)
            total += loss(layers, options, data, memory, piece, scale)
            since = lap(times, team, LOSS, since)
            if not np.isfinite(total):
                break
            backward_output(layers, options, memory, team, piece, shrink)
            for i in range(len(layers) - 2, 0, -1):
                propagate_parts(layers, i, options, memory, team, piece)
                barriers += 1
                arrive(team.counters, team.thread, barriers)
                step_hidden(layers, i, options, data, memory, team, piece, shrink)  # while others arrive
                since = lap(times, team, BACKWARD, since)
                since = meet(team, barriers, times, since)
                collect_parts(layers, i, options, memory, team, piece)
            if len(layers) > 1:
                step_hidden(layers, np.int64(0), options, data, memory, team, piece, shrink)
            since = lap(times, team, BACKWARD, since)
        if stopped:
            break
        if team.thread == 0:
            losses[step] = total / count + penalty
            team.control[DONE] = step + 1
        step += 1
        if step_of_epoch + 1 == options.steps:
            fold_background(layers, options, data, memory, team)
        if not np.isfinite(total):
            if team.thread == 0:
                team.control[DIVERGED] = 1
            break
        if step >= team.control[END]:
            break
    restore_floating_point(mode)


@entry_kernel
def fold_parameters(layers, options_record, data, memory, team):
    """Let weights take in what has been kept aside for them; arguments as for ``train_batches``."""
    mode = flush_subnormals()
    fold_background(layers, options_record[0], data, memory, team)
    restore_floating_point(mode)


@entry_kernel
def project_samples(data, n_features):
    """Compute the projections of all samples on their background; see ``background``.

    Parameters
    ----------
    data : Data
        ``projections`` is overwritten.
    n_features : int
    """
    mode = flush_subnormals()
    background.project(
        data.x, n_features, len(data.projections), data.factor, data.beta, data.projections
    )  # fmt: skip
    restore_floating_point(mode)
