"""The compiled core: everything here runs as machine code, and nothing here prints, opens files or checks arguments.

Read in this order: ``vector`` and ``tile`` (SIMD registers), ``machine`` (atomics, clock), ``layout`` (where the
numbers live), ``dense``, ``background``, ``walks``, ``sparse``, ``idle``, ``stretch``, ``activation``, ``output``,
``optimizer`` (the mathematics of one block), ``propagation`` and ``backpropagation`` (that of a thread's share),
``batch`` (many mini-batches on a team of threads) and ``bulk`` (prediction). ``compiler`` compiles and caches them.
"""
