"""Training: many mini-batches in one compiled call, on a team of threads.

Every thread runs ``train_batches`` with the same arguments and its own number. With one hidden layer a mini-batch
needs a single barrier, where the parts of the logits are exchanged; all else is private. Each further hidden layer
exchanges its activations and its deltas, with a barrier each, and one more lets all weights move: those of a layer
wait for the barrier after the one that published its deltas, since others read them in between.

What is exchanged is kept twice, for even and odd pieces, so that a thread that is ahead does not overwrite what
another still reads: it can be ahead by less than one piece, as each piece has at least one barrier.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import dense, optimizer, output, sparse
from fastmlp.kernels.activation import times_derivative
from fastmlp.kernels.compiler import entry_kernel, kernel, phase
from fastmlp.kernels.layout import MARK, MICRO_BATCH, TRANSPOSED_BLOCKS, WORD
from fastmlp.kernels.machine import clock, flush_subnormals, load_acquire, restore_floating_point
from fastmlp.kernels.propagation import (
    Piece,
    activation_marks,
    activations,
    forward,
    forward_output,
    gather,
    logits_start,
    mark,
    owned_blocks,
    owned_groups,
    prepare_background,
    probabilities,
    rectified,
    scratch_start,
    skips_zeros,
)
from fastmlp.kernels.team import arrive, share, wait
from fastmlp.kernels.tile import ROWS, VECTORS, lanes_of, load, store, zeros

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
def mark_gradient(layers, i, options, memory, team, piece):
    """Describe which dL/dz of the owned blocks of hidden layer ``i`` are not zero, if that is to be used."""
    layer = layers[i]
    if rectified(layer.inputs, options, memory):
        first, last = owned_blocks(layer.outputs, layer, team)
        mark(layer, options, memory, piece, first, last, layer.deltas, layer.delta_marks)


@phase
def propagate_gradient(layers, i, options, memory, team, piece):
    """dL/dz of the owned blocks of the layer below hidden layer ``i``: ``(dz W^T) f'(z)``.

    The same products as forwards, with the weights transposed, a few blocks at a time, by whoever needs them: others
    may change them only after the next barrier.
    """
    layer, below = layers[i], layers[i - 1]
    block = VECTORS * lanes_of(memory.own)
    square, panel = block * block, options.capacity * block
    nothing = scratch_start(layers, options)  # instead of biases
    for k in range(TRANSPOSED_BLOCKS):
        store(memory.own, nothing + k * block, 0, zeros(memory.own, 1, VECTORS))
    w_start, w_gap = nothing + TRANSPOSED_BLOCKS * block, layer.outputs * square
    skip = rectified(layer.inputs, options, memory)
    first, last = owned_blocks(below.outputs, below, team)
    for b in range(first, last, TRANSPOSED_BLOCKS):
        count = min(TRANSPOSED_BLOCKS, last - b)
        for k in range(count):
            for j in range(layer.outputs):
                source = layer.weights + (j * layer.inputs + b + k) * square
                dense.transpose_square(memory.parameters, source, memory.own, w_start + k * w_gap + j * square)
        target = below.deltas + b * panel
        if skip:
            sparse.forward(
                count, memory.shared, layer.deltas, options.capacity, piece.rows, layer.delta_words,
                memory.masks, layer.delta_marks, memory.own, w_start, w_gap,
                memory.own, nothing, memory.own, nothing, memory.shared, target, panel,
            )  # fmt: skip
        else:
            for k in range(count):
                dense.forward(
                    memory.shared, layer.deltas, options.capacity, piece.rows, layer.outputs,
                    memory.own, w_start + k * w_gap, memory.own, nothing, memory.shared, target + k * panel,
                )  # fmt: skip
        for k in range(count):
            a_start = activations(below, options, piece, block) + (b + k) * panel
            for row in range(0, piece.rows, ROWS):
                offset = target + k * panel + row * block
                tile = load(memory.shared, offset, block, ROWS, VECTORS)
                tile = times_derivative(options.activation, tile, memory.shared, a_start + row * block)
                store(memory.shared, offset, block, tile)


@phase
def step_sparse(layer, options, data, memory, piece, shrink, first, last, a, a_start, nonzero, n_start, background):
    """The step of the weights and biases of some blocks of a hidden layer whose inputs are zero in many places."""
    block = VECTORS * lanes_of(memory.own)
    panel = options.capacity * block
    weights = layer.inputs * block * block
    sample_words = (piece.samples + MARK - 1) // MARK
    sparse.mark_samples(nonzero, n_start, options.capacity, layer.words, sample_words, memory.marks)
    sparse.weight_step(
        last - first, options.rule, piece.first, piece.last, options.momentum, shrink, a, a_start, options.capacity,
        piece.samples, layer.inputs * block, memory.marks, layer.words * WORD, data.beta, background,
        memory.shared, layer.deltas + first * panel, panel,
        memory.parameters, memory.velocities, memory.sums, layer.weights + first * weights, weights,
        layer.bias + first * block, memory.shared, layer.background + first * block,
    )  # fmt: skip


@phase
def step_dense(layer, options, memory, piece, shrink, first, last, a, a_start):
    """The step of the weights and biases of some blocks of a hidden layer."""
    block = VECTORS * lanes_of(memory.own)
    for b in range(first, last):
        d_start = layer.deltas + b * options.capacity * block
        dense.weight_step(
            options.rule, piece.first, piece.last, options.momentum, shrink, a, a_start, options.capacity,
            piece.samples, layer.inputs, memory.shared, d_start,
            memory.parameters, memory.velocities, memory.sums, layer.weights + b * layer.inputs * block * block,
        )  # fmt: skip
        optimizer.step_bias(
            options.rule, piece.first, piece.last, dense.sum_samples(memory.shared, d_start, piece.rows),
            memory.parameters, memory.velocities, memory.sums, layer.bias + b * block, options.momentum,
        )  # fmt: skip


@phase
def step_hidden(layers, i, options, data, memory, team, piece, shrink):
    """The step of the weights and biases of the owned blocks of hidden layer ``i``."""
    layer = layers[i]
    first, last = owned_blocks(layer.outputs, layer, team)
    if i == 0:
        if skips_zeros(layers, i, options, memory):
            step_sparse(
                layer, options, data, memory, piece, shrink, first, last, memory.own, 0, memory.nonzero, 0, True
            )  # fmt: skip
        else:
            step_dense(layer, options, memory, piece, shrink, first, last, memory.own, 0)
    else:
        a_start = activations(layers[i - 1], options, piece, VECTORS * lanes_of(memory.own))
        if skips_zeros(layers, i, options, memory):
            n_start = activation_marks(layer, options, piece)
            step_sparse(
                layer, options, data, memory, piece, shrink, first, last, memory.shared, a_start,
                memory.masks, n_start, False,
            )  # fmt: skip
        else:
            step_dense(layer, options, memory, piece, shrink, first, last, memory.shared, a_start)


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

    Parameters
    ----------
    layers : LAYER (n_layers,)
    options_record : OPTIONS (1,)
    data : Data
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
        Steps to run; a step that is not complete in the order takes what is left.
    """
    mode = flush_subnormals()
    options = options_record[0]
    barriers, number = 0, 0
    prepare_background(layers, options, data, memory, team)
    since = clock()
    step = first_step
    while step < last_step:
        if team.thread == 0 and load_acquire(team.control, STOP) != 0:
            # the others learn of it at the first barrier of this step and look after the last one
            team.control[END] = step + 1
        begin = step * options.batch_size
        count = min(options.batch_size, len(data.order) - begin)
        scale = -rates[step] / count
        shrink = rates[step] * options.l2
        total, penalty, stopped = 0.0, 0.0, False
        for offset in range(0, count, MICRO_BATCH):
            samples = min(MICRO_BATCH, count - offset)
            block = VECTORS * lanes_of(memory.own)
            piece = Piece(
                number, begin + offset, samples, (samples + ROWS - 1) // ROWS * ROWS, (samples + block - 1) // block,
                offset == 0, offset + samples == count,
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
                forward(layers, i, options, memory, team, piece)
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
            for i in range(len(layers) - 2, -1, -1):
                if len(layers) > 2:
                    if i > 0:
                        mark_gradient(layers, i, options, memory, team, piece)
                    since = lap(times, team, BACKWARD, since)
                    barriers += 1
                    since = meet(team, barriers, times, since)
                if i + 1 < len(layers) - 1:
                    step_hidden(layers, i + 1, options, data, memory, team, piece, shrink)
                if i > 0:
                    propagate_gradient(layers, i, options, memory, team, piece)
            if len(layers) > 1:
                step_hidden(layers, 0, options, data, memory, team, piece, shrink)
            since = lap(times, team, BACKWARD, since)
        if stopped:
            break
        if team.thread == 0:
            losses[step] = total / count + penalty
            team.control[DONE] = step + 1
        step += 1
        if not np.isfinite(total):
            if team.thread == 0:
                team.control[DIVERGED] = 1
            break
        if step >= team.control[END]:
            break
    restore_floating_point(mode)
