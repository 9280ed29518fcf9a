"""Vectors of what may be known of a codebook tensor (section 13.3): tables of (name, description, file)."""
import math

from builder import (AFFINE, IGNORABLE, INF, NONFINITE, PWL, STATISTICS, File, Plane, raw_block, to_f16)
from describe import code_noise, codebook, counting, entropy, even_book, segments, statement


def only(*items):
    return File(list(items))


def with_planes(item, *planes):
    item.planes += planes
    return item


def stated(name, book, bits, planes, codes=None, **rest):
    """A codebook tensor with these planes behind the others."""
    codes = code_noise(40, bits, 9) if codes is None else codes
    item = codebook(name, [2, len(codes) // 2], bits, codes, book, **rest)
    item.planes += planes
    return item


# Bases 0.3 apart and steps that are no power of two: sums are not exact in f16. BENT[h] < BENT[h + 1] for 16 codes.
BENT = [to_f16(value) for h in range(16) for value in (h * 0.3 - 2.4, 0.3 / 17)]
STEEP = [-60000.0, 1000.0] + BENT[2:30] + [1000.0, 64000.0]
WIDE = [to_f16(value) for h in range(16) for value in (h * 16.0 - 128, 0.0613)]
SLOPE = [to_f16(-0.7), to_f16(0.011)]


def bent(name, bits, lines=None, **rest):
    lines = lines or BENT
    return stated(name, segments(lines, 1 << bits - 4), bits, [statement(PWL, "F16", lines)], **rest)


def sloped(name, bits, line=SLOPE, **rest):
    return stated(name, segments(line, 1 << bits), bits, [statement(AFFINE, "F16", line)], **rest)


def measured(name, bits=3, codes=None, outliers=None, more=(), shift=0.0, **rest):
    """A codebook tensor with statistics; the entropy is `shift` off."""
    codes = code_noise(40, bits, 4) if codes is None else codes
    count = float(sum(map(len, outliers[1]))) if outliers else 0.0
    values = [count, 0.25, (entropy(codes) if codes else 0.0) + shift, *more]
    return stated(name, even_book(bits), bits, [statement(STATISTICS, "F64", values)], codes, outliers=outliers, **rest)


def skewed(count, bits):
    """Codes of which the smaller ones are more frequent."""
    return [a & b for a, b in zip(code_noise(count, bits, 1), code_noise(count, bits, 2))]


GOOD_STATEMENTS = [
    ("pwl", "codebooks of 16 segments, of 2 to 256 codes each", File(
        [bent(f"w.{bits}", bits) for bits in (5, 6, 8)] + [bent("steep", 5, STEEP), bent("w.12", 12, WIDE)])),
    ("affine", "codebooks at equal steps; one of them is constant, one overflows to infinity", File(
        [sloped(f"w.{bits}", bits) for bits in (1, 3, 8, 11)]
        + [sloped("constant", 2, [0.5, 0.0]), sloped("zero", 2, [-0.0, 0.0]),
           sloped("subnormal", 4, [-8 * 2.0 ** -24, 2.0 ** -24]),
           sloped("wide", 16, [-65504.0, 65504.0], optional=NONFINITE)])),
    ("statistics", "statistics with and without outliers, of one code, of no codes, and with more entries", File(
        [measured("plain"), measured("replaced", outliers=("F16", [[(0, 4.0), (7, -4.0)], [(19, 3.0)]])),
         measured("one_code", codes=[5] * 20), measured("empty", codes=[]),
         measured("later", more=[INF, math.nan]), measured("wide", bits=11),
         measured("near", shift=9e-7), measured("near_below", shift=-9e-7)])),
    ("statistics_large", "blocks of over 4096 bytes, of every number of bits, in rows that are no whole bytes", File(
        [measured(f"w.{bits}", bits, skewed(2 * (17000 // bits + 3), bits), rows_per_block=2)
         for bits in (1, 2, 3, 4, 5, 8, 11)])),
    ("statements", "all of them in one tensor, in any order, twice, and among unknown planes", File([
        stated("w", segments(SLOPE, 32), 5, [
            statement(STATISTICS, "F64", [0.0, -1.2, entropy(code_noise(40, 5, 9))]),
            statement(AFFINE, "F16", SLOPE), Plane(IGNORABLE | 21, 0, 8, 1, 1, 0, 0, 0, blocks=[raw_block(b"?")]),
            statement(AFFINE, "F16", SLOPE),
            statement(PWL, "F16", [x for h in range(16) for x in (segments(SLOPE, 32)[2 * h],
                      segments(SLOPE, 32)[2 * h + 1] - segments(SLOPE, 32)[2 * h])])])])),
    ("statements_elsewhere", "planes of these roles in an exact tensor state nothing", File([
        with_planes(counting("t", "F16", [4, 3]), statement(PWL, "F16", [1.0] * 5)),
        with_planes(counting("u", "F16", [4, 3]), statement(STATISTICS, "F64", [math.nan]))])),
]


# ---- what is wrong ----

def pwl(values=None, bits=5, book=None, dtype="F16", **over):
    """A codebook tensor with a pwl plane."""
    book = segments(BENT, max(1, 1 << bits - 4)) if book is None else book
    return only(stated("q", book, bits, [statement(PWL, dtype, BENT if values is None else values, **over)]))


def pwl_entry(n, value):
    return pwl(BENT[:n] + [value] + BENT[n + 1:])


def affine(values, book, bits=2, book_dtype="F16", **over):
    return only(stated("q", book, bits, [statement(AFFINE, "F16", values, **over)], book_dtype=book_dtype))


def numbers(*values, dtype="F64", outliers=None, **over):
    """A codebook tensor of 40 codes with these statistics; None stands for the right entropy."""
    codes = code_noise(40, 3, 4)
    values = [entropy(codes) if value is None else value for value in values]
    return only(stated("q", even_book(3), 3, [statement(STATISTICS, dtype, values, **over)], codes, outliers=outliers))


OTHER_SLOPE = statement(AFFINE, "F16", [0.0, 1.0])
NO_STATISTICS = statement(STATISTICS, "F64", [1.0, 0.0, 0.0])
TWICE_ROUNDED = [to_f16(SLOPE[0] + to_f16(SLOPE[1] * c)) for c in range(64)]
BAD_STATEMENTS = [
    ("D3_pwl_book", "one entry of the codebook is not what pwl states", pwl(
        book=segments(BENT, 2)[:16] + [BENT[16] + 2.0 ** -9] + segments(BENT, 2)[17:])),
    ("D3_pwl_last_step", "the last step of pwl", pwl_entry(31, 0.25)),
    ("D3_pwl_first_base", "the first base of pwl", pwl_entry(0, -2.5)),
    ("D3_pwl_nan", "a step of pwl is NaN", pwl_entry(7, math.nan)),
    ("D3_pwl_infinite", "the last base of pwl is infinite, and so are its entries", only(stated(
        "q", segments(BENT[:30], 2) + [INF, INF], 5, [statement(PWL, "F16", BENT[:30] + [INF, 0.0])],
        optional=NONFINITE))),
    ("D3_pwl_4_bits", "pwl with codes of 4 bits, whose segments have one code", pwl(
        book=BENT[::2], bits=4)),
    ("D3_pwl_34", "pwl with 17 segments", pwl(BENT + [3.0, 0.0])),
    ("D3_pwl_30", "pwl with 15 segments", pwl(BENT[:30])),
    ("D3_pwl_dtype", "pwl of dtype BF16", pwl([0.0] * 32, book=[0.0] * 32, dtype="BF16")),
    ("D3_pwl_f32", "pwl of dtype F32", pwl(dtype="F32")),
    ("D3_pwl_bits", "pwl with entries of 32 bits", pwl(
        bits=5, over={"bits": 32, "row_entries": 16})),
    ("D3_pwl_scope", "pwl of scope 1, in a tensor of one row", only(with_planes(
        codebook("q", [1, 40], 5, code_noise(40, 5), segments(BENT, 2)), statement(PWL, "F16", BENT, scope=1)))),
    ("D3_pwl_layout", "pwl in a packed plane", pwl(layout=1)),
    ("D3_pwl_group", "pwl with a group", pwl(group=32)),
    ("D3_pwl_vector", "pwl with vector 2", pwl(vector=2)),
    ("D3_affine_book", "the last entry of the codebook is not what affine states",
     affine([0.0, 1.0], [0.0, 1.0, 2.0, 3.5])),
    ("D3_affine_rounded_twice", "products are rounded before they are added", affine(
        SLOPE, TWICE_ROUNDED, 6)),
    ("D3_affine_ties", "a sum half-way between two f16 is rounded to the odd one", affine(
        [1.0, 2.0 ** -11], [1.0, 1.0 + 2.0 ** -10, 1.0 + 2.0 ** -10, 1.0 + 2.0 ** -9])),
    ("D3_affine_negative_zero", "a codebook entry is -0 where the sum is 0", affine(
        [-0.0, 0.0], [-0.0] * 4)),
    ("D3_affine_f32", "affine, and an F32 codebook", affine(
        [0.0, 1.0], [0.0, 1.0, 2.0, 3.0], book_dtype="F32")),
    ("D3_affine_one", "affine with one entry", affine([0.0], [0.0] * 4)),
    ("D3_affine_three", "affine with three entries", affine([0.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0])),
    ("D3_affine_nan", "the step of affine is NaN", affine([0.0, math.nan], [0.0] * 4)),
    ("D3_second", "the second of two affine planes", only(with_planes(sloped("q", 5), OTHER_SLOPE))),
    ("D3_before_D4", "affine and then statistics are wrong", only(
        with_planes(sloped("q", 3), OTHER_SLOPE, NO_STATISTICS))),
    ("D4_before_D3", "statistics and then affine are wrong", only(
        with_planes(sloped("q", 3), NO_STATISTICS, OTHER_SLOPE))),
    ("D4_outliers", "an outlier too many", numbers(2.0, 0.0, None, outliers=("F32", [[(3, 1.0)], []]))),
    ("D4_outliers_none", "outliers without an outlier plane", numbers(1.0, 0.0, None)),
    ("D4_outliers_0", "no outliers, and there are two", numbers(
        0.0, 0.0, None, outliers=("F32", [[(3, 1.0)], [(0, 1.0)]]))),
    ("D4_entropy_above", "the entropy is 0.0000011 above the right one", only(measured("q", shift=1.1e-6))),
    ("D4_entropy_below", "the entropy is 0.0000011 below the right one", only(measured("q", shift=-1.1e-6))),
    ("D4_entropy_empty", "an entropy without codes", only(measured("q", codes=[], shift=1.0))),
    ("D4_entropy_nan", "the entropy is NaN", numbers(0.0, 0.0, math.nan)),
    ("D4_kurtosis_nan", "the kurtosis is NaN", numbers(0.0, math.nan, None)),
    ("D4_kurtosis_infinite", "the kurtosis is infinite", numbers(0.0, INF, None)),
    ("D4_entries_2", "two entries", numbers(0.0, 0.0)),
    ("D4_f32", "statistics of dtype F32", numbers(0.0, 0.0, 1.0, dtype="F32")),
    ("D4_layout", "statistics in a packed plane", numbers(0.0, 0.0, None, layout=1)),
    ("D4_group", "statistics with a group", numbers(0.0, 0.0, None, group=1)),
    ("D4_vector", "statistics with vector 0", numbers(0.0, 0.0, None, vector=0)),
]
