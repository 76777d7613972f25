"""How the threads of a team share work and wait for each other.

Thread ``t`` of ``n`` owns the same groups of blocks for the whole run, so weights never move between cores. Threads
meet at a barrier of one counter each: a thread publishes how many barriers it has reached and waits until all others
have published as much. It spins briefly (0.1 to 0.3 us between running threads) and then yields its core, so that a
busy neighbour does not stall the team for a whole time slice.
"""

from __future__ import annotations

from fastmlp.kernels.compiler import kernel
from fastmlp.kernels.machine import load_acquire, pause, store_release, yield_processor

# Counters are kept a cache line apart.
STRIDE = 8

# 2000 pauses take about 30 us: longer than a phase of a small network, shorter than a time slice.
SPINS = 2000


@kernel
def share(total, parts, part):
    """Where part number ``part`` of ``total`` things begins when they are dealt to ``parts`` as evenly as possible."""
    return part * total // parts


@kernel
def arrive(counters, thread, count):
    """Publish that this thread has reached its barrier number ``count``, and all it wrote before.

    Parameters
    ----------
    counters : int64 (threads * STRIDE,)
    """
    store_release(counters, thread * STRIDE, count)


@kernel
def wait(counters, threads, count):
    """Wait until every thread has reached barrier number ``count``."""
    for other in range(threads):
        spins = 0
        while load_acquire(counters, other * STRIDE) < count:
            spins += 1
            if spins < SPINS:
                pause()
            else:
                yield_processor()
