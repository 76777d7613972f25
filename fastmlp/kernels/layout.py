"""Where the numbers live: one flat array for the parameters, one for what threads share, one for each thread.

A *panel* holds a matrix in blocks of ``BLOCK`` columns, ``[blocks][rows][BLOCK]``: one row of a block is what a tile
is wide, so nothing is ever packed at run time. ``BLOCK`` is ``VECTORS`` registers. Everything is padded with zeros to
whole blocks, so that kernels have no tails.

- A hidden layer's weights are a panel with a row per input: ``[blocks of outputs][inputs][BLOCK]``.
- The output layer's weights are stored the other way round, ``[blocks of inputs][classes][BLOCK]``, since it is
  split between threads by its inputs, which are the outputs that a thread owns of the last hidden layer.
- Activations and deltas are panels with a row per sample; *transposed* panels, ``[blocks][BLOCK][samples]``, have
  samples along the vectors.

The blocks of a layer are dealt to *groups*, and threads own whole groups. Sums over blocks are formed per group and
then added in the order of the groups, so that a result never depends on the number of threads. Where threads share the
inputs instead (see ``batch``), *halves* of them are what groups are otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels.marks import COLUMNS, MARK
from fastmlp.kernels.matrix_unit import MATRIX_UNIT
from fastmlp.kernels.thresholds import (
    BALANCED_INPUTS,
    HANDED_BLOCKS,
    MATRIX_BLOCKS,
    MATRIX_BYTES_BLOCKS,
    MATRIX_PREDICT_BLOCKS,
    NARROW,
    OWNED_LAYERS,
    SHARED_INPUTS_BLOCKS,
    SHARED_INPUTS_REST,
    SINGLY,
    WIDE,
)
from fastmlp.kernels.tile import ROWS, VECTORS
from fastmlp.kernels.vector import REGISTER_BYTES

# Samples processed at a time; a larger mini-batch accumulates its gradient over several such pieces. Their inputs and
# activations then stay in the second-level cache, and one word marks them all. Measured at batch 512, with 1 MiB of it
# and on two threads: pieces of 128 take 16 % more time for 784-64-10 and 20 % more for 784-1024-1024-10, pieces of 32
# take 8 % and 2 % more.
MICRO_BATCH = 64

CACHE_LINE = 64

# Where products skip zeros: inputs described by one uint64.
WORD = 64

# Numbers behind a list of walks (see ``walks``): where the walks of each half of the inputs begin and where the last
# ones end, and how many walks there are with and without samples.
WALK_COUNTS = 5

# Classes that are computed together: ten are two tiles, with enough accumulators in each.
CLASS_ROWS = 5

# Where two pieces may step together (see ``batch``): panels of activations.
PANELS = 3

# Blocks of a hidden layer whose weights are transposed at a time, for the gradient of its inputs.
TRANSPOSED_BLOCKS = 4

LAYER = np.dtype(
    [
        ("inputs", np.int64),  # blocks of inputs
        ("outputs", np.int64),  # blocks of outputs; for the output layer: classes, padded to CLASS_ROWS
        ("groups", np.int64),  # number of groups that the blocks are dealt to
        ("first_group", np.int64),  # groups that a thread owns, up to ``last_group``
        ("last_group", np.int64),
        ("first_block", np.int64),  # their blocks: of inputs for the output layer, else of outputs
        ("last_block", np.int64),
        ("skips", np.int64),  # 1: its products skip inputs that a ReLU has switched off
        ("halves", np.int64),  # first hidden layer: 2 if threads share its inputs (see ``batch``), else 1
        ("middle", np.int64),  # where the second half of the inputs begins, or where they end
        ("first_half", np.int64),  # halves that a thread owns, up to ``last_half``
        ("last_half", np.int64),
        ("weights", np.int64),  # offset in the parameters
        ("bias", np.int64),  # offset in the parameters
        ("width", np.int64),  # number of outputs without padding
        # offset in the shared memory: two panels, for even and odd pieces, or ``PANELS``
        ("activations", np.int64),
        ("handed", np.int64),  # offset in what is exchanged: a panel of activations, see ``propagation.hand_on``
        ("deltas", np.int64),  # offset in the shared memory: a panel, or two if two pieces may step together
        ("transposed", np.int64),  # offset in the shared memory: inputs of the output layer, transposed
        ("partial", np.int64),  # offset in the parts: logits, two sets of one part per group, for even and odd pieces
        ("background", np.int64),  # first hidden layer: offset of q and c (see ``background``) where ``Memory`` says
        # offset in the shared memory: products of inputs and weights, a panel (see ``stretch``); or in what threads
        # exchange: two panels, see ``input_layer.where_exchanged``
        ("sums", np.int64),
        ("folded", np.int64),  # offset in what is exchanged: q of each half, see ``input_step.where_folded``
        ("squares", np.int64),  # offset there, or in the parts: two sums of squared weights per half or group
        ("products", np.int64),  # offset in the shared memory: products of samples, a panel
        # 1 if one thread owns all of this layer and of the one below: threads do not meet in between
        ("alone", np.int64),
        ("words", np.int64),  # inputs in words of WORD
        ("nonzero", np.int64),  # offset in the shared masks: which inputs are not zero, for even and odd pieces
        ("parts", np.int64),  # offset in the parts: gradient of the inputs, a panel for each group of outputs
    ],
    align=True,
)
"""One weight layer, from the first hidden layer to the output layer."""

OPTIONS = np.dtype(
    [
        ("capacity", np.int64),  # rows that the panels have room for, a multiple of BLOCK
        ("columns", np.int64),  # samples that there is room for at each input with a background
        ("n_features", np.int64),
        ("words", np.int64),  # features in words of WORD
        ("n_classes", np.int64),
        ("activation", np.int64),
        ("apart", np.int64),  # distance of the two pairs of inputs of a quad
        ("batch_size", np.int64),
        ("steps", np.int64),  # mini-batches of an epoch
        ("stretch", np.int64),  # mini-batches of a stretch, see ``stretch``
        ("rule", np.int64),  # update rule, see ``optimizer``
        ("sparse", np.int64),  # 1: skip the background of the inputs
        ("idle", np.int64),  # 1: the weights of inputs without samples wait, see ``idle``
        ("gathered_pieces", np.int64),  # pieces whose samples there is room for
        ("joins_pieces", np.int64),  # 1: weights of the inputs step by both pieces of a mini-batch
        ("hands_on", np.int64),  # 1: threads hand each other copies of activations
        ("weigh", np.int64),  # 1: sum the squared weights as well (the L2 penalty is part of the loss)
        ("period", np.int64),  # stretches after which the weights take in what ``background`` keeps aside
        ("background_square", np.float64),  # sum of the squares of the standardised background
        ("momentum", np.float64),
        ("l2", np.float64),
    ],
    align=True,
)
"""What one call of a kernel is asked to do."""


def lanes(dtype: np.dtype[Any]) -> int:
    """Numbers in one register."""
    return REGISTER_BYTES // dtype.itemsize


def block_width(dtype: np.dtype[Any]) -> int:
    """Columns of a block."""
    return VECTORS * lanes(dtype)


def round_up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


def quad_distance(n_features: int) -> int:
    """How far the two pairs of a quad of inputs are apart (see ``walks``): a row, if the inputs may be a square image.

    Where they are not, this does no harm.
    """
    side = math.isqrt(n_features)
    return round_up(side, 2) if side > 2 and side * side == n_features else 2


def is_narrow(sizes: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether no hidden layer is wider than where threads may share the inputs."""
    return 0 < max(sizes[1:-1], default=0) <= SHARED_INPUTS_BLOCKS * block_width(dtype)


def _middle(n_features: int, balance: float) -> int:
    """Where inputs are cut into halves; 0 if there are too few.

    Few inputs are cut between two words or rows of an image, many where ``balance`` says, to the nearest word or tile.
    """
    strip = WORD if SINGLY else math.lcm(2 * quad_distance(n_features), ROWS)
    middle = (n_features // strip + 1) // 2 * strip
    if n_features >= BALANCED_INPUTS:
        unit = WORD if SINGLY else ROWS
        least, most = round_up(COLUMNS, unit), (n_features - COLUMNS) // unit * unit
        middle = min(max(round(balance * n_features / unit) * unit, least), most)
    return middle if COLUMNS <= middle <= n_features - COLUMNS else 0


def aligned_zeros(length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that begin at a cache line."""
    memory = np.zeros(length * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + length * dtype.itemsize].view(dtype)


def group_count(blocks: int) -> int:
    """Into how many groups the blocks of a layer are dealt: at most that many threads can share the layer.

    More groups serve more threads but leave more partial sums to add.
    """
    return min(blocks, max(4, blocks // 4))


class Layout:
    """The arrangement of a network of given sizes in memory.

    Parameters
    ----------
    sizes : tuple of int
        Units of each layer, input and output included.
    dtype : numpy.dtype
        float32 or float64.
    capacity : int
        Samples that are processed at a time.
    training : bool
        Whether there is to be room for what only training needs.
    stretches : bool
        Whether there is to be room for stretches of several mini-batches.
    shares_inputs : bool
        Whether threads may share the inputs, if the network is one for that.
    joins_pieces : bool
        Whether weights of the inputs may step by both pieces of a mini-batch at once.
    balance : float
        Where threads that share the inputs had better cut them, as a part of all.

    Attributes
    ----------
    layers : array of LAYER
        What the kernels are told, if one thread owns everything.
    words : int
        Inputs in words of ``WORD``.
    rows : int
        ``capacity``, padded to whole blocks.
    columns : int
        Samples that there is room for at each input with a background: 16, 32 or 64.
    shares_inputs : bool
        Whether threads share the inputs.
    owns_layers : bool
        Whether a thread owns all of a layer or nothing, above the first hidden one.
    hands_on : bool
        Whether threads hand each other copies of activations.
    uses_matrix_unit : bool
        Whether some products are left to the matrix unit, see ``split``.
    joins_pieces : bool
        Whether they do; on a matrix unit all weights step by two pieces.
    n_parameters, n_kept, n_shared, n_parts, n_exchanged, n_masks : int
        Lengths of the flat arrays: parameters, deltas kept, memory shared by the threads, parts of sums, what else
        threads exchange that share the inputs or hand activations on, and shared masks of activations (uint64).
    n_private, n_gathered, n_starts, n_nonzero, n_marks, n_input_walks, n_units : int
        Those of each thread: own memory, samples that are gathered, where they begin (uint64), masks of them (uint64)
        and of their transposition (uint32), and lists of walks over inputs and over single units (uint64).
    gathered_pieces : int
        Pieces whose samples there is room for at a time.
    useful_threads : int
        More threads than this would own nothing.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        dtype: np.dtype[Any],
        capacity: int,
        *,
        training: bool = True,
        stretches: bool = False,
        shares_inputs: bool = False,
        joins_pieces: bool = False,
        balance: float = 0.5,
    ) -> None:
        self.sizes, self.dtype, self.training, self.stretches = sizes, dtype, training, stretches
        self.block = block_width(dtype)
        self.uses_matrix_unit = self._uses_matrix_unit()
        self.joins_pieces = joins_pieces and not self.uses_matrix_unit and len(sizes) > 2
        self.rows = round_up(capacity, max(self.block, MARK))
        if self.uses_matrix_unit and not training:  # bytes are multiplied by so many, see ``split_bytes``
            self.rows = MICRO_BATCH
        self.columns = next(columns for columns in (16, 32, 64) if columns >= capacity)
        self.layers = np.zeros(len(sizes) - 1, LAYER)
        self.layers["halves"] = 1
        narrow = is_narrow(sizes, dtype)
        middle = _middle(sizes[0], balance)
        self.shares_inputs = shares_inputs and narrow and self._is_shallow() and middle > 0
        if self.shares_inputs:
            self.layers[0]["halves"], self.layers[0]["middle"] = 2, middle
        deep = narrow and len(self.layers) > OWNED_LAYERS and not self._is_shallow()
        self.owns_layers = MATRIX_UNIT and training and deep
        small = training and len(sizes) > 3 and max(sizes[1:-1]) <= HANDED_BLOCKS * self.block
        # what is shared in a stretch, or read by two pieces, is not handed on
        self.hands_on = small and not (
            self.shares_inputs or self.owns_layers or self.uses_matrix_unit or self.stretches
        )
        self.n_parameters = self.n_shared = self.n_parts = self.n_exchanged = self.n_masks = self.n_kept = 0
        for i in range(len(self.layers)):
            self._place(i, last=i == len(self.layers) - 1)
        self.words, classes = int(self.layers[0]["words"]), int(self.layers[-1]["outputs"])
        # the outputs of the largest group of a hidden layer above the first
        widest = max((-(-each["outputs"] // each["groups"]) for each in self.layers[1:-1]), default=0) * self.block
        scratch = TRANSPOSED_BLOCKS * self.block * (1 + (widest if training else 0))
        self.n_private = self.rows * (self.words * WORD + 2 * classes + 2) + scratch
        # the next may be gathered before the weights step, and those of the piece before be kept; whole masks are read
        self.gathered_pieces = 1 + self.shares_inputs + (self.joins_pieces or (training and self.uses_matrix_unit))
        self.n_gathered = self.gathered_pieces * self.words * WORD * self.columns + MARK
        if SINGLY and not stretches:
            self.n_gathered = 0
        self.n_nonzero = max(-(-widest // WORD), SINGLY * self.words) * self.rows
        listed = int(self.layers["words"].max()) * WORD
        self.n_marks = listed * (self.rows // MARK)
        self.n_input_walks = 4 * self.words * WORD + WALK_COUNTS
        self.n_starts = (3 if SINGLY else 1) * self.rows  # see ``input_layer.starts_of``
        self.n_units = 2 * listed + WALK_COUNTS
        if self.shares_inputs:
            self._place_halves()
        self.useful_threads = int(self.layers["halves" if self.shares_inputs else "groups"].max())
        self._owned: dict[tuple[int, int], NDArray[Any]] = {}
        self.layers = self.owned(0, 1)

    def owned(self, thread: int, threads: int, bounds: tuple[float, ...] = ()) -> NDArray[Any]:
        """``layers`` for one of some threads, that owns some groups of each, or halves of the inputs.

        Groups are dealt as evenly as possible, or by ``bounds``: where the parts of the threads begin and end, from 0
        to 1. Kernels need that several times a layer and mini-batch, so it is divided once a call, and if evenly
        only once: what is returned is not to be changed.
        """
        if bounds:  # hardly ever twice the same
            return self._divide(thread, threads, bounds)
        if (thread, threads) not in self._owned:
            self._owned[thread, threads] = self._divide(thread, threads)
        return self._owned[thread, threads]

    def _divide(self, thread: int, threads: int, bounds: tuple[float, ...] = ()) -> NDArray[Any]:
        layers = self.layers.copy()
        layers["last_half"] = 1
        if self.shares_inputs:
            layers[0]["first_half"], layers[0]["last_half"] = 2 * thread // threads, 2 * (thread + 1) // threads
            thread, threads = 0, 1
        blocks, groups = layers["outputs"].copy(), layers["groups"]
        blocks[-1] = layers["inputs"][-1]
        ends = np.outer(np.arange(threads + 1), groups) // threads
        if bounds:
            ends = np.rint(np.outer(bounds, groups)).astype(np.int64)
        block_ends = ends * blocks // groups
        layers["first_group"], layers["last_group"] = ends[thread], ends[thread + 1]
        layers["first_block"], layers["last_block"] = block_ends[thread], block_ends[thread + 1]
        # all threads must agree, as they mark for each other what is not zero
        layers["skips"] = (blocks >= WIDE) | (np.diff(block_ends, axis=0).max(axis=0) >= NARROW)
        if self.owns_layers:
            # two threads, as the first hidden layer has no more groups. On the way back the second hands the gradient
            # on and lets its weights step while the first is busy: so it owns twice as many layers.
            owners = (np.arange(len(layers) - 1) >= (len(layers) - 1) // 3) & (threads > 1)
            owned = owners == thread
            layers["first_group"][1:], layers["last_group"][1:] = 0, owned
            layers["first_block"][1:], layers["last_block"][1:] = 0, owned * blocks[1:]
            layers["alone"][2:] = owners[1:] == owners[:-1]
        return layers

    def work(self, threads: int, bounds: tuple[float, ...] = ()) -> NDArray[np.float64]:
        """What of the multiply-adds each of some threads does in hidden layers; the bounds as for ``owned``."""
        owned = [self.owned(thread, threads, bounds)[:-1] for thread in range(threads)]
        work = np.array([layers["inputs"] @ (layers["last_block"] - layers["first_block"]) for layers in owned])
        return work / max(work.sum(), 1)

    def owned_inputs(self, thread: int, threads: int) -> slice:
        """Of which inputs one of some threads owns the weights, where threads share the inputs."""
        layer = self.owned(thread, threads)[0]
        bounds = (0, int(layer["middle"]), int(layer["inputs"]) * self.block)
        return slice(bounds[layer["first_half"]], bounds[layer["last_half"]])

    def weights_of(self, flat: NDArray[Any], inputs: slice) -> NDArray[Any]:
        """View of the weights of some inputs, ``[blocks][inputs][BLOCK]``."""
        layer = self.layers[0]
        panel = flat[: int(layer["outputs"]) * int(layer["inputs"]) * self.block * self.block]
        return panel.reshape(int(layer["outputs"]), -1, self.block)[:, inputs]

    def _is_shallow(self) -> bool:
        """Whether the hidden layers have little to multiply between them."""
        hidden = [round_up(size, self.block) for size in self.sizes[1:-1]]
        rest = sum(fan_in * fan_out for fan_in, fan_out in itertools.pairwise(hidden))
        return rest <= SHARED_INPUTS_REST * self.sizes[0] * hidden[0]

    def _uses_matrix_unit(self) -> bool:
        """Whether some layer may be left to it, if its samples suit."""
        if not MATRIX_UNIT or self.dtype != np.float32 or len(self.sizes) == 2:
            return False
        blocks = [round_up(size, self.block) // self.block for size in self.sizes[:-1]]
        if not self.training:
            return blocks[1] <= MATRIX_PREDICT_BLOCKS
        wide = any(min(pair) >= MATRIX_BLOCKS for pair in itertools.pairwise(blocks))
        return wide or blocks[1] >= MATRIX_BYTES_BLOCKS

    def _place_halves(self) -> None:
        """Place what threads exchange that share the inputs."""
        layer = self.layers[0]
        outputs = int(layer["outputs"]) * self.block
        # of two halves; all but the products for even and odd pieces or barriers; q also of velocities and gradients
        for name, numbers in (("sums", 2 * self.rows * outputs), ("folded", 4 * 3 * outputs), ("squares", 4)):
            layer[name] = self.n_exchanged
            self.n_exchanged += round_up(numbers, CACHE_LINE)

    def _place(self, i: int, *, last: bool) -> None:
        layer, block = self.layers[i], self.block
        inputs = round_up(self.sizes[i], block)
        outputs = round_up(self.sizes[i + 1], CLASS_ROWS if last else block)
        layer["inputs"] = inputs // block
        if layer["halves"] == 1:
            layer["middle"] = inputs
        layer["outputs"] = outputs if last else outputs // block
        blocks = (inputs if last else outputs) // block
        whole = self.shares_inputs or (self.owns_layers and i > 0)
        layer["groups"] = 1 if whole else group_count(blocks)
        layer["width"] = self.sizes[i + 1]
        layer["words"] = -(-inputs // WORD)
        layer["nonzero"] = self.n_masks
        self.n_masks += 2 * int(layer["words"]) * self.rows if i else 0
        layer["weights"] = self.n_parameters
        layer["bias"] = self.n_parameters + inputs * outputs
        self.n_parameters += inputs * outputs + round_up(outputs, block)
        behind_background = i == 0 and not last
        layer["background"] = self.n_parameters
        self.n_parameters += 2 * outputs if behind_background else 0
        deltas = 2 if self.uses_matrix_unit or self.joins_pieces else 1
        lengths = {
            "activations": 0 if last else (PANELS if self.uses_matrix_unit else 2) * self.rows * outputs,
            "deltas": deltas * self.rows * outputs if self.training and not last else 0,
            "transposed": self.rows * inputs if last else 0,
        }
        parts = {
            "parts": int(layer["groups"]) * self.rows * inputs if i and self.training and not last else 0,
            "partial": 2 * int(layer["groups"]) * self.rows * outputs if last else 0,
            "squares": 2 * int(layer["groups"]),
        }
        if behind_background and self.stretches:
            lengths |= {"sums": self.rows * outputs, "products": self.rows * round_up(self.rows, block)}
            self.n_kept = self.rows * outputs
        if behind_background and not self.training:  # whoever only predicts does not write to the parameters
            lengths["background"] = 2 * outputs
        for name, length in lengths.items():
            layer[name] = self.n_shared
            self.n_shared += round_up(length, CACHE_LINE)
        for name, length in parts.items():
            layer[name] = self.n_parts
            self.n_parts += round_up(length, CACHE_LINE)
        layer["handed"] = self.n_exchanged
        self.n_exchanged += self.rows * outputs if self.hands_on and i < len(self.layers) - 2 else 0

    def pack(self, weights: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Ordinary ``(fan_in, fan_out)`` weights and ``(fan_out,)`` biases as one flat array of padded blocks."""
        flat = aligned_zeros(self.n_parameters, self.dtype)
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            fan_in, fan_out = weight.shape
            panel = self._panel(flat, i)
            padded = np.zeros(self._padded(i), self.dtype)
            padded[:fan_in, :fan_out] = weight
            panel[...] = padded.reshape(panel.shape)
            self._bias(flat, i)[...] = bias
        return flat

    def unpack(self, flat: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """The reverse of ``pack``: contiguous copies of weights and biases."""
        weights, biases = [], []
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(self.sizes)):
            padded = self._panel(flat, i).reshape(self._padded(i))
            weights.append(np.ascontiguousarray(padded[:fan_in, :fan_out]))
            biases.append(self._bias(flat, i).copy())
        return weights, biases

    def _padded(self, i: int) -> tuple[int, int]:
        """Inputs and outputs of a layer, padded."""
        last = i == len(self.layers) - 1
        return int(self.layers[i]["inputs"]) * self.block, int(self.layers[i]["outputs"]) * (1 if last else self.block)

    def _panel(self, flat: NDArray[Any], i: int) -> NDArray[Any]:
        """View of a layer's weights in which the padded matrix lies row by row."""
        inputs, outputs = self._padded(i)
        start, block = int(self.layers[i]["weights"]), self.block
        panel = flat[start : start + inputs * outputs]
        if i == len(self.layers) - 1:
            return panel.reshape(inputs // block, outputs, block).transpose(0, 2, 1)
        return panel.reshape(outputs // block, inputs, block).transpose(1, 0, 2)

    def _bias(self, flat: NDArray[Any], i: int) -> NDArray[Any]:
        start = int(self.layers[i]["bias"])
        return flat[start : start + self.sizes[i + 1]]
