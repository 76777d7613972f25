"""The peak of the multiply-add units: chains of multiply-adds that never leave the registers."""

from __future__ import annotations

from fastmlp.kernels.compiler import entry_kernel
from fastmlp.kernels.flat import get
from fastmlp.kernels.tile import ROWS, VECTORS, add_scaled, fill, lanes_of, load, store

# Chains that do not depend on each other: more than the multiply-add units have under way at a time (2 units
# of 4 to 5 cycles on x86, 4 of 4 on ARM), and few enough that all stay in registers.
CHAIN_ROWS = ROWS + ROWS // 2
CHAINS = CHAIN_ROWS * VECTORS


@entry_kernel
def multiply_add_chains(constants, starts, steps, ends):
    """Compute ``x = factor * x + summand`` ``steps`` times on every lane of ``CHAINS`` registers.

    Parameters
    ----------
    constants : float (2,)
        ``factor`` and ``summand``; read at run time, so that nothing can be computed beforehand.
    starts : float (CHAINS * lanes,)
        Different first values: the compiler merges chains that begin alike.
    steps : int
    ends : float (CHAINS * lanes,), overwritten
        Last values; without them the compiler would leave the loop out.
    """
    factor = get(constants, 0)
    summands = fill(constants, get(constants, 1), CHAIN_ROWS, VECTORS)
    stride = VECTORS * lanes_of(starts)
    chains = load(starts, 0, stride, CHAIN_ROWS, VECTORS)
    for _ in range(steps):
        chains = add_scaled(summands, factor, chains)
    store(ends, 0, stride, chains)
