"""Vectors of what cdna.codebook has beyond codes of one element with scales (section 13.2): vectors, groups of 16, group
offsets, a matrix of low rank, column scales. Tables of (name, description, file)."""
import math
import struct

from builder import (COLUMN_SCALE, CUT, DTYPE_ID, FACTORS, GROUP_OFFSET, INF, LEFT, NONFINITE, RIGHT, TENSOR, File, Item,
                     Plane, raw_block, zstd_encoder)
from describe import (CODEBOOK_NAME, LowRank, Scales, code_noise, codebook, entropy, even_book, filled, float_plane,
                      noise, statement)

TABLE = [math.ldexp(1 + n / 256, n % 9 - 4) for n in range(256)]


def numbers(count, seed=0):
    """About even in -1 .. 1, with all bits of an f32."""
    words = struct.unpack(f"<{count}i", noise(4 * count, seed))
    return list(struct.unpack(f"<{count}f", struct.pack(f"<{count}f", *(word / 2 ** 31 for word in words))))


def table_of(rows, cols, seed=0):
    flat = numbers(rows * cols, seed)
    return [flat[row * cols:(row + 1) * cols] for row in range(rows)]


def low_rank(rows, cols, rank, seed=1):
    return LowRank(table_of(rows, rank, seed), numbers(rank, seed + 1), table_of(rank, cols, seed + 2))


def vectors(name, v, rows=3, cols=36, bits=3, **rest):
    """Codes for v elements, two rows in a block; the codebook does not ascend."""
    book = even_book(bits + v)[:v << bits][::-1]
    codes = code_noise(rows * cols // v, bits, v)
    return codebook(name, [rows, cols], bits, codes, book, **({"rows_per_block": 2, "scale_rows": 4, "vector": v} | rest))


def singles(name, rows=3, cols=37, bits=3, **rest):
    return codebook(name, [rows, cols], bits, code_noise(rows * cols, bits, len(name)), even_book(bits),
                    **({"rows_per_block": 2, "scale_rows": 4} | rest))


def grouped(name, group=16, dtype="F32", rows=3, cols=37, offsets=True, offset_dtype="F32", **rest):
    count = -(-cols // group)
    scales = [[1.5 + row - i / 8 for i in range(count)] for row in range(rows)]
    added = [[row / 4 - i for i in range(count)] for row in range(rows)] if offsets else None
    table = None
    if dtype == "U8":
        scales, table = [[(row * 50 + i * 7) % 256 for i in range(count)] for row in range(rows)], TABLE
    return singles(name, rows, cols, scales=Scales(group, dtype, scales, table, added, offset_dtype), **rest)


def combined(name="all", v=4, dtype="F32", rows=5, cols=84, **rest):
    scales = Scales(16, "F32", table_of(rows, -(-cols // 16), 5), None, table_of(rows, -(-cols // 16), 6))
    last = 2 * cols - 1
    pairs = [[(0, 1.5), (cols, -2.0), (last, 3.0)], [(1, 8.0)], [(cols - 1, -0.25)]]
    return vectors(name, v, rows, cols, row_scale=numbers(rows, 7), scales=scales, outliers=("F16", pairs),
                   low_rank=low_rank(rows, cols, 3), column_scale=numbers(cols, 9), dtype=dtype, **rest)


def example():
    return codebook("example", [1, 6], 1, [0, 1, 1], [0.0, 1.0, 2.0, -1.0], vector=2,
                    scales=Scales(16, "F32", [[2.0]], None, [[0.5]]), outliers=("F32", [[(3, 3.0)]]),
                    low_rank=LowRank([[3.0]], [0.5], [[1.0, 0.0, -1.0, 0.0, 2.0, 0.0]]),
                    column_scale=[1.0, 1.0, 2.0, 2.0, 1.0, 1.0])


def one_chain():
    """Sums that differ with another order, with rounded products, and with an offset that is fused."""
    tiny, near = 2.0 ** -30, 1 + 2.0 ** -12
    chain = LowRank([[1.0, 1.0, 1.0], [near, near, near], [2.0 ** -80, 2.0 ** -75, 1.0]], [1.0, near, -1.0],
                    [[1.0, near, 2.0 ** -60], [2.0 ** -24, near, 2.0 ** -74], [1.0, near, tiny]])
    book = [0.0, 1.0]
    sums = codebook("sums", [3, 3], 1, [0, 0, 1, 1, 0, 1, 0, 1, 0], book, low_rank=chain)
    offset = codebook("offset", [1, 2], 1, [0, 1], [-near, near], "F32", row_scale=[near],
                      scales=Scales(32, "F32", [[near]], None, [[-1.0]]))
    quotients = codebook("quotients", [1, 4], 2, [0, 1, 2, 3], [1.0, 5.0, 7.0, 2.0 ** 15],
                         column_scale=[3.0, 49.0, 2.0 ** 127, 2.0 ** -126])
    underflow = codebook("underflow", [1, 2], 1, [0, 0], [-0.0, 1.0],
                         low_rank=LowRank([[2.0 ** -100]], [1.0], [[-2.0 ** -100, 2.0 ** -100]]))
    return File([sums, offset, quotients, underflow])


def nonfinite():
    """Column scales that are 0 or infinite, NaN outliers to which something is added, infinite sums."""
    nan = (bytes.fromhex("0100807F"), bytes.fromhex("0100807F"))
    book = [-1.0, -0.0, 0.0, 1.0]
    divided = codebook("divided", [2, 6], 2, [0, 1, 2, 3, 0, 3] * 2, book, optional=NONFINITE,
                       column_scale=[0.0, 0.0, -0.0, -0.0, INF, -INF], outliers=("F32", [[(4, nan)], [(5, INF)]]))
    added = codebook("added", [2, 4], 2, [0, 1, 2, 3] * 2, book, optional=NONFINITE, outliers=("F32", [[(0, nan)], []]),
                     low_rank=LowRank([[1.0], [INF]], [2.0], [[1.0, INF, 0.0, -INF]]))
    offset = codebook("offset", [1, 32], 2, [0, 1, 2, 3] * 8, book, optional=NONFINITE,
                      scales=Scales(16, "F16", [[INF, 1.0]], None, [[INF, math.nan]]))
    return File([divided, added, offset])


def compressed(item, *planes):
    for n in planes:
        item.planes[n].layout = 1
        item.planes[n].blocks = [zstd_encoder(block.stored) for block in item.planes[n].blocks]
    return item


def cut_vectors():
    """A row of 2^20 + 64 codes for two elements, cut, with groups, offsets and column scales on both sides of the cut.
    What is all one byte takes little as zstd."""
    cols = 2 * (CUT + 64)
    word = struct.unpack("<f", bytes([0x3F] * 4))[0]
    half, = struct.unpack("<e", bytes([0x3C] * 2))
    scales, offsets = [half] * (cols // 128), [word] * (cols // 128)
    scales[-2:], offsets[-1] = [2.0, 4.0], -1.0
    divisors = [word] * (cols - 3) + [1.0, 2.0, -4.0]
    ends = [(0, 4.0), (2 * CUT - 1, 5.0)]
    item = codebook("cut", [1, cols], 1, [1, 0, 0, 1, 0, 1, 1, 0] * (cols // 16), [-1.0, 0.5, 1.0, 2.0], vector=2,
                    rows_per_block=0, encode=[zstd_encoder, raw_block], outliers=("F16", [ends, [(0, 6.0), (127, 7.0)]]),
                    scales=Scales(128, "F16", [scales], None, [offsets]), column_scale=divisors)
    item.planes[-1] = float_plane(COLUMN_SCALE, "F32", cols, 1, divisors, scope=0, rows_per_block=0, encode=zstd_encoder)
    return File([compressed(item, 2, 4)])


def measured_vectors(shift=0.0):
    """Statistics count codes, and outliers as elements."""
    item = vectors("w", 2, outliers=("F32", [[(7, 1.0)], [(35, 2.0)]]))
    found = entropy(code_noise(3 * 36 // 2, 3, 2)) + shift
    item.planes.append(statement(0x8014, "F64", [2.0, 0.5, found]))
    return item


def unknown_vector(v, n):
    item = vectors(f"w.{v}.{n}", 2)
    item.planes[n].vector = v
    item.status, item.decoded_sha256 = "U6", None
    return item


GOOD_EXTENSIONS = [
    ("codebook_vectors", "codes for 2 and 4 elements, with outliers that count elements", File(
        [vectors(f"v{v}.{bits}", v, bits=bits, outliers=("F32", [[(0, 1.0), (71, 2.0)], [(35, 3.0)]]))
         for v in (2, 4) for bits in (1, 3, 8)] + [vectors("scaled", 4, row_scale=numbers(3))])),
    ("codebook_vectors_f32", "a codebook of vectors that descends, of F32 entries", File(
        [codebook("w", [2, 8], 2, [3, 2, 1, 0], [1.1, 0.1] + numbers(14), "F32", vector=4)])),
    ("codebook_extensions_example", "the second example of section 13.2", File([example()])),
    ("codebook_group_16", "groups of 16 with a short last one", File(
        [grouped(f"g.{dtype}", 16, dtype, offsets=False) for dtype in ("F32", "F16", "BF16", "U8")])),
    ("codebook_group_offset", "group offsets of each dtype, with and without row scales, under outliers", File(
        [grouped(f"o.{dtype}", group, scale, offset_dtype=dtype) for dtype, scale, group in (
            ("F32", "F32", 16), ("F16", "U8", 32), ("BF16", "F16", 64))]
        + [grouped("rows", 32, "BF16", row_scale=numbers(3), outliers=("F64", [[(36, 0.1)], []]))])),
    ("codebook_low_rank", "matrices of rank 1, 3 and 1024", File(
        [singles("one", low_rank=low_rank(3, 37, 1)),
         singles("three", row_scale=numbers(3), low_rank=low_rank(3, 37, 3), outliers=("F32", [[(0, 9.0)], [(36, 8.0)]])),
         singles("most", 1, 2, low_rank=low_rank(1, 2, 1024))])),
    ("codebook_column_scale", "quotients, rounded once", File(
        [singles("w", column_scale=numbers(37, 3), outliers=("BF16", [[(3, 1.5)], []]))])),
    ("codebook_extensions", "everything together, of each dtype", File(
        [combined(f"all.{dtype}", dtype=dtype) for dtype in ("F16", "BF16", "F32", "F64")] + [combined("two", 2)])),
    ("codebook_extensions_rounding", "one fused chain, an offset that is not, quotients, signs of zeros",
     one_chain()),
    ("codebook_extensions_nonfinite", "NONFINITE: column scales of 0, infinite factors, NaN outliers", nonfinite()),
    ("codebook_extensions_empty", "no rows and no columns", File([
        codebook("no_rows", [0, 8], 3, [], even_book(4), vector=2, row_scale=[], outliers=("F32", []),
                 scales=Scales(16, "F16", [], None, []), low_rank=LowRank([], [1.0], [numbers(8)]),
                 column_scale=numbers(8)),
        codebook("no_columns", [5, 0], 3, [], even_book(5), vector=4, outliers=("F32", []),
                 scales=Scales(16, "F16", [[]] * 5, None, [[]] * 5), low_rank=LowRank([[1.0]] * 5, [1.0], [[]]),
                 column_scale=[])])),
    ("codebook_vectors_statistics", "statistics of codes for two elements", File([measured_vectors()])),
    ("cut_vectors", "codes for two elements in a cut row, with all that goes with columns", cut_vectors()),
    ("unknown_vector_codes", "vectors of 3, 0 and 8 elements, and a codebook plane of vector 2", File(
        [unknown_vector(v, n) for v, n in ((3, 0), (0, 0), (8, 0), (2, 1))])),
]


# ---- What is broken ----

def only(item):
    return File([item])


def replaced_plane(item, role, plane):
    """The plane of that role; without one, `plane` is added at the end; None removes it."""
    item.planes = [plane if old.role == role else old for old in item.planes]
    if plane is not None and plane not in item.planes:
        item.planes.append(plane)
    item.planes = [old for old in item.planes if old is not None]
    return only(item)


def swapped(item, first, second):
    places = [[plane.role for plane in item.planes].index(role) for role in (first, second)]
    a, b = places
    item.planes[a], item.planes[b] = item.planes[b], item.planes[a]
    return only(item)


def floats(role, count, dtype="F32", rows=1, scope=0, **rest):
    return float_plane(role, dtype, count, rows, [1.0] * (count * rows), scope=scope, **rest)


def odd_columns():
    item = codebook("q", [2, 5], 3, code_noise(10, 3), even_book(3))
    item.planes[0] = filled(2, 0, 3, 2, 2, bytes(2), vector=2)
    item.planes[1] = floats(3, 16, "F16")
    return only(item)


def whole_entries():
    item = vectors("q", 2)
    item.planes[0] = filled(2, 0, 3, 36, 3, bytes(42), 2, vector=2)
    return only(item)


def rank_0():
    item = singles("q")
    item.planes += [filled(LEFT, 12, 32, 0, 3, b"", 4), floats(FACTORS, 0), floats(RIGHT, 0)]
    return only(item)


def cut_left():
    item = singles("q", low_rank=low_rank(3, 37, 2))
    return replaced_plane(item, LEFT, floats(LEFT, 2, rows=3, scope=1, rows_per_block=0))


def zeros(role, count):
    """A plane of scope 0 of F32 zeros that is cut, in frames of a few bytes."""
    whole, left = zstd_encoder(bytes(4 * CUT)), count % CUT
    blocks = [whole] * (count // CUT) + [zstd_encoder(bytes(4 * left))] * (left > 0)
    return Plane(role, DTYPE_ID["F32"], 32, count, 0, 0, blocks=blocks)


def huge(cols, *planes):
    """One row of codes of 1 bit, all zero."""
    codes = filled(2, 0, 1, cols, 1, bytes(cols // 8), encode=zstd_encoder)
    book = floats(3, 2, "F16")
    return only(Item(b"q", TENSOR, [1, cols], [codes, book, *planes], 1, DTYPE_ID["F32"], CODEBOOK_NAME))


def outlier_at(position):
    item = vectors("q", 2, 1, 8, outliers=("F32", [[]]))
    item.planes[2].blocks[0] = raw_block(bytes(4) + struct.pack("<I", position))
    return only(item)


def one_of(values, at, value):
    return values[:at] + [value] + values[at + 1:]


def bad_low_rank(**parts):
    sides = {"left": table_of(3, 2), "factors": numbers(2), "right": table_of(2, 37)} | parts
    return only(singles("q", low_rank=LowRank(**sides)))


OFFSETS = [[0.5] * 3] * 3

BAD_EXTENSIONS = [
    ("E2_vector_columns", "codes for 2 elements and 5 columns", odd_columns()),
    ("E2_vector_entries", "a code for each of the elements that a code for two stands for", whole_entries()),
    ("E2_vector_codebook", "a codebook of 2^b entries for codes of vectors", replaced_plane(
        vectors("q", 2), 3, floats(3, 8, "F16"))),
    ("E2_vector_codebook_4", "a codebook of vectors of 4 for codes of vectors of 2", replaced_plane(
        vectors("q", 2), 3, floats(3, 32, "F16"))),
    ("E2_group_8", "groups of 8", only(grouped("q", 8, offsets=False))),
    ("E2_offset_alone", "group offsets without group scales", replaced_plane(
        singles("q"), GROUP_OFFSET, floats(GROUP_OFFSET, 3, rows=3, scope=1, rows_per_block=4, group=16))),
    ("E2_offset_entries", "two group offsets for three groups", replaced_plane(
        grouped("q"), GROUP_OFFSET, floats(GROUP_OFFSET, 2, rows=3, scope=1, rows_per_block=4, group=16))),
    ("E2_offset_group", "offsets of groups of 32, scales of groups of 16", replaced_plane(
        grouped("q"), GROUP_OFFSET, floats(GROUP_OFFSET, 2, rows=3, scope=1, rows_per_block=4, group=32))),
    ("E2_offset_u8", "group offsets of U8", replaced_plane(
        grouped("q"), GROUP_OFFSET, filled(GROUP_OFFSET, 2, 8, 3, 3, bytes(9), 4, group=16))),
    ("E2_offset_order", "group offsets before the outliers", swapped(
        grouped("q", outliers=("F32", [[], []])), 7, GROUP_OFFSET)),
    ("E2_rank_0", "a matrix of rank 0", rank_0()),
    ("E2_no_left", "factors and right without left", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), LEFT, None)),
    ("E2_no_factors", "left and right without factors", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), FACTORS, None)),
    ("E2_no_right", "left and factors without right", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), RIGHT, None)),
    ("E2_factors_entries", "three factors for rank 2", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), FACTORS, floats(FACTORS, 3))),
    ("E2_right_entries", "a right side of one column less", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), RIGHT, floats(RIGHT, 72))),
    ("E2_right_rows", "a right side of one row per row of the tensor", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), RIGHT, floats(RIGHT, 74, rows=3, scope=1, rows_per_block=4))),
    ("E2_left_f16", "a left side of F16", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), LEFT, floats(LEFT, 2, "F16", 3, 1, rows_per_block=4))),
    ("E2_left_scope", "a left side of scope 0", replaced_plane(
        singles("q", low_rank=low_rank(3, 37, 2)), LEFT, floats(LEFT, 2))),
    ("E2_left_cut", "a left side whose rows are cut", cut_left()),
    ("E2_low_rank_order", "right before factors", swapped(
        singles("q", low_rank=low_rank(3, 37, 2)), FACTORS, RIGHT)),
    ("E2_column_scale_entries", "a column scale for one column less", replaced_plane(
        singles("q"), COLUMN_SCALE, floats(COLUMN_SCALE, 36))),
    ("E2_column_scale_f16", "column scales of F16", replaced_plane(
        singles("q"), COLUMN_SCALE, floats(COLUMN_SCALE, 37, "F16"))),
    ("E2_column_scale_scope", "column scales of scope 1", replaced_plane(
        singles("q"), COLUMN_SCALE, floats(COLUMN_SCALE, 37, rows=3, scope=1, rows_per_block=4))),
    ("E2_column_scale_order", "column scales before the matrix of low rank", swapped(
        singles("q", low_rank=low_rank(3, 37, 2), column_scale=numbers(37)), COLUMN_SCALE, LEFT)),
    ("E3_vector_nan", "an entry of a codebook of vectors is NaN", only(
        codebook("q", [1, 8], 1, [0, 1, 0, 1], [1.0, 0.5, math.nan, 0.25], vector=2))),
    ("E6_vector_outside", "position 8 of 4 codes for 2 elements", outlier_at(8)),
    ("E7_rank_1025", "a matrix of rank 1025", only(singles("q", 1, 2, low_rank=low_rank(1, 2, 1025)))),
    ("E7_right", "a right side of 2^26 + 2^17 entries", huge(
        1 << 17, floats(LEFT, 513, scope=1), floats(FACTORS, 513), zeros(RIGHT, 513 << 17))),
    ("E7_column_scale", "2^26 + 64 column scales", huge((1 << 26) + 64, zeros(COLUMN_SCALE, (1 << 26) + 64))),
    ("D1_vector", "an infinite entry of a codebook of vectors", only(
        codebook("q", [1, 8], 1, [0, 0, 0, 0], [1.0, 0.5, INF, 0.25], vector=2))),
    ("D1_offset", "an infinite group offset", only(singles("q", scales=Scales(
        16, "F32", OFFSETS, None, OFFSETS[:2] + [[0.5, 0.5, -INF]])))),
    ("D1_offset_f16", "a group offset that is NaN", only(singles("q", scales=Scales(
        16, "F32", OFFSETS, None, [[math.nan, 0.5, 0.5]] + OFFSETS[1:], "F16")))),
    ("D1_left", "an infinite entry of the left side", bad_low_rank(left=[[1.0, INF], [0.0, 1.0], [1.0, 1.0]])),
    ("D1_factors", "a factor that is NaN", bad_low_rank(factors=[1.0, math.nan])),
    ("D1_right", "an infinite entry of the right side", bad_low_rank(
        right=[numbers(37), one_of(numbers(37), 36, -INF)])),
    ("D1_column_scale", "an infinite column scale", only(singles("q", column_scale=one_of(numbers(37), 36, INF)))),
    ("D1_column_scale_nan", "a column scale that is NaN", only(
        singles("q", column_scale=one_of(numbers(37), 0, math.nan)))),
    ("D1_column_scale_0", "a column scale of 0", only(singles("q", column_scale=one_of(numbers(37), 5, 0.0)))),
    ("D1_column_scale_minus_0", "a column scale of -0", only(
        singles("q", column_scale=one_of(numbers(37), 5, -0.0)))),
    ("D3_affine_vectors", "an affine plane beside codes for two elements", replaced_plane(
        codebook("q", [1, 8], 1, [0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0], vector=2), 0x8013,
        statement(0x8013, "F16", [0.0, 1.0]))),
    ("D4_entropy_vectors", "another entropy of codes for two elements", only(measured_vectors(1e-4))),
]
