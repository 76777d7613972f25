"""From where on which technique pays: sizes of networks, by what was measured on which CPU."""

from __future__ import annotations

from fastmlp.kernels.vector import MULTIPLIED_BYTES, REGISTER_BYTES

# A layer with fewer blocks of outputs than this is too narrow to gain by skipping what a ReLU has switched off.
WIDE = 8

# Unless some thread owns at least so many blocks of it: where 32 bytes are multiplied at a time, what is skipped saves
# twice as much. Measured on an AMD Zen 4 at batch 32, against ``WIDE`` alone: on two threads 784-64-64-10 trains 7 to
# 16 % faster, 784-(10 x 64)-10 6 to 9 %, 784-128-128-10 7 to 12 %, on one 784-(10 x 64)-10 20 to 25 % and
# 784-(6 x 128)-10 26 to 28 %; in mini-batches of 4 or 8 all within 8 %. Compiled for AVX2 on the same CPU 784-64-64-10
# trains 3 to 8 % faster on two threads and 784-(10 x 64)-10 12 to 15 % on one, and as fast on two.
NARROW = WIDE if MULTIPLIED_BYTES != 32 else 1 if REGISTER_BYTES == 64 else 4

# The same for the gradient of the inputs, by their blocks; a thread walks over its own outputs only. With AVX2, on two
# threads, 784-(10 x 64)-10 trains 9 % slower with 4 than with 8, and nothing is faster. Without it a Zen 4 trains
# 784-(10 x 64)-10 11 % slower on one thread with 8 than with 1, and other narrow networks 2 to 7 %.
NARROW_INPUTS = NARROW if REGISTER_BYTES == 64 else WIDE

# Whether the first layer walks over single inputs, see ``singles``. Measured on an AMD Zen 3 against quads of inputs,
# batch 32: on two threads 784-64-10 trains 12 to 17 % faster, 784-128-10 15 %, 784-256-10 8 %, 784-512-10 4 %,
# 784-64-64-10 10 %, 784-32-10 2 %; 784-64-10 at batch 512 12 %; with momentum 11 %; 784-64-10 is evaluated 25 % faster.
# 784-16-10 trains 10 % slower, and so does 784-64-10 in mini-batches of 4. With registers of 64 bytes 64 units are half
# as many accumulators, and wait for each other; with those of 16 it is not measured.
SINGLY = REGISTER_BYTES == 32

# With fewer blocks of inputs or outputs a layer's products are not left to the matrix unit. Measured on two threads of
# an Intel Xeon, batch 64, against ``sparse``: two layers of 384 train 9 to 13 % faster with it, two of 256 as fast, two
# of 128 7 % slower.
MATRIX_BLOCKS = 12

# The same for the outputs of the first layer, if its inputs are bytes with a background. Measured on two threads of an
# Intel Xeon, batch 128, against ``sparse``: 784-128-10 trains 15 % faster with it, 784-256-10 25 %, 784-512-10 28 %.
MATRIX_BYTES_BLOCKS = 4

# With more blocks of outputs the first layer predicts without the matrix unit: weights that are split take up half as
# much again, and leave the second-level cache. Measured on two threads of an Intel Xeon with 2 MiB of it, evaluation of
# 20,000 images by 16, 64, 256, 384 and 512 units: 30, 25, 25 and 3 % less and 6 % more time with the unit.
MATRIX_PREDICT_BLOCKS = 8

# Threads share the inputs (see ``batch``) of networks whose hidden layers have at most so many blocks, and at most this
# part of the multiply-adds of the inputs between them. Measured on two threads of an Intel Xeon, batch 32, against
# threads that share the units: 784-64-10 trains 15 to 18 % faster, 784-64-64-10 and 784-(3 x 64)-10 8 %,
# 784-(4 x 64)-10 3 %, 784-(10 x 64)-10 6 % slower; 784-32-10 33 % faster, where only one thread had units. On an AMD
# Zen 3, whose registers of 32 bytes hold half of it, 784-64-10 trains 10 to 13 % faster, 784-64-64-10 as fast and
# 784-(3 x 64)-10 7 % slower, as multiply-adds that both threads do weigh more there; in float64 784-32-10 trains 20 %
# faster.
SHARED_INPUTS_BLOCKS = 2 if REGISTER_BYTES == 64 else 4
SHARED_INPUTS_REST = 0.25 if REGISTER_BYTES == 64 else 0.1

# If there is more between them, and at least so many layers above the first hidden one, threads own whole layers on
# Intel CPUs that have a matrix unit, where what one has written comes to the other at 20 ns a cache line. Measured on
# two threads, batch 32, against threads that share the units, where the second brings nothing: 784-(10 x 64)-10 trains
# 26 % faster (10 % with shared inputs), 784-(20 x 64)-10 35 %; 784-(5 x 64)-10 as fast as with shared inputs. On an AMD
# Zen 5, whose cores share a cache, two that share the units train 784-(10 x 64)-10 1.43 times as fast as one.
OWNED_LAYERS = 5

# With fewer inputs their halves are equal; with as many each has about half of the work. Measured on two threads of an
# AMD Zen 4, batch 32, against equal halves: with MNIST's pixels in the order of how often they are not zero 784-64-10
# trains 35 % faster; as they are, with 48 % of it in the upper half, 1 %.
BALANCED_INPUTS = 256

# Threads hand each other copies of activations (see ``batch``) of networks whose hidden layers have at most so many
# blocks. Measured on two threads of an AMD Zen 4, batch 32, against activations that all read where they are, and parts
# of gradients that do not change places: 784-(10 x 64)-10 takes 8 to 10 % less time for it, of which 5 % for the parts,
# 784-128-128-10 5 to 8 %, 784-(6 x 128)-10 6 %, 784-256-256-10 none, 784-512-512-10 1 %, where threads copy more.
HANDED_BLOCKS = 4
