"""Update rules, as the beginning and the end of a tile that sums the gradient of some weights.

The deltas are already multiplied by ``-learning_rate / batch_size`` (see ``output``), so what a tile sums is the step
itself: s = -learning_rate dL/dw, without the L2 penalty. The rules, with c = learning_rate * l2:

- ``DIRECT``    w <- (1 - c) w + s. The tile starts from the weights: one read and one write of each per batch.
- ``PLAIN``     the same for a mini-batch that comes in several pieces: the tile starts from zero or from ``sums``.
- ``MOMENTUM``  v <- momentum v + s - c w;  w <- w + v (Polyak, 1964).
- ``NESTEROV``  v as above;  w <- w + momentum v + (s - c w) (the form of scikit-learn and of Sutskever et al., 2013).
- ``GRADIENT``  sums <- s - c w, and the weights stay: with a learning rate of -1 this is the gradient.
"""

from __future__ import annotations

from fastmlp.kernels.compiler import kernel
from fastmlp.kernels.machine import stay_behind
from fastmlp.kernels.tile import VECTORS, add, add_scaled, lanes_of, load_like, store_blocks, zeros_like

DIRECT, PLAIN, MOMENTUM, NESTEROV, GRADIENT = range(5)


@kernel
def begin(rule, first, tile, w, sums, offset, gap, shrink):
    """What a tile of steps starts from.

    Parameters
    ----------
    rule : int
        One of the rules above.
    first : bool
        Whether this is the first piece of the mini-batch.
    tile : Tile
        Zeros, in the shape wanted.
    w, sums : float (flat)
        Weights and the sums of earlier pieces, both with rows of BLOCK numbers.
    offset : int
        Where the tile's first row begins.
    gap : int
        Distance of neighbouring blocks, if the tile has several.
    shrink : float
        c, or 0 for biases, which are not penalised.
    """
    if rule == DIRECT:
        tile = load_like(tile, w, offset, VECTORS * lanes_of(w), gap)
        if shrink != 0:
            stay_behind()
            tile = add_scaled(tile, -shrink, tile)
    elif not first:
        tile = load_like(tile, sums, offset, VECTORS * lanes_of(w), gap)
    return tile


@kernel
def end(rule, last, tile, w, v, sums, offset, gap, momentum, shrink):
    """Store a tile of steps and, after the last piece of the mini-batch, move the weights; returns the new weights.

    Parameters
    ----------
    rule, offset, gap, shrink
        As in ``begin``.
    last : bool
        Whether this is the last piece of the mini-batch.
    tile : Tile
        The steps summed so far.
    w, v, sums : float (flat), overwritten
        Weights, velocities, sums of earlier pieces.
    momentum : float
        Between 0 and 1.
    """
    block = VECTORS * lanes_of(w)
    if rule == DIRECT:
        store_blocks(w, offset, block, gap, tile)
        return tile
    weights = load_like(tile, w, offset, block, gap)
    if not last:
        store_blocks(sums, offset, block, gap, tile)
        return weights
    if shrink != 0:
        tile = add_scaled(tile, -shrink, weights)
    if rule == GRADIENT:
        store_blocks(sums, offset, block, gap, tile)
        return weights
    if rule == PLAIN:
        weights = add(weights, tile)
    else:
        velocity = add_scaled(tile, momentum, load_like(tile, v, offset, block, gap))
        store_blocks(v, offset, block, gap, velocity)
        weights = add(weights, velocity if rule == MOMENTUM else add_scaled(tile, momentum, velocity))
    store_blocks(w, offset, block, gap, weights)
    return weights


@kernel
def step_row(rule, first, last, tile, w, v, sums, offset, momentum, shrink):
    """One step for BLOCK numbers, biases for example; ``tile`` (one row) is the sum over the samples."""
    start = begin(rule, first, zeros_like(tile), w, sums, offset, 0, shrink)
    end(rule, last, add(start, tile), w, v, sums, offset, 0, momentum, shrink)
