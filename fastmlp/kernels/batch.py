"""Training: many mini-batches in one compiled call, on a team of threads.

Every thread runs ``train_batches`` with the same arguments and its own number. With one hidden layer a mini-batch
needs a single barrier, where the parts of the logits are exchanged; all else is private. Each further hidden layer
exchanges its activations and, on the way back, the parts of the gradient of its inputs that come from each group of its
outputs. Only the owner of weights ever looks at them, and moves them while it waits for the others. To exchange deltas
and weights instead takes 7 to 40 % longer for two hidden layers of 512 at batch 32, the more the busier the memory is,
and 10 % for two of 256; for two of 1024 at batch 512 it takes 5 % less.

What is exchanged is kept twice, for even and odd pieces, so that a thread that is ahead does not overwrite what
another still reads: it can be ahead by less than one piece, as each piece has at least one barrier. Activations are
kept three times where two pieces may step together on the matrix unit, since the other may still read those of both;
where only weights of inputs do, what they need of both is their thread's own. Parts of gradients are kept once: they
are read before the barrier at the logits of the next piece, and written again after it. Products of samples (see
``stretch``) are written before the barrier of a stretch's first mini-batch and read after it, up to the last one's.

A core that writes to a cache line which another has read since waits until that one has given it up: 7 to 10 ns a line
on an AMD Zen 4, half a microsecond for 32 samples of 32 units. So threads do not read each other's activations where
they are if layers are small (``HANDED_BLOCKS``). Each has all of them for itself, and hands on a copy of its own, which
is read once: to where it has read last, in the piece before, what the other had handed on. That line is in its cache,
and in no other. Parts of gradients change places likewise, if there are as many groups as blocks. So do the products of
halves that follow: 784-64-10 trains 6 % faster for it on two threads of that CPU, 784-64-64-10 3 %.

Narrow networks are shared otherwise. Each thread owns the weights of half of the inputs, with whole rows of units, and
the products of the two halves are exchanged, at the only barrier of a mini-batch. All the rest is little work there:
every thread does it for itself, on copies that stay the same bit for bit. A thread then gathers, scales and lists half
of the inputs instead of all, and walks half as often, twice as wide. Where weights take in their background, q of each
half is exchanged as well, twice for odd and even barriers.

Of deep and narrow networks each of two threads may own whole layers above the first hidden one, neighbours all of them.
Between these nobody waits or exchanges anything. Forwards one works at a time; on the way back the weights of each step
when it has handed the gradient on.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels import background, input_layer, input_step
from fastmlp.kernels.backpropagation import (
    backward_output,
    clear_biases,
    collect_parts,
    loss,
    propagate_parts,
    step_hidden,
    sum_of_squares,
    weigh,
)
from fastmlp.kernels.compiler import entry_kernel, kernel, phase
from fastmlp.kernels.flat import flat, get, put
from fastmlp.kernels.layout import MICRO_BATCH, PANELS
from fastmlp.kernels.machine import clock, flush_subnormals, load_acquire, restore_floating_point
from fastmlp.kernels.matrix_unit import begin_tiles, end_tiles
from fastmlp.kernels.piece import Piece, lone_piece
from fastmlp.kernels.propagation import forward, forward_output, gather, hand_on, take
from fastmlp.kernels.reference import by_reference
from fastmlp.kernels.split_bytes import FEWEST_TOGETHER
from fastmlp.kernels.team import arrive, wait
from fastmlp.kernels.tile import ROWS, VECTORS, lanes_of

# Phases of a mini-batch whose time is measured.
PHASES = ("gather", "forward", "loss", "backward", "waiting")
GATHER, FORWARD, LOSS, BACKWARD, WAITING = range(len(PHASES))

# Words of ``Team.control``, a cache line apart: stop after this step (written from outside), number of steps agreed
# on, steps done, whether the loss was not finite; of a stretch that is not over, its number of samples done, and where
# in the order it begins; and at which piece, counted from 1, to stop in the midst of a step. The piece is named, since
# a thread that is held up may learn of it one piece early, where the others go on and would wait for it for ever.
STOP, END, DONE, DIVERGED, PENDING, BEGIN, LAST_PIECE = 0, 8, 16, 24, 32, 40, 48
CONTROL_WORDS = 56


@kernel
def whole_stretch(start, samples, memory):
    """All mini-batches of a stretch, as one piece."""
    return lone_piece(start, samples, start + samples, memory)


@kernel
def lap(times, team, phase, since):
    """Add the time since the last lap to a phase; returns the time now."""
    now = clock()
    times[team.thread, phase] += now - since
    return now


@kernel
def meet(team, threads, barriers, times, since):
    """Wait for the other threads, unless this is for one thread to do; returns the time now."""
    if threads > 1:
        arrive(team.counters, team.thread, barriers)
        wait(team.counters, threads, barriers)
        return lap(times, team, WAITING, since)
    return since


@phase
def fold(layers, options, data, memory, team, sharing_inputs, barriers, times, since):
    """Let all weights take in what has been kept aside for them, for good; returns the time now."""
    if options.sparse:
        input_step.fold(layers, options, data, memory, True, barriers)
        since = lap(times, team, BACKWARD, since)
        since = meet(team, sharing_inputs, barriers, times, since)
        input_step.finish_fold(layers, options, memory, True, barriers)
    return since


@kernel
def samples_of(step, options, data):
    """Where in the order the samples of a mini-batch begin, and how many there are."""
    epoch = step // options.steps
    begin = (step - epoch * options.steps) * options.batch_size
    return epoch * len(data.labels) + begin, min(options.batch_size, len(data.labels) - begin)


@kernel
def step_together(options, memory, offset, count):
    """Whether a piece leaves its step to the next one, and how many samples were left to it.

    On the matrix unit all weights step so. Two pieces then read and write them once, and no sums: on two threads of an
    Intel Xeon, batch 128, 784-512-512-10 takes 10 % less time for it, and 784-512-10 15 %.

    Elsewhere weights of inputs with a background do, by plain SGD and if the mini-batch has two pieces: they need no
    sums. On two threads of an AMD Zen 3, batch 128, 784-512-10 takes 13 % less time for it, and 784-512-512-10 5 %.
    """
    both = len(memory.operands) > 0 or options.joins_pieces != 0
    fewest = FEWEST_TOGETHER if options.joins_pieces == 0 else 1
    if offset // MICRO_BATCH % 2 == 0:
        return both and count - offset >= MICRO_BATCH + fewest, 0
    return False, MICRO_BATCH if both and count - offset >= fewest else 0


@phase
def gather_next(layers, options, data, memory, number, step, offset, last_step):
    """Gather the inputs of the piece after the one at ``offset`` of a mini-batch; returns whether there is one."""
    begin, count = samples_of(step, options, data)
    offset += MICRO_BATCH
    if offset >= count:
        if step + 1 == last_step:
            return False
        begin, count = samples_of(step + 1, options, data)
        offset = 0
    samples = min(MICRO_BATCH, count - offset)
    input_layer.gather_samples(layers, options, data, memory, number, begin + offset, samples, begin + offset + samples)
    return True


@kernel
def piece_at(options, memory, number, begin, offset, count, before):
    """The piece at ``offset`` of a mini-batch of ``count`` samples, which begins at ``begin`` in the order."""
    block = VECTORS * lanes_of(memory.own)
    samples = min(MICRO_BATCH, count - offset)
    waits, earlier = step_together(options, memory, offset, count)
    panel = number % (PANELS if len(memory.operands) > 0 else 2)
    return Piece(
        number=number,
        panel=panel,
        start=begin + offset,
        samples=samples,
        rows=(samples + ROWS - 1) // ROWS * ROWS,
        squares=(samples + block - 1) // block,
        first=offset == 0,
        last=offset + samples == count,
        ahead=begin + offset + samples,
        row=before,
        waits=waits,
        earlier=earlier,
        begins=offset == earlier,
    )


@phase
def multiply_inputs(
    layers, options, data, memory, team, piece, threads, barriers, times, since, step, offset, last_step
):  # fmt: skip
    """Products of inputs with a background; at a barrier, where threads share them.

    Returns whether the samples of the next piece are gathered, the number of barriers, and the time now.
    """
    input_layer.multiply(layers, options, data, memory, piece)
    since = lap(times, team, FORWARD, since)
    barriers += 1
    gathered = False
    if layers[0].halves > 1:
        arrive(team.counters, team.thread, barriers)
        # while others arrive: 3 % less time at 784-64-10 than at its turn
        gathered = gather_next(layers, options, data, memory, piece.number + 1, step, offset, last_step)
        since = lap(times, team, GATHER, since)
    return gathered, barriers, meet(team, threads, barriers, times, since)


@phase
def forward_pass(layers, options, data, memory, team, piece, threads, barriers, times, since):
    """All layers but for ``multiply_inputs``, on threads that share units; returns the number of barriers and the time.

    The last barrier is that at the parts of the logits.
    """
    hands_on = options.hands_on and threads > 1
    for i in range(len(layers) - 1):
        if i > 0 and not layers[i].alone:
            barriers += 1
            since = meet(team, threads, barriers, times, since)
            if hands_on:
                take(layers, i - 1, options, memory, piece)
        forward(layers, i, options, data, memory, piece)
        if hands_on and i < len(layers) - 2:
            hand_on(layers, i, options, memory, piece)
        since = lap(times, team, FORWARD, since)
    forward_output(layers, options, memory, piece)
    since = lap(times, team, FORWARD, since)
    barriers += 1
    return barriers, meet(team, threads, barriers, times, since)


@phase
def backward_pass(layers, options, data, memory, team, piece, threads, barriers, times, since, shrink):
    """Back through all layers, and the steps of their weights; returns the number of barriers and the time."""
    backward_output(layers, options, memory, piece, shrink)
    unmoved = len(layers) - 2  # hidden layers down from here have still to step
    for i in range(len(layers) - 2, 0, -1):
        propagate_parts(layers, i, options, memory, piece)
        if not layers[i].alone:
            barriers += 1
            arrive(team.counters, team.thread, barriers)
            while unmoved >= i:  # while others arrive
                step_hidden(layers, unmoved, options, data, memory, piece, shrink)
                unmoved -= 1
            since = lap(times, team, BACKWARD, since)
            since = meet(team, threads, barriers, times, since)
        collect_parts(layers, i, options, memory, piece)
    if len(layers) > 1:
        step_hidden(layers, np.int64(0), options, data, memory, piece, shrink)
    return barriers, lap(times, team, BACKWARD, since)


@phase
def settle(layers, options, data, memory, team):
    """Let weights take in what has been kept aside for them, also by a stretch that is not over."""
    if get(team.control, PENDING) > 0:
        done = by_reference(whole_stretch(get(team.control, BEGIN), get(team.control, PENDING), memory))
        gather(layers, options, data, memory, done, False)
        input_step.step(layers, options, data, memory, done, 0.0)
    if options.sparse:
        input_step.fold(layers, options, data, memory, False, 0)
        input_step.finish_fold(layers, options, memory, False, 0)


@entry_kernel
def train_batches(layers, options_record, data, memory, team, rates, losses, times, first_step, last_step, only_settle):
    """Run the mini-batches ``first_step .. last_step - 1``; every thread of the team calls this.

    After the last step of an epoch all weights are as ``input_step.fold`` leaves them.

    Parameters
    ----------
    layers : LAYER (n_layers,)
        With what this thread owns.
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
    only_settle : bool
        Run no step, but ``settle`` the parameters after an earlier call, on one thread.
    """
    mode = flush_subnormals()
    if len(memory.operands) > 0:
        begin_tiles()
    options = options_record[0]
    layers, data, memory, team = flat(layers), by_reference(data), by_reference(memory), by_reference(team)
    if only_settle:
        settle(layers, options, data, memory, team)
        last_step = first_step
    barriers, number = 0, 0
    sharing_inputs, sharing_units = 1, team.threads  # how many threads
    if layers[0].halves > 1:
        sharing_inputs, sharing_units = team.threads, 1
    clear_biases(layers, options, memory)
    gathered = False  # whether the samples of the next piece are
    whole, pending = by_reference(whole_stretch(0, 0, memory)), 0
    since = clock()
    step = first_step
    while step < last_step:
        if team.thread == 0 and load_acquire(team.control, STOP) != 0:
            # the others learn of it at the first barrier of this step and look after the last one
            put(team.control, END, step + 1)
        epoch = step // options.steps
        step_of_epoch = step - epoch * options.steps
        begin, count = samples_of(step, options, data)
        position = step_of_epoch % options.stretch
        if position == 0 and step_of_epoch // options.stretch % options.period == 0:
            barriers += 1
            since = fold(layers, options, data, memory, team, sharing_inputs, barriers, times, since)
        before = position * options.batch_size
        scale = -rates[step] / count
        shrink = rates[step] * options.l2
        total, penalty, stopped = 0.0, 0.0, False
        for offset in range(0, count, MICRO_BATCH):
            piece = by_reference(piece_at(options, memory, number, begin, offset, count, before))
            number += 1
            if team.thread == 0 and offset > 0 and load_acquire(team.control, STOP) != 0:
                put(team.control, LAST_PIECE, number)
            if options.weigh and piece.first:
                for i in range(len(layers)):
                    weigh(layers, i, memory, piece)
            if options.stretch > 1:
                steps = min(options.stretch, options.steps - step_of_epoch + position)
                samples = min(steps * options.batch_size, (epoch + 1) * len(data.labels) - begin + before)
                whole = by_reference(whole_stretch(begin - before, samples, memory))
            if options.stretch == 1 or position == 0 or step == first_step:
                gather(layers, options, data, memory, piece if options.stretch == 1 else whole, gathered)
                since = lap(times, team, GATHER, since)
                if options.idle:
                    input_step.catch_up(layers, options, memory)
                if options.stretch > 1:
                    input_step.begin_stretch(layers, options, data, memory, whole)
            if options.sparse and options.stretch == 1:
                gathered, barriers, since = multiply_inputs(
                    layers, options, data, memory, team, piece, sharing_inputs, barriers, times, since,
                    step, offset, last_step,
                )  # fmt: skip
            barriers, since = forward_pass(
                layers, options, data, memory, team, piece, sharing_units, barriers, times, since
            )  # fmt: skip
            if get(team.control, LAST_PIECE) == number:
                stopped = True
                break
            if options.weigh and piece.first:
                penalty = 0.5 * options.l2 * sum_of_squares(layers, memory, piece)
            total += loss(layers, options, data, memory, piece, scale)
            since = lap(times, team, LOSS, since)
            if not np.isfinite(total):
                break
            barriers, since = backward_pass(
                layers, options, data, memory, team, piece, sharing_units, barriers, times, since, shrink
            )  # fmt: skip
        if stopped:
            break
        if team.thread == 0:
            losses[step] = total / count + penalty
            put(team.control, DONE, step + 1)
        if options.stretch > 1:
            pending = before + count if np.isfinite(total) else before
            if pending == whole.samples:
                input_step.step(layers, options, data, memory, whole, 0.0)
                since = lap(times, team, BACKWARD, since)
                pending = 0
        step += 1
        if step_of_epoch + 1 == options.steps:
            barriers += 1
            since = fold(layers, options, data, memory, team, sharing_inputs, barriers, times, since)
        if not np.isfinite(total):
            if team.thread == 0:
                put(team.control, DIVERGED, 1)
            break
        if step >= get(team.control, END):
            break
    if team.thread == 0 and not only_settle:
        put(team.control, PENDING, pending)
        put(team.control, BEGIN, whole.start)
    if len(memory.operands) > 0:
        end_tiles()
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
