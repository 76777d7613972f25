"""The compiled core: everything here runs as machine code, and nothing here prints, opens files or checks arguments.

Read in this order:

- SIMD registers: ``vector``, ``flat`` (arrays as kernels pass them on), ``tile``, ``marks`` (bits), ``machine``
  (atomics, clock), ``matrix_unit``.
- Where the numbers live: ``layout``.
- The mathematics of one block: ``dense``, ``split`` and ``split_bytes`` (on the matrix unit), ``background``,
  ``walks``, ``sparse``, ``singles``, ``idle``, ``stretch``, ``activation``, ``output``, ``optimizer``.
- That of a thread's share of a mini-batch: ``piece`` and ``reference`` (what all of these are given), ``input_layer``
  and ``input_step`` (inputs with a background), ``propagation``, ``backpropagation``.
- Whole calls: ``team`` (barriers), ``batch`` (many mini-batches), ``bulk`` (prediction), ``shuffle``.

``compiler`` and ``building_block`` compile and cache them.
"""
