"""Activation functions and their derivatives on panels, chosen by a number once per pass.

The derivative is computed from the activation itself, so pre-activations are not kept.
"""

from __future__ import annotations

from fastmlp.kernels.compiler import kernel, phase
from fastmlp.kernels.flat import put
from fastmlp.kernels.tile import (
    ROWS,
    VECTORS,
    fill,
    hyperbolic_tangent,
    lanes_of,
    load,
    logistic,
    multiply,
    rectify,
    step,
    store,
    subtract,
)

ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh", "scaled_tanh")
IDENTITY, RELU, SIGMOID, TANH, SCALED_TANH = range(5)

# LeCun, Bottou, Orr, Muller, "Efficient BackProp" (1998): f(+-1) = +-1 and the largest curvature there.
AMPLITUDE = 1.7159
SLOPE = 2.0 / 3.0


@phase
def activate(kind, z, start, rows, width):
    """Overwrite pre-activations with activations, ``a = f(z)``, in one block; columns from ``width`` on become 0.

    Parameters
    ----------
    kind : int
        Index in ``ACTIVATIONS``.
    z : float (flat), overwritten
        Pre-activations, then activations.
    start : int
        Offset of a block ``[rows][BLOCK]``.
    rows : int
        Samples, a multiple of ``ROWS``.
    width : int
        Columns of the block that are units. A padded unit must stay at zero, or it would learn.
    """
    block = VECTORS * lanes_of(z)
    for row in range(0, rows, ROWS):
        offset = start + row * block
        tile = load(z, offset, block, ROWS, VECTORS)
        if kind == RELU:
            tile = rectify(tile)
        elif kind == SIGMOID:
            tile = logistic(tile)
        elif kind == TANH:
            tile = hyperbolic_tangent(tile)
        elif kind == SCALED_TANH:
            tile = hyperbolic_tangent(multiply(tile, fill(z, SLOPE, ROWS, VECTORS)))
            tile = multiply(tile, fill(z, AMPLITUDE, ROWS, VECTORS))
        store(z, offset, block, tile)
    if width < block:
        for row in range(rows):
            for column in range(width, block):
                put(z, start + row * block + column, z.dtype.type(0))


@kernel
def times_derivative(kind, gradient, a, offset):
    """dL/dz = dL/da f'(z) for one tile, with f'(z) written in terms of a = f(z).

    Parameters
    ----------
    kind : int
        Index in ``ACTIVATIONS``.
    gradient : Tile(ROWS, VECTORS)
        dL/da.
    a : float (flat)
        Activations, a block ``[rows][BLOCK]``.
    offset : int
        Where the tile's first row begins.
    """
    if kind == IDENTITY:
        return gradient
    tile = load(a, offset, VECTORS * lanes_of(a), ROWS, VECTORS)
    if kind == RELU:
        tile = step(tile)
    elif kind == SIGMOID:  # a (1 - a)
        tile = multiply(tile, subtract(fill(a, 1.0, ROWS, VECTORS), tile))
    elif kind == TANH:  # 1 - a^2
        tile = subtract(fill(a, 1.0, ROWS, VECTORS), multiply(tile, tile))
    else:  # SLOPE AMPLITUDE (1 - (a / AMPLITUDE)^2)
        square = multiply(multiply(tile, tile), fill(a, SLOPE / AMPLITUDE, ROWS, VECTORS))
        tile = subtract(fill(a, SLOPE * AMPLITUDE, ROWS, VECTORS), square)
    return multiply(gradient, tile)
