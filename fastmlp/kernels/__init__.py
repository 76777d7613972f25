"""The compiled core: everything here runs as machine code, and nothing here prints, opens files or checks arguments.

Read in this order: ``vector`` and ``tile`` (SIMD registers), ``machine`` (atomics, clock), ``layout`` (where the
numbers live), ``dense``, ``background``, ``activation``, ``output``, ``optimizer`` (the mathematics of one block),
``batch`` (one mini-batch on a team of threads) and ``bulk`` (prediction). ``compiler`` compiles and caches them.
"""
