"""What kernels are given: data, memory, a team, and the piece of a mini-batch at hand; and where its numbers are."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastmlp.kernels.compiler import kernel
from fastmlp.kernels.layout import PANELS, WORD
from fastmlp.kernels.tile import ROWS, VECTORS, lanes_of


class Data(NamedTuple):
    """What is learnt from; see ``background.gather`` for origin, factor and beta."""

    x: NDArray[Any]  # uint8 or float (flat), samples of n_features values
    labels: NDArray[Any]  # int32, class of each sample
    order: NDArray[Any]  # uint32, samples in the order of training
    origin: NDArray[Any]
    factor: NDArray[Any]
    beta: NDArray[Any]
    scale: NDArray[Any]  # that products of bytes wait for; 1 for floats, see ``background.scale_floats``
    numbers: NDArray[Any]  # float (256,), what bytes stand for
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
    parts: NDArray[Any]  # of sums over groups of blocks: logits, gradients of inputs, squared weights
    exchange: NDArray[Any]  # what else threads exchange, see ``batch``
    own: NDArray[Any]
    gathered: NDArray[Any]  # samples of one piece or several, as x, transposed; see ``background.gather``
    starts: NDArray[Any]  # where samples begin, see ``input_layer.starts_of``
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
    waits: bool  # whether it is left to the next piece to let some weights step, by both; see ``batch.step_together``
    earlier: int  # samples of the piece before that has left it to this one, or 0
    begins: bool  # whether this piece, or the one before that has left it to this one, is the first


@kernel
def lone_piece(start, samples, ahead, memory):
    """A piece that has nothing to do with others."""
    block = VECTORS * lanes_of(memory.own)
    rows = (samples + ROWS - 1) // ROWS * ROWS
    return Piece(
        number=0,
        panel=0,
        start=start,
        samples=samples,
        rows=rows,
        squares=(samples + block - 1) // block,
        first=True,
        last=True,
        ahead=ahead,
        row=0,
        waits=False,
        earlier=0,
        begins=True,
    )


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
def partial_sums(layer, length, piece, group):
    """Where a group's part of a sum over all blocks is kept for this piece."""
    return layer.partial + (piece.number % 2 * layer.groups + group) * length


@kernel
def logits_start(options):
    """Where in a thread's own memory the logits begin: behind the standardised inputs."""
    return options.words * WORD * options.capacity


@kernel
def projections_start(layers, options):
    """Where in a thread's own memory the projections of the samples of a piece begin."""
    return logits_start(options) + options.capacity * (2 * layers[len(layers) - 1].outputs + 1)


@kernel
def scratch_start(layers, options):
    """Where in a thread's own memory there is room for the zeros and the transposed weights of ``propagate_parts``."""
    return projections_start(layers, options) + options.capacity
