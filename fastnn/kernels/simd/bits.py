"""Constants, polynomials and exponent arithmetic of vectors, for exp, log and their kin."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.cpu import ISA
from .vector import I32, call_ir, fma_ir

# Mantissa bits, exponent bias, and 1.5 * 2^mantissa, which added to a small float leaves its nearest integer in the
# low bits.
_FORMAT = {types.float32: (23, 127, 1.5 * 2**23), types.float64: (52, 1023, 1.5 * 2**52)}

CONSTANTS = {
    # exp rounds to 0 below the first and is infinite above the second.
    "exp_least": (-104.0, -746.0),
    "exp_most": (89.0, 710.0),
    # ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
    "ln2_high": (0.693145751953125, 0.6931471804855391),
    "ln2_low": (1.4286068203094173e-06, 7.440617110012397e-11),
    "log2_e": (1.4426950408889634, 1.4426950408889634),
    "round": (1.5 * 2**23, 1.5 * 2**52),
    "smallest_normal": (2.0**-126, 2.0**-1022),
    "mantissa_scale": (2.0**24, 2.0**53),
    "mantissa_bits": (24.0, 53.0),
    "infinity": (float("inf"), float("inf")),
    "nan": (float("nan"), float("nan")),
    "one": (1.0, 1.0),
    # tanh rounds to 1 when twice its argument is beyond this.
    "tanh_most": (20.0, 40.0),
    # e^(-x²/2) rounds to 0 beyond the first; the second, added to anything below that, rounds it to half the digits.
    "tail_most": (14.5, 38.7),
    "tail_round": (1.5 * 2**15, 1.5 * 2**32),
    "root_2": (1.4142135623730951, 1.4142135623730951),
}

# Minimax (Chebyshev) fits, lowest power first: e^r = 1 + r + r² q(r) for |r| <= ln(2)/2,
# log((1 + s)/(1 - s)) = 2 s + s³ R(s²) for |s| <= (√2 - 1)/(√2 + 1), and 2 s + 2 s³ R(s²) for 0 <= s <= 1/3,
# erf x = x + x q(x²) for |x| <= 1, and
# Φ(-a) e^(a²/2) = above(a) / below(a) for 0 <= a <= tail_most, fitted by least squares whose weights follow the error
# (C. L. Lawson's); all their coefficients are positive, so that nothing cancels.
POLYNOMIALS = {
    "exp": (
        (
            *(0.500000001353873, 0.16666666681704215, 0.04166646419740569, 0.008333310844647862),
            *(0.0013933730715792083, 0.00019891080463998843),
        ),
        (
            *(0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326084, 0.0013888888888883711),
            *(0.0001984126987500228, 2.480158732567746e-05, 2.755725517000089e-06, 2.755727347871858e-07),
            *(2.5105312729622103e-08, 2.09147553258932e-09),
        ),
    ),
    "log": (
        (0.6666666655404201, 0.4000012221181065, 0.28550778633191964, 0.23331614471843498),
        (
            *(0.666666666666667, 0.3999999999989889, 0.28571428626253836, 0.22222211089379496),
            *(0.1818289243253687, 0.15331611722055008, 0.14617807153417325),
        ),
    ),
    "log1p_of_share": (
        (0.3333333366026371, 0.1999985316596486, 0.14296178997151418, 0.10853287900440416, 0.11612164612011675),
        (
            *(0.3333333333333333, 0.19999999999999762, 0.1428571428580005, 0.11111111099118385, 0.09090909948981357),
            *(0.07692271982430275, 0.06667589315724628, 0.058671395306515985, 0.054225891974400075),
            *(0.03746071897775384, 0.07815288900461425),
        ),
    ),
    "erf": (
        (
            *(0.12837916584835095, -0.3761262766672033, 0.11283594715160218, -0.026854212010626412),
            *(0.005189087423433974, -0.000801686428716587, 7.875875062685488e-05),
        ),
        (
            *(0.12837916709551256, -0.3761263890318354, 0.11283791670945006, -0.02686617064323777),
            *(0.0052239776071164227, -0.0008548325975389692, 0.00012055294904839708, -1.492473690741966e-05),
            *(1.6447424703317362e-06, -1.6208483801871706e-07, 1.3720064546777686e-08, -7.795898827002142e-10),
        ),
    ),
    "tail_above": (
        (
            *(0.5000000029887273, 0.4382489655876735, 0.1832004703013081),
            *(0.04062136552918397, 0.004114503378278894),
        ),
        (
            *(0.5, 0.8277497564236607, 0.6793371496960829, 0.3571359753183483),
            *(0.13194416239632964, 0.03563323436253985, 0.007114475748728769, 0.001038250951051584),
            *(0.00010639539532205417, 6.9623338237133345e-06, 2.2366777953129724e-07),
        ),
    ),
    "tail_below": (
        (
            *(1.0, 1.6743829118560292, 1.202360437719057, 0.4693789713823927),
            *(0.10182912391278057, 0.010313410433390706),
        ),
        (
            *(1.0, 2.453384073650187, 2.816191573477282, 2.0005372108199895),
            *(0.9794960499064231, 0.34804052600102253, 0.09188687829051445, 0.01809891846400354),
            *(0.0026199611730966022, 0.00026725435818186364, 1.7451982819970247e-05, 5.606519802969503e-07),
        ),
    ),
}


def _place(dtype: Any) -> int:
    """Where a table keeps the entry of this dtype."""
    return 0 if dtype == types.float32 else 1


def _filled(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _whole(x: Any) -> Any:
    """The LLVM type of the bits of x as whole numbers."""
    bits = ir.IntType(x.dtype.bitwidth)
    return ir.VectorType(bits, x.lanes) if x.lanes else bits


@intrinsic(prefer_literal=True)
def constant(typing: Any, x: Any, name: Any) -> Any:
    """The named constant in every lane of a vector like x."""
    value = CONSTANTS[name.literal_value][_place(x.dtype)]

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _filled(args[0].type, value)

    return x(x, name), emit


@intrinsic(prefer_literal=True)
def polynomial(typing: Any, x: Any, name: Any) -> Any:
    """The named polynomial of x, by Horner's rule."""
    coefficients = POLYNOMIALS[name.literal_value][_place(x.dtype)]

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _filled(args[0].type, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = fma_ir(builder, x.dtype, value, args[0], _filled(args[0].type, coefficient))
        return value

    return x(x, name), emit


@intrinsic
def scale(typing: Any, x: Any, n: Any) -> Any:
    """x 2^n, rounded once, for integral n, x near 1, and a result that may run from 0 to infinity.

    2^n alone may not be representable, so it is applied as two factors; AVX-512 has an instruction for the whole.
    """
    bits, bias, magic = _FORMAT[x.dtype]
    whole = _whole(x)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, power = args
        if ISA.name == "avx512" and x.lanes:
            kind = {32: "ps", 64: "pd"}[x.dtype.bitwidth]
            every = ir.IntType(x.lanes)(2**x.lanes - 1)
            current_rounding = I32(4)
            name = f"llvm.x86.avx512.mask.scalef.{kind}.512"
            return call_ir(builder, name, value.type, [value, power, value, every, current_rounding])
        rounded = _filled(value.type, magic)
        k = builder.sub(builder.bitcast(builder.fadd(power, rounded), whole), builder.bitcast(rounded, whole))
        half = builder.ashr(k, _filled(whole, 1))
        for part in (half, builder.sub(k, half)):
            biased = builder.shl(builder.add(part, _filled(whole, bias)), _filled(whole, bits))
            value = builder.fmul(value, builder.bitcast(biased, value.type))
        return value

    return x(x, x), emit


@intrinsic
def exponent(typing: Any, x: Any) -> Any:
    """The n, as a float, for which x = m 2^n with m in [√½, √2), for normal positive x."""
    magic = _FORMAT[x.dtype][2]

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        k, _ = _split(builder, x, args[0])
        rounded = _filled(args[0].type, magic)
        shifted = builder.bitcast(builder.add(k, builder.bitcast(rounded, k.type)), args[0].type)
        return builder.fsub(shifted, rounded)

    return x(x), emit


@intrinsic
def mantissa(typing: Any, x: Any) -> Any:
    """The m in [√½, √2) for which x = m 2^n, for normal positive x."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _split(builder, x, args[0])[1]

    return x(x), emit


def _split(builder: Any, x: Any, value: Any) -> tuple[Any, Any]:
    """Exponent and mantissa: subtracting the bits of √½ makes the exponent field count from [√½, √2)."""
    bits = _FORMAT[x.dtype][0]
    whole = _whole(x)
    root = _filled(whole, (0x3F3504F3, 0x3FE6A09E667F3BCD)[_place(x.dtype)])
    offset = builder.sub(builder.bitcast(value, whole), root)
    fraction = builder.and_(offset, _filled(whole, 2**bits - 1))
    return builder.ashr(offset, _filled(whole, bits)), builder.bitcast(builder.add(fraction, root), value.type)
