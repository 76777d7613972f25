"""Inputs that a mini-batch does not have, under momentum: their weights wait until they are needed.

Where an input is zero in a whole mini-batch, the gradient of its weights is zero too (what its background adds is kept
aside, see ``background``), and momentum m alone moves them. After n such mini-batches in a row

    w <- w + d_n v,  d_n = m + m^2 + ... + m^n  (Nesterov: m^2 + ... + m^(n + 1)),    v <- m^n v

is what n steps would have done. So weights and velocities are not touched; the mini-batches are counted, for quads of
inputs (for four neighbours in ``singles``), and the weights catch up when one of a quad is next seen, or all of them
when the background is folded. That is the same gradient descent, with fewer roundings. A fifth of MNIST's quads are
idle in a mini-batch of 32.
"""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import get, put
from fastmlp.kernels.singles import none_together
from fastmlp.kernels.tile import VECTORS, add_scaled, lanes_of, load, store, zeros_like
from fastmlp.kernels.walks import PAIR, empty_count, pairs_of, walk_count

# So many mini-batches are counted at most.
LONGEST = 64


@phase
def count(quads, stride, idle):
    """Count one more mini-batch for all inputs without samples.

    Parameters
    ----------
    quads, stride
        From ``walks.list_inputs``.
    idle : uint8, overwritten
        Mini-batches that each pair of inputs has waited; those of a quad have waited equally long.
    """
    for k in range(empty_count(quads)):
        for i in pairs_of(get(quads, stride - 1 - k)):
            put(idle, i // PAIR, np.uint8(get(idle, i // PAIR) + 1))


@phase
def count_singly(first_input, last_input, walks, idle):
    """``count`` for a range of inputs, even, with walks from ``singles.transpose``."""
    for i in range(first_input, last_input, PAIR):
        put(idle, i // PAIR, np.uint8(get(idle, i // PAIR) + none_together(walks, i)))


@kernel
def _catch_up_pair(waited, decay, blocks, w, v, start, gap, for_good):
    """``w += d_n v`` and, if it is for good, ``v *= m^n`` for two rows of some blocks ``gap`` apart."""
    block = VECTORS * lanes_of(w)
    for b in range(blocks):
        offset = start + b * gap
        velocity = load(v, offset, block, PAIR, VECTORS)
        drift = get(decay, LONGEST + 1 + waited)
        store(w, offset, block, add_scaled(load(w, offset, block, PAIR, VECTORS), drift, velocity))
        if for_good:
            store(v, offset, block, add_scaled(zeros_like(velocity), get(decay, waited), velocity))


@phase
def catch_up(quads, idle, decay, blocks, w, v, w_start, w_gap):
    """Let the weights and velocities of all inputs with samples catch up.

    Parameters
    ----------
    quads
        From ``walks.list_inputs``.
    idle : uint8, overwritten
        From ``count``.
    decay : float (2 * (LONGEST + 1),)
        m^n for n from 0 to ``LONGEST``, then d_n.
    blocks : int
        Number of blocks of weights.
    w, v : float (flat), overwritten
        Blocks ``[inputs][BLOCK]`` at ``w_start`` and then every ``w_gap``: weights and velocities.
    """
    block = VECTORS * lanes_of(w)
    for k in range(walk_count(quads)):
        i, j = pairs_of(get(quads, k))
        waited = np.int64(get(idle, i // PAIR))
        if waited > 0:
            for pair in (i, j):
                _catch_up_pair(waited, decay, blocks, w, v, w_start + pair * block, w_gap, True)
                put(idle, pair // PAIR, np.uint8(0))


@phase
def catch_up_singly(first_input, last_input, walks, idle, decay, blocks, w, v, w_start, w_gap):
    """``catch_up`` for a range of inputs, as in ``count_singly``."""
    block = VECTORS * lanes_of(w)
    for i in range(first_input, last_input, PAIR):
        waited = np.int64(get(idle, i // PAIR))
        if waited > 0 and not none_together(walks, i):
            _catch_up_pair(waited, decay, blocks, w, v, w_start + i * block, w_gap, True)
            put(idle, i // PAIR, np.uint8(0))


@phase
def catch_up_all(first_input, last_input, idle, decay, blocks, w, v, w_start, w_gap, for_good):
    """Let all weights of a range of inputs catch up, and their velocities too if it is for good; otherwise as above."""
    block = VECTORS * lanes_of(w)
    for i in range(first_input, last_input, PAIR):
        waited = np.int64(get(idle, i // PAIR))
        if waited > 0:
            _catch_up_pair(waited, decay, blocks, w, v, w_start + i * block, w_gap, for_good)
            if for_good:
                put(idle, i // PAIR, np.uint8(0))
