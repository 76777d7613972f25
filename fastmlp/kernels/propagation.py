"""Forward propagation of some samples, by the thread that owns some blocks of each layer.

The input and hidden layers are owned by columns, the output layer by rows: whoever owns a block of the last hidden
layer owns what leaves it. Narrow networks are shared otherwise, see ``batch``. Training (``batch``) runs this on a team
of threads, prediction (``bulk``) on teams of one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import background, dense, optimizer, output, singles, sparse, split, split_bytes, stretch, walks
from fastmlp.kernels.activation import RELU, activate
from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.layout import MATRIX_BLOCKS, MATRIX_BYTES_BLOCKS, PANELS, SINGLY, WIDE, WORD
from fastmlp.kernels.matrix_unit import MATRIX_UNIT
from fastmlp.kernels.team import share
from fastmlp.kernels.tile import MARK, ROWS, VECTORS, get, lanes_of, put, store, zeros


class Data(NamedTuple):
    """What is learnt from; see ``background.gather`` for origin, factor and beta."""

    x: NDArray[Any]  # uint8 or float (flat), samples of n_features values
    labels: NDArray[Any]  # int32, class of each sample
    order: NDArray[Any]  # uint32, samples in the order of training
    origin: NDArray[Any]
    factor: NDArray[Any]
    beta: NDArray[Any]
    scale: NDArray[Any]  # see ``background.scale_pair``
    projections: NDArray[Any]  # float, of each sample on the background; none where only is predicted


class Memory(NamedTuple):
    """The arrays that ``Layout`` describes, and the sums of earlier pieces of a mini-batch."""

    parameters: NDArray[Any]
    background: NDArray[Any]  # where q and c of the first hidden layer are: the parameters; shared, to predict
    velocities: NDArray[Any]
    sums: NDArray[Any]
    kept: NDArray[Any]  # deltas of a stretch that is not over, see ``stretch``: part of the state, as the parameters
    decay: NDArray[Any]  # see ``idle``; none where no weights wait
    shared: NDArray[Any]
    masks: NDArray[Any]
    exchange: NDArray[Any]  # what threads that share the inputs exchange; then all else but ``control`` is their own
    own: NDArray[Any]
    raw: NDArray[Any]  # as x; the own memory itself where that has the same dtype
    starts: NDArray[Any]  # where samples begin, see ``starts_of``
    nonzero: NDArray[Any]
    marks: NDArray[Any]
    input_walks: NDArray[Any]  # over four inputs, see ``walks``, or the samples of each, see ``singles``
    later_input_walks: NDArray[Any]  # those of a piece whose weights step with the piece before; none where none do
    units: NDArray[Any]  # walks over single units
    idle: NDArray[Any]  # uint8: how long weights have waited, see ``idle``; part of the state
    operands: NDArray[Any]  # see ``split``; none where no products are left to the matrix unit


class Team(NamedTuple):
    """A thread, how many there are, and what they agree by."""

    thread: int
    threads: int
    counters: NDArray[Any]
    control: NDArray[Any]


class Piece(NamedTuple):
    """A part of a mini-batch that is processed at a time."""

    number: int  # counted over the whole call
    panel: int  # where its activations are
    start: int  # position in the order
    samples: int
    rows: int  # samples, padded to ROWS
    squares: int  # samples, in blocks
    first: bool
    last: bool
    ahead: int  # position in the order of what this thread gathers next
    row: int  # samples before it in its stretch, see ``stretch``
    waits: bool  # whether it is left to the next piece to let weights step on the matrix unit, by both
    earlier: int  # samples of the piece before that has left it to this one, or 0
    begins: bool  # whether this piece, or the one before that has left it to this one, is the first


@kernel
def lone_piece(start, samples, ahead, memory):
    """A piece that has nothing to do with others."""
    block = VECTORS * lanes_of(memory.own)
    rows = (samples + ROWS - 1) // ROWS * ROWS
    return Piece(0, 0, start, samples, rows, (samples + block - 1) // block, True, True, ahead, 0, False, 0, True)


@kernel
def activations(layer, options, piece, block):
    """Where the activations of a hidden layer begin for this piece."""
    return layer.activations + piece.panel * layer.outputs * options.capacity * block


@kernel
def earlier_activations(layer, options, piece, block):
    """The same for the piece before, if it has left its step to this one."""
    return layer.activations + (piece.panel + PANELS - 1) % PANELS * layer.outputs * options.capacity * block


@kernel
def deltas_of(layer, options, piece, block):
    """Where the deltas of a hidden layer begin for this piece."""
    return layer.deltas + (piece.earlier > 0) * layer.outputs * options.capacity * block


@kernel
def joined(options, piece):
    """Whether the weights of inputs with a background step by this piece and by the one before it at once."""
    return options.joins_pieces != 0 and piece.earlier > 0


@kernel
def rule_of_inputs(options):
    """The rule by which the weights of inputs with a background step: by both pieces at once they need no sums."""
    return optimizer.DIRECT if options.joins_pieces != 0 else options.rule


@kernel
def scaled_of(layer, options, piece):
    """Where in the own memory the inputs of this piece are, if they have a background."""
    return np.int64(joined(options, piece)) * layer.words * WORD * options.columns


@kernel
def input_walks_of(memory, options, piece):
    """The walks over the inputs of this piece."""
    return memory.later_input_walks if joined(options, piece) else memory.input_walks


@kernel
def raw_of(layer, options, piece):
    """Where the samples of this piece are as they are."""
    return (piece.earlier > 0) * layer.words * WORD * options.columns


@kernel
def half_of_inputs(layer, half, block):
    """The first input of a half, and the one after its last; all inputs if they are not cut."""
    return half * layer.middle, (layer.middle if half == 0 else layer.inputs * block)


@kernel
def words_of_half(layer, half, block):
    """The first word of a half of the inputs, and the one after its last."""
    first, last = half_of_inputs(layer, half, block)
    return first // WORD, (last + WORD - 1) // WORD


@kernel
def starts_of(options, number):
    """Where in ``Memory.starts`` it is noted where the samples of a piece begin, if walks are over single inputs.

    Those of the next piece are gathered before the step, and with those of the one before it may step together.
    """
    return number % 3 * options.capacity


@phase
def gather_inputs(layers, options, data, memory, number, start, samples, ahead, raw_start):
    """Gather some samples with a background, those of piece ``number``: the inputs of the halves this thread owns.

    As they are, or only which of their inputs are not zero.
    """
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    for half in range(layer.first_half, layer.last_half):
        if SINGLY:
            first, last = words_of_half(layer, half, block)
            singles.mark(
                data.x, options.n_features, data.order, start, samples, memory.starts, starts_of(options, number),
                first, last, memory.nonzero, options.capacity, ahead,
            )  # fmt: skip
        else:
            first, last = half_of_inputs(layer, half, block)
            background.gather(
                data.x, options.n_features, data.order, start, samples,
                memory.raw, raw_start, first, last, options.columns, memory.starts, ahead,
            )  # fmt: skip


@phase
def list_inputs(layer, options, memory, piece, training):
    """List the walks over the inputs that are not zero in what is gathered."""
    block = VECTORS * lanes_of(memory.own)
    quads = input_walks_of(memory, options, piece)
    if SINGLY:
        for half in range(layer.first_half, layer.last_half):
            first, last = words_of_half(layer, half, block)
            singles.transpose(memory.nonzero, options.capacity, piece.samples, first, last, memory.marks, quads)
    else:
        count, empty = 0, 0
        for half in range(layer.first_half, layer.last_half):
            first, last = half_of_inputs(layer, half, block)
            walks.begin_half(quads, half, count)
            count, empty = walks.list_inputs(
                memory.raw, options.columns, piece.samples, first, last, options.apart,
                quads, layer.words * WORD, count, empty,
            )  # fmt: skip
        walks.begin_half(quads, layer.last_half, count)
        if training and sparse.steps_pairs(layer.last_block - layer.first_block, rule_of_inputs(options)):
            walks.list_pairs(memory.raw, options.columns, piece.samples, quads, layer.words * WORD)


@phase
def gather(layers, options, data, memory, piece, gathered):
    """Standardise the samples of a piece, for the blocks of inputs that this thread needs, or list what is not zero.

    ``gathered`` tells whether ``gather_inputs`` has been called for them.
    """
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    if options.sparse:
        training = len(data.projections) > 0
        on_unit = bytes_on_matrix_unit(layer, options, data, memory, piece)
        if not gathered and (training or not on_unit):
            raw_start = raw_of(layer, options, piece) if on_unit else 0
            gather_inputs(
                layers, options, data, memory, piece.number, piece.start, piece.samples, piece.ahead, raw_start
            )  # fmt: skip
        if not on_unit and (training or not SINGLY):
            list_inputs(layer, options, memory, piece, training)
        start = projections_start(layers, options)
        for row in range(piece.rows):
            known = training and row < piece.samples
            sample = np.int64(get(data.order, piece.start + row)) if known else 0
            put(memory.own, start + row, get(data.projections, sample) if known else data.projections.dtype.type(0))
        return
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


@kernel
def rectified(blocks, options, memory):
    """Whether a product with so many blocks of outputs is to skip the zeros that a ReLU has left in its inputs."""
    # smaller blocks do not fill the bytes that threads write side by side
    return options.activation == RELU and blocks >= WIDE and VECTORS * lanes_of(memory.own) >= 8


@kernel
def skips_zeros(layers, i, options, memory, piece):
    """Whether hidden layer ``i`` walks over the inputs that are not zero: background, or what a ReLU has left."""
    if i == 0:
        return options.sparse != 0
    return rectified(layers[i].outputs, options, memory) and not on_matrix_unit(layers[i], memory, piece)


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


@kernel
def where_summed(layer, options, memory, piece):
    """Where the products of inputs and weights are, and how far apart those of halves of the inputs.

    Where the activations will be, at a place for a whole stretch, or where threads exchange them.
    """
    block = VECTORS * lanes_of(memory.own)
    gap = layer.outputs * options.capacity * block
    sums, start = memory.shared, activations(layer, options, piece, block)
    if options.stretch > 1:
        start = layer.sums + piece.row * block
    if layer.halves > 1:
        sums, start = memory.exchange, layer.sums + piece.number % 2 * layer.halves * gap
    return sums, start, gap


@phase
def forward_inputs(layers, options, data, memory, piece):
    """Products of inputs with a background and the weights of the blocks that this thread owns."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    weights = layer.inputs * block * block
    panel = options.capacity * block
    first, last = layer.first_block, layer.last_block
    sums, start, gap = where_summed(layer, options, memory, piece)
    if bytes_on_matrix_unit(layer, options, data, memory, piece):
        predicts = len(data.projections) == 0  # else the next samples are asked for in ``gather_inputs``
        split_bytes.forward(
            last - first, data.x, options.n_features, data.order, piece.start, piece.samples,
            piece.ahead if predicts else np.int64(len(data.order)), memory.starts, layer.inputs,
            memory.parameters, layer.weights + first * weights, weights, predicts,
            sums, start + first * panel, panel, memory.operands,
        )  # fmt: skip
        return
    for half in range(layer.first_half, layer.last_half):
        target = start + half * gap + first * panel
        if SINGLY:
            first_word, last_word = words_of_half(layer, half, block)
            singles.forward(
                last - first, data.x, data.factor, memory.starts, starts_of(options, piece.number),
                first_word, last_word, memory.nonzero, options.capacity, piece.rows,
                memory.parameters, layer.weights + first * weights, weights, sums, target, panel,
            )  # fmt: skip
        else:
            # for a weight step, or for further blocks: scaled anew for each two, 784-512-10 is evaluated 8 % slower
            keep = np.int64(len(data.projections) > 0 or last - first > 2)
            a_start = scaled_of(layer, options, piece) if keep != 0 else scratch_start(layers, options)
            quads = input_walks_of(memory, options, piece)
            first_walk, last_walk = walks.walks_of_half(quads, half)
            sparse.forward_inputs(
                last - first, memory.raw, data.factor, data.scale, memory.own, a_start, options.columns, keep,
                piece.samples, piece.rows, quads, layer.words * WORD, first_walk, last_walk,
                memory.parameters, layer.weights + first * weights, weights, sums, target, panel,
            )  # fmt: skip


@phase
def complete_inputs(layers, options, data, memory, piece, b):
    """Pre-activations of a block of the first hidden layer, from ``forward_inputs``."""
    layer = layers[0]
    block = VECTORS * lanes_of(memory.own)
    panel = b * options.capacity * block
    q_start = layer.background + b * block
    sums, start, gap = where_summed(layer, options, memory, piece)
    stretch.complete(
        data.scale, layer.halves, sums, start + panel, gap,
        memory.shared, layer.products, options.capacity, piece.row, piece.samples, piece.rows, memory.kept, panel,
        memory.parameters, layer.bias + b * block, memory.own, projections_start(layers, options) + piece.row,
        memory.background, q_start, q_start + layer.outputs * block,
        memory.shared, activations(layer, options, piece, block) + panel,
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
    """Activations of the blocks that this thread owns of hidden layer ``i``; of the first, after ``forward_inputs``."""
    layer = layers[i]
    block = VECTORS * lanes_of(memory.own)
    first, last = layer.first_block, layer.last_block
    z_start = activations(layer, options, piece, block)
    if skips_zeros(layers, i, options, memory, piece):
        if i == 0:
            for b in range(first, last):
                complete_inputs(layers, options, data, memory, piece, b)
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
            memory.shared, partial_sums(layer, capacity * layer.outputs, piece, group),
        )  # fmt: skip


@kernel
def partial_sums(layer, length, piece, group):
    """Where a group's part of a sum over all blocks is kept for this piece."""
    return layer.partial + (piece.number % 2 * layer.groups + group) * length


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


@kernel
def logits_start(options):
    """Where in a thread's own memory the logits begin: behind the standardised inputs, of two pieces if they join."""
    return (1 + options.joins_pieces) * options.words * WORD * options.capacity


@kernel
def projections_start(layers, options):
    """Where in a thread's own memory the projections of the samples of a piece begin."""
    return logits_start(options) + options.capacity * (2 * layers[len(layers) - 1].outputs + 1)


@kernel
def scratch_start(layers, options):
    """Where in a thread's own memory there is room for the zeros and the transposed weights of ``propagate_parts``.

    Or, where only is predicted, for the scaled inputs of two walks.
    """
    return projections_start(layers, options) + options.capacity


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
        memory.shared, partial_sums(layer, length, piece, 0), layer.groups, length, layer.outputs, options.n_classes,
        piece.samples, scale, memory.own, logits, memory.own, logits + length, memory.own, logits + 2 * length,
    )  # fmt: skip
