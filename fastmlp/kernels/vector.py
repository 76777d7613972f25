"""SIMD vectors while code is emitted: arithmetic and elementary functions on one register.

A ``Vector`` wraps an LLVM value of type ``<lanes x float>`` (or double) together with the builder that appends
instructions. The functions below are ordinary Python that runs once, at compile time; what it leaves behind is a
straight line of vector instructions. ``tile`` applies them to every register of a tile.

The number of lanes follows from the CPU features that Numba compiles for, never from a setting of ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target


def _register_bytes() -> int:
    """Width in bytes of the widest SIMD register of the CPU that Numba compiles for."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    if "+avx512f" in features:
        return 64
    return 32 if triple.startswith(("x86_64", "i386", "i686")) and "+avx" in features else 16


REGISTER_BYTES = _register_bytes()

# How much of a register is multiplied at a time: AMD's Zen 4 takes those of 64 bytes in two halves.
_SPLITS_REGISTERS = cpu_target.target_context.codegen().magic_tuple()[1] == "znver4"
MULTIPLIED_BYTES = 32 if REGISTER_BYTES == 64 and _SPLITS_REGISTERS else REGISTER_BYTES

INTEGER = ir.IntType(64)


@dataclass(frozen=True)
class Lanes:
    """The LLVM types of one register of float32 or float64 numbers, and their bit layout (IEEE 754)."""

    bits: int
    mantissa: int

    @property
    def count(self) -> int:
        """Number of lanes."""
        return REGISTER_BYTES * 8 // self.bits

    @property
    def scalar(self) -> ir.Type:
        """LLVM type of one lane."""
        return ir.FloatType() if self.bits == 32 else ir.DoubleType()

    @property
    def vector(self) -> ir.VectorType:
        """LLVM type of the register."""
        return ir.VectorType(self.scalar, self.count)

    @property
    def integer(self) -> ir.VectorType:
        """LLVM type of the register read as integers of the same width."""
        return ir.VectorType(ir.IntType(self.bits), self.count)

    @property
    def one_bits(self) -> int:
        """The bit pattern of 1.0."""
        return ((1 << (self.bits - self.mantissa - 2)) - 1) << self.mantissa


LANES = {types.float32: Lanes(32, 23), types.float64: Lanes(64, 52)}


def integer_constant(value: int) -> ir.Constant:
    """A 64-bit integer."""
    return ir.Constant(INTEGER, value)


class Vector:
    """One SIMD register at emission time; operators append instructions.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    value : llvmlite.ir.Value
        Of type ``lanes.vector``.
    lanes : Lanes
    """

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, lanes: Lanes) -> None:
        self.builder, self.value, self.lanes = builder, value, lanes

    def of(self, value: ir.Value) -> Vector:
        """Another register of the same kind."""
        return Vector(self.builder, value, self.lanes)

    def constant(self, number: float) -> Vector:
        """The same number in every lane."""
        return self.of(ir.Constant(self.lanes.vector, [ir.Constant(self.lanes.scalar, number)] * self.lanes.count))

    def _with(self, other: Vector | float) -> Vector:
        return other if isinstance(other, Vector) else self.constant(other)

    def __add__(self, other: Vector | float) -> Vector:
        return self.of(self.builder.fadd(self.value, self._with(other).value))

    def __sub__(self, other: Vector | float) -> Vector:
        return self.of(self.builder.fsub(self.value, self._with(other).value))

    def __rsub__(self, other: float) -> Vector:
        return self.constant(other) - self

    def __mul__(self, other: Vector | float) -> Vector:
        return self.of(self.builder.fmul(self.value, self._with(other).value))

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: Vector | float) -> Vector:
        return self.of(self.builder.fdiv(self.value, self._with(other).value))

    def __rtruediv__(self, other: float) -> Vector:
        return self.constant(other) / self

    def multiply_add(self, factor: Vector | float, addend: Vector | float) -> Vector:
        """``self * factor + addend``, rounded once.

        llvmlite cannot name vector overloads in ``declare_intrinsic``; the function is declared by its full name.
        """
        name = f"llvm.fma.v{self.lanes.count}f{self.lanes.bits}"
        signature = ir.FunctionType(self.lanes.vector, [self.lanes.vector] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.of(self.builder.call(function, [self.value, self._with(factor).value, self._with(addend).value]))

    def polynomial(self, *coefficients: float) -> Vector:
        """Horner's rule, highest power first."""
        result = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            result = result.multiply_add(self, coefficient)
        return result

    def where(self, comparison: str, other: Vector | float, chosen: Vector, otherwise: Vector) -> Vector:
        """``chosen`` in the lanes where ``self comparison other`` holds (false for NaN), else ``otherwise``."""
        condition = self.builder.fcmp_ordered(comparison, self.value, self._with(other).value)
        return self.of(self.builder.select(condition, chosen.value, otherwise.value))

    def maximum(self, other: Vector | float) -> Vector:
        """The larger of two; NaN in ``self`` stays NaN."""
        other = self._with(other)
        return self.where("<", other, other, self)

    def minimum(self, other: Vector | float) -> Vector:
        """The smaller of two; NaN in ``self`` stays NaN."""
        other = self._with(other)
        return self.where(">", other, other, self)

    def bits(self) -> ir.Value:
        """The register read as integers."""
        return self.builder.bitcast(self.value, self.lanes.integer)

    def from_bits(self, integers: ir.Value) -> Vector:
        """Integers read as the register."""
        return self.of(self.builder.bitcast(integers, self.lanes.vector))

    def integers(self, value: int) -> ir.Constant:
        """The same integer in every lane."""
        return ir.Constant(self.lanes.integer, [value] * self.lanes.count)

    def absolute(self) -> Vector:
        """Clear the sign bit."""
        mask = self.integers((1 << (self.lanes.bits - 1)) - 1)
        return self.from_bits(self.builder.and_(self.bits(), mask))

    def with_sign_of(self, other: Vector) -> Vector:
        """Take over the sign bit of another register; the own one must be clear."""
        sign = self.builder.and_(other.bits(), self.integers(-(1 << (self.lanes.bits - 1))))
        return self.from_bits(self.builder.or_(self.bits(), sign))


def load(builder: ir.IRBuilder, pointer: ir.Value, lanes: Lanes) -> Vector:
    """Read one register; the pointer needs the alignment of one element only."""
    wide = builder.bitcast(pointer, lanes.vector.as_pointer())
    return Vector(builder, builder.load(wide, align=lanes.bits // 8), lanes)


def store(builder: ir.IRBuilder, pointer: ir.Value, vector: Vector) -> None:
    """Write one register; the pointer needs the alignment of one element only."""
    wide = builder.bitcast(pointer, vector.lanes.vector.as_pointer())
    builder.store(vector.value, wide, align=vector.lanes.bits // 8)


def broadcast(builder: ir.IRBuilder, scalar: ir.Value, lanes: Lanes) -> Vector:
    """One number in every lane."""
    undefined = ir.Constant(lanes.vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), [0] * lanes.count)
    return Vector(builder, builder.shuffle_vector(first, undefined, order), lanes)


def transpose(rows: list[Vector]) -> list[Vector]:
    """Transpose a square of ``lanes`` registers by log2(lanes) rounds of two-register shuffles.

    Round by round, blocks of ``width`` lanes are exchanged between rows that are ``width`` apart (Eklundh, 1972).
    """
    builder, lanes = rows[0].builder, rows[0].lanes
    count, width = lanes.count, 1
    while width < count:
        upper = [i if not i & width else count + i - width for i in range(count)]
        lower = [i + width if not i & width else count + i for i in range(count)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), count), order) for order in (upper, lower)]
        exchanged = list(rows)
        for row in range(count):
            if not row & width:
                pair = rows[row].value, rows[row + width].value
                exchanged[row] = rows[row].of(builder.shuffle_vector(*pair, masks[0]))
                exchanged[row + width] = rows[row].of(builder.shuffle_vector(*pair, masks[1]))
        rows, width = exchanged, width * 2
    return rows


def exponential(x: Vector) -> Vector:
    """e^x: x = n ln 2 + r with abs(r) <= ln 2 / 2, a polynomial for e^r, then two scalings by powers of two.

    Two scalings, since 2^n alone overflows or vanishes where e^x does not. Error: at most 2 ulp (float32) and
    4 ulp (float64). Coefficients: Cephes ``expf`` for float32, the Taylor series to r^13 / 13! for float64.
    """
    builder, lanes = x.builder, x.lanes
    low, high = (-104.0, 89.0) if lanes.bits == 32 else (-746.0, 710.0)
    x = x.maximum(low).minimum(high)
    # adding 1.5 * 2^mantissa rounds to the nearest integer and leaves it in the low bits: no conversion, no NaN trap
    magic = 1.5 * 2.0**lanes.mantissa
    shifted = x.multiply_add(1.0 / math.log(2.0), magic)
    n = shifted - magic
    if lanes.bits == 32:
        r = n.multiply_add(2.12194440e-4, n.multiply_add(-0.693359375, x))
        tail = r.polynomial(
            1.9875691500e-4,
            1.3981999507e-3,
            8.3334519073e-3,
            4.1665795894e-2,
            1.6666665459e-1,
            5.0000001201e-1,
        )
    else:
        r = n.multiply_add(-1.90821492927058770002e-10, n.multiply_add(-6.93147180369123816490e-01, x))
        tail = r.polynomial(*(1.0 / math.factorial(k) for k in range(13, 1, -1)))
    value = tail.multiply_add(r * r, r) + 1.0
    exponent = builder.sub(shifted.bits(), x.constant(magic).bits())
    half = builder.ashr(exponent, x.integers(1))
    for part in (half, builder.sub(exponent, half)):
        power = builder.add(builder.shl(part, x.integers(lanes.mantissa)), x.integers(lanes.one_bits))
        value = value * x.from_bits(power)
    return value


def logarithm(x: Vector) -> Vector:
    """ln x for positive normal x: x = 2^k m with m in [sqrt(1/2), sqrt(2)), ln m from the series in (m - 1) / (m + 1).

    FreeBSD's ``e_log.c`` and ``e_logf.c`` (Sun Microsystems, 1993). Error: at most 2 ulp.
    """
    builder, lanes = x.builder, x.lanes
    root_half = 0x3F3504F3 if lanes.bits == 32 else 0x3FE6A09E667F3BCD
    bits = builder.add(x.bits(), x.integers(lanes.one_bits - root_half))
    exponent = builder.sub(builder.ashr(bits, x.integers(lanes.mantissa)), x.integers(lanes.one_bits >> lanes.mantissa))
    fraction = builder.and_(bits, x.integers((1 << lanes.mantissa) - 1))
    f = x.from_bits(builder.add(fraction, x.integers(root_half))) - 1.0
    k = x.of(builder.sitofp(exponent, lanes.vector))
    s = f / (f + 2.0)
    z = s * s
    if lanes.bits == 32:
        high, low = 6.9313812256e-01, 9.0580006145e-06
        series = z * z.polynomial(0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693)
    else:
        high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
        series = z * z.polynomial(
            1.479819860511658591e-01,
            1.531383769920937332e-01,
            1.818357216161805012e-01,
            2.222219843214978396e-01,
            2.857142874366239149e-01,
            3.999999999940941908e-01,
            6.666666666666735130e-01,
        )
    half_square = f * f * 0.5
    small = s.multiply_add(half_square + series, k * low)
    return k.multiply_add(high, f - (half_square - small))


def hyperbolic_tangent(x: Vector) -> Vector:
    """tanh x: a polynomial (float32) or rational function (float64) near zero, else 1 - 2 / (e^2x + 1); Cephes."""
    size = x.absolute()
    z = x * x
    if x.lanes.bits == 32:
        slope = z * z.polynomial(
            -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1
        )
    else:
        above = z.polynomial(-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
        below = z.polynomial(1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)
        slope = z * above / below
    near = x.multiply_add(slope, x)
    far = 1.0 - 2.0 / (exponential(size + size) + 1.0)
    return size.where("<", 0.625, near, far.with_sign_of(x))


def logistic(x: Vector) -> Vector:
    """1 / (1 + e^-x)."""
    return 1.0 / (exponential(0.0 - x) + 1.0)
