"""The good vectors: a table of (name, description, file)."""
import math
import struct

from builder import (BROTLI, CUT, DTYPE_BITS, DTYPES, IGNORABLE, INF, NONFINITE, ZSTD, Block, File, Item, Plane,
                     byte_plane_encoder, raw_block, zstd_block, zstd_blocks, zstd_encoder, zstd_header)
from describe import (Scales, alias, asset, code_noise, codebook, counting, even_book, exact, float_plane,
                      metadata, noise, statement)
from extension_cases import GOOD_EXTENSIONS
from payloads import (BROTLI_128K_17, BROTLI_LETTERS_10, BROTLI_LETTERS_16, BROTLI_TEXT, LETTERS, TEXT,
                      ZSTD_TEXT)
from statement_cases import GOOD_STATEMENTS

SMALL_BOOK = [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]


def stored_as(stored, codec):
    """An encoder that answers with ready-made bytes."""
    return lambda data: Block(stored, len(data), codec)


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)


def hex_words(text, size):
    """Little-endian words from big-endian hex numbers."""
    return b"".join(bytes.fromhex(word)[::-1].ljust(size, b"\0") for word in text.split())


# ---- dtypes ----

SPECIALS = {
    "F16": hex_words("0000 8000 0001 8001 03FF 0400 3C00 7BFF 7C00 FC00 7E00 7C01 FE55 FFFF", 2),
    "F32": hex_words("00000000 80000000 00000001 80000001 007FFFFF 00800000 7F7FFFFF 7F800000 FF800000 "
                     "7FC00000 7F800001 FFC12345", 4),
    "F64": hex_words("0000000000000000 8000000000000000 0000000000000001 000FFFFFFFFFFFFF 0010000000000000 "
                     "7FEFFFFFFFFFFFFF 7FF0000000000000 FFF0000000000000 7FF8000000000000 7FF0000000000001 "
                     "FFF8000012345678", 8),
    "C64": hex_words("3F800000 80000000 7FC00001 FF800000 00000001 7F800000", 4),
    "BF16": struct.pack("<65536H", *range(65536)),
    "BOOL": bytes([0, 1, 1, 0, 1]),
    "I64": hex_words("8000000000000000 7FFFFFFFFFFFFFFF FFFFFFFFFFFFFFFF 0000000000000000", 8),
    "U64": hex_words("8000000000000000 FFFFFFFFFFFFFFFF 0000000000000001", 8),
}


def dtype_file(dtype, bits):
    if dtype in SPECIALS:
        data = SPECIALS[dtype]
        item = exact("all." + dtype, dtype, [len(data) * 8 // bits], data, rows_per_block=4096)
        return File([item])
    if dtype.startswith("F8"):
        return File([exact("codes", dtype, [16, 16], bytes(range(256)), rows_per_block=16)])
    if bits < 8:
        odd = [counting(f"odd.{n}", dtype, [n], seed=n, row_dims=0) for n in (1, 3, 5, 7, 13)]
        rows = [counting("rows", dtype, [3, 8], row_dims=1), counting("plane", dtype, [3, 5], row_dims=0)]
        return File(odd + rows)
    return File([counting("numbers", dtype, [7, 3], seed=bits)])


DTYPE_CASES = [(f"dtype_{dtype}", f"exact tensors of dtype {dtype}", dtype_file(dtype, bits))
               for dtype, bits in DTYPES[1:]]


# ---- shapes, names, blocks ----

def zero_shapes():
    shapes = [[0], [0, 5], [5, 0], [1 << 30, 1 << 29, 0], [0, 1 << 59]]
    items = [exact(f"rows.{n}", "F32", dims, b"", row_dims=1, rows_per_block=0)
             for n, dims in enumerate(shapes)]
    items += [exact(f"one_row.{n}", "BF16", dims, b"", row_dims=0) for n, dims in enumerate(shapes)]
    items.append(exact("all_rows", "F4", [0, 3], b"", row_dims=1))
    return items + [asset("empty", b"")]


def zero_codebooks():
    no_rows = codebook("no_rows", [0, 5], 3, [], SMALL_BOOK, row_scale=[], outliers=("F32", []))
    no_columns = codebook("no_columns", [5, 0], 3, [], SMALL_BOOK, row_scale=[1.0] * 5,
                          scales=Scales(32, "F16", [[]] * 5), outliers=("F32", []))
    return [no_rows, no_columns]


def names_file():
    items = [counting(name, "U8", [n + 1], seed=n) for n, name in enumerate(
        ["a.b", "a_b", "x", "é", "权重.0", "weights 🧬", "a/b", "..", "\u00A0", "a.b.c", "A.b", " "])]
    return File(items + [asset("x", b"an asset named like a tensor"), asset("a.b", b"another")])


def blocks_file(name, encode, decoded=LETTERS * 3, rows=3, rows_per_block=1):
    cols = len(decoded) // rows
    return File([exact(name, "U8", [rows, cols], decoded, rows_per_block=rows_per_block, encode=encode)])


def zstd_window_frame(data):
    """Not a single segment: a window of 1 KiB, blocks of at most 1 KiB."""
    return Block(zstd_header(len(data), window=0) + zstd_blocks(data, 1024), len(data), ZSTD)


def zstd_size_code(code):
    """The content size in a field of 2^code bytes (code 1: sizes from 256)."""
    return lambda data: Block(zstd_header(len(data), code) + zstd_blocks(data), len(data), ZSTD)


def zstd_empty_last_block(data):
    """Every block but the last is marked as not last; an empty raw block ends the frame."""
    body = zstd_block(1, len(data), data[:1], False) + zstd_block(0, 0, b"", True)
    return Block(zstd_header(len(data)) + body, len(data), ZSTD)


def mixed_blocks():
    encoders = [raw_block, zstd_encoder, stored_as(BROTLI_LETTERS_16, BROTLI), raw_block,
                stored_as(BROTLI_LETTERS_10, BROTLI)]
    return File([exact("mixed", "U8", [8, 200], LETTERS * 8, encode=encoders), asset("tail", b"after")])


def cut_exact():
    row = bytes([7]) * CUT + b"\1\2\3\4\5"
    return File([exact("long", "U8", [2, len(row)], row * 2, rows_per_block=0,
                       encode=[zstd_encoder, raw_block])])


def cut_codes():
    """Rows of 2^20 + 100 codes of 1 bit, cut; outliers count from the start of each block."""
    cols = CUT + 100
    codes = [1, 0, 0, 1, 0, 1, 1, 0] * (cols // 8 + 1)
    codes = codes[:cols] * 2
    ends = [(0, 4.0), (CUT - 1, 5.0)]
    tail = [(0, 6.0), (99, 7.0)]
    return File([codebook("cut", [2, cols], 1, codes, [-1.0, 1.0], rows_per_block=0,
                          encode=[zstd_encoder, raw_block], outliers=("F16", [ends, tail, [], tail]))])


def cut_wide_codes():
    codes = [7] * CUT + [0, 1, 2, 3, 4]
    return File([codebook("cut3", [len(codes)], 3, codes, SMALL_BOOK, row_dims=0, rows_per_block=0,
                          encode=[zstd_encoder, raw_block])])


SHAPE_CASES = [
    ("minimal", "no items: the smallest file", File()),
    ("scalar", "one tensor of rank 0", File([exact("pi", "F32", [], f32(math.pi))])),
    ("zero_sizes", "shapes with a zero in them, and an empty asset", File(zero_shapes())),
    ("zero_codebooks", "codebook tensors without rows, without columns", File(zero_codebooks())),
    ("rank_8", "rank 8, three different matrix views", File(
        [counting(f"rank8.{n}", "I16", [1, 2, 1, 3, 2, 1, 2, 1], seed=n, row_dims=n) for n in (0, 4, 8)])),
    ("many_items", "forty tensors", File([counting(f"t.{n}", "U8", [n % 7 + 1], seed=n) for n in range(40)])),
    ("item_roles", "known and unknown item roles", File(
        [counting(f"role.{n}", "U8", [2], role=n) for n in (0, 1, 7, 8, 0x7FFF, 0xFFFF)])),
    ("unknown_source_digest", "a zero source digest means unknown", File(
        [counting("t", "U8", [5], over={"source_digest": bytes(32)})])),
    ("names", "short, long, non-ASCII and look-alike names; an asset named like a tensor", names_file()),
    ("name_1_byte", "a name of one byte", File([counting("w", "U8", [1])])),
    ("name_1024_bytes", "names of 1024 bytes", File(
        [counting("n" * 1024, "U8", [1]), counting("é" * 512, "U8", [1])])),
    ("type_255_bytes", "media types of 255 and of no bytes", File(
        [asset("long", b"x", b"t" * 255), asset("none", b"y", b"")])),
    ("blocks_one_row", "a raw contiguous plane, one row per block", blocks_file("t", None)),
    ("blocks_short_last", "the last block has fewer rows", blocks_file("t", None, rows=5, rows_per_block=2)),
    ("blocks_single", "one block, rows_per_block above the number of rows",
     blocks_file("t", None, rows_per_block=64)),
    ("blocks_many", "2,000 blocks of one byte", blocks_file("t", None, noise(2000), 2000)),
    ("blocks_packed_raw", "a packed plane of raw blocks with gaps between them", blocks_file("t", raw_block)),
    ("blocks_zstd", "zstd frames of RLE and raw blocks",
     blocks_file("t", zstd_encoder, b"abcd" + LETTERS + b"e", 1)),
    ("blocks_zstd_mixed", "zstd frames with several blocks each",
     blocks_file("t", zstd_encoder, (b"start" + bytes(90) + b"middle" + b"\xFF" * 90 + b"end") * 3)),
    ("blocks_zstd_compressed", "a zstd frame with entropy coding",
     blocks_file("t", stored_as(ZSTD_TEXT, ZSTD), TEXT, 1)),
    ("blocks_zstd_window", "a zstd frame with a window descriptor: 1 KiB, the least",
     blocks_file("t", zstd_window_frame, bytes(5000) + b"xyz", 1)),
    ("blocks_zstd_window_small", "a window of 1 KiB around a block of 600 bytes",
     blocks_file("t", zstd_window_frame, LETTERS * 3, 1)),
    ("blocks_zstd_size_fields", "content sizes in 2, 4 and 8 bytes",
     blocks_file("t", [zstd_size_code(code) for code in (1, 2, 3)], LETTERS * 6)),
    ("blocks_zstd_empty_last", "a zstd frame whose last block is empty",
     blocks_file("t", zstd_empty_last_block)),
    ("blocks_brotli", "brotli with a window of 2^16", blocks_file("t", stored_as(BROTLI_LETTERS_16, BROTLI))),
    ("blocks_brotli_text", "a brotli stream with real content",
     blocks_file("t", stored_as(BROTLI_TEXT, BROTLI),
                                                                            TEXT, 1)),
    ("blocks_brotli_window_17", "WBITS 17 for a block of 2^17 bytes",
     blocks_file("t", stored_as(BROTLI_128K_17, BROTLI), b"A" * 131072, 1)),
    ("blocks_mixed", "raw, zstd and brotli blocks in one plane", mixed_blocks()),
    ("blocks_largest", "one block of 2^24 bytes", blocks_file("t", zstd_encoder, bytes(1 << 24), 1)),
    ("cut_rows", "rows longer than 2^20 entries, cut", cut_exact()),
    ("cut_codes", "1-bit codes in cut rows, with outliers", cut_codes()),
    ("cut_codes_3_bits", "3-bit codes in a cut row, row_dims 0", cut_wide_codes()),
]


# ---- codebooks ----

def codebook_bits(bits):
    cols = 37
    count = 3 * cols
    book = even_book(bits) if bits < 16 else all_halves()
    return File([codebook("w", [3, cols], bits, code_noise(count, bits, bits), book,
                          "F16" if bits < 12 or bits == 16 else "F32", rows_per_block=2)])


def all_halves():
    """65,536 ascending F16 values: all finite ones, the largest repeated."""
    finite = range(0x7C00)
    patterns = [0x8000 | n for n in reversed(finite)] + list(finite)
    patterns += [0x7BFF] * (65536 - len(patterns))
    return list(struct.unpack("<65536e", struct.pack("<65536H", *patterns)))


def scaled(name, row_scale=None, scales=None, cols=70, **rest):
    codes = code_noise(2 * cols, 3, len(name))
    return codebook(name, [2, cols], 3, codes, SMALL_BOOK, row_scale=row_scale, scales=scales, **rest)


def group_file(size):
    count = -(-150 // size)
    values = [[0.5 + r + i / 8 for i in range(count)] for r in range(2)]
    return File([scaled(f"g{size}", None, Scales(size, "F32", values), cols=150)])


TABLE = [math.ldexp(1 + n / 256, n % 9 - 4) for n in range(256)]
RATIOS = list(struct.unpack("<2f", f32(1 / 3, 0.1)))


def replaced(name, pairs, outlier_dtype="F32", rows_per_block=1, **rest):
    """2 x 10 codes; one list of outliers per block."""
    return codebook(name, [2, 10], 3, code_noise(20, 3, 5), SMALL_BOOK, row_scale=[2.0, 0.5],
                    rows_per_block=rows_per_block, outliers=(outlier_dtype, pairs), **rest)


def nonfinite_file():
    book = [-INF, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, INF]
    nans = [("F16", "017E", "0020C07F"), ("F16", "01FD", "0020A0FF"), ("BF16", "C1FF", "0000C1FF"),
            ("BF16", "817F", "0000817F"), ("F32", "4523C1FF", "4523C1FF"), ("F32", "0100807F", "0100807F"),
            ("F64", "010000000000F07F", "0000C07F"), ("F64", "0000002000F0FFFF", "0180FFFF")]
    items = []
    for number, (dtype, *pair) in enumerate(nans):
        value = tuple(map(bytes.fromhex, pair))
        items.append(codebook(f"nan.{number}", [2, 8], 3, list(range(8)) * 2, book, row_scale=[0.0, INF],
                              outliers=(dtype, [[(2, INF), (5, value)], [(0, -INF)]]), optional=NONFINITE))
    return File(items)


def rounding_file():
    """The order of the two roundings, subnormal results, overflow, signed zeros."""
    tiny, huge = 2.0 ** -140, 2.0 ** 127
    twice = scaled("rounded_twice", RATIOS, Scales(32, "F32", [[RATIOS[0], RATIOS[1], 1.0]] * 2))
    under = scaled("subnormal", [tiny, -tiny])
    over = codebook("overflow", [2, 4], 2, [0, 1, 2, 3] * 2,
                    [-huge, -1.0, 1.0, huge], "F32", row_scale=[4.0, 1.0])
    zeros = codebook("zeros", [2, 2], 1, [0, 1, 1, 0], [-0.0, 0.0], row_scale=[-1.0, 1.0])
    nothing = scaled("product_underflow", [2.0 ** -100, 1.0],
                     Scales(64, "F32", [[2.0 ** -100, 2.0 ** 100]] * 2))
    wide = replaced("wide_outliers", [[(0, 1e300), (1, 1 + 2.0 ** -24),
                    (2, 1 + 3 * 2.0 ** -24), (3, 1e-320)], []], "F64", dtype="F64")
    return File([twice, under, over, zeros, nothing, wide])


def worked_example():
    codes = [0, 1, 3, 5, 7, 6, 4, 2, 3, 0]
    book = [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.0]
    return File([codebook("example", [2, 5], 3, codes, book, "F32", rows_per_block=2, row_scale=[2.0, 0.5],
                          outliers=("F32", [[(7, 9.0)]]))])


CODEBOOK_CASES = [(f"codebook_{bits}_bits", f"codes of {bits} bits", codebook_bits(bits))
                  for bits in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16)]
CODEBOOK_CASES += [(f"codebook_group_{size}", f"groups of {size} with a short last one", group_file(size))
                   for size in (32, 64, 128)]
CODEBOOK_CASES += [
    ("codebook_worked_example", "the example of section 13.2", worked_example()),
    ("codebook_item_dtypes", "every dtype that a codebook tensor may have", File(
        [scaled("dtype." + dtype, [1.5, 3.0], dtype=dtype) for dtype in ("F16", "BF16", "F32", "F64")])),
    ("codebook_row_dims", "the rows are the first two dims; one row", File(
        [codebook("two", [2, 3, 5], 4, code_noise(30, 4), even_book(4), row_dims=2,
                  row_scale=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
         codebook("one", [2, 3, 5], 4, code_noise(30, 4), even_book(4), row_dims=0, row_scale=[0.25]),
         codebook("scalar", [], 4, [9], even_book(4), row_dims=0)])),
    ("codebook_row_scale", "row scales in blocks of a multiple of the rows of a code block", File(
        [scaled("w", [3.0, -0.125]), codebook("x", [5, 3], 3, code_noise(15, 3), SMALL_BOOK, rows_per_block=2,
                                              scale_rows=4, row_scale=[1.0, 2.0, 4.0, 8.0, 16.0])])),
    ("codebook_group_f16", "F16 group scales with row scales", File(
        [scaled("w", RATIOS, Scales(32, "F16", [[1.0, 0.5, 0.333251953125], [2.0, 2.0 ** -24, -4.0]]))])),
    ("codebook_group_bf16", "BF16 group scales", File(
        [scaled("w", None, Scales(64, "BF16", [[1.0, 0.5], [2.0 ** 100, -2.0 ** -130]]))])),
    ("codebook_group_u8", "U8 group scales through a table, with and without row scales", File(
        [scaled("w", None, Scales(32, "U8", [[0, 128, 255], [7, 8, 9]], TABLE)),
         scaled("rows", RATIOS, Scales(32, "U8", [[1, 2, 3], [4, 5, 6]], TABLE))])),
    ("codebook_rounding", "order of roundings, subnormals, overflow, signed zeros", rounding_file()),
    ("codebook_nonfinite", "NONFINITE: infinities and NaNs in codebook, scales, outliers", nonfinite_file()),
    ("codebook_compressed", "codes in zstd blocks, the other planes raw", File(
        [codebook("w", [3, 200], 4, [6] * 600, even_book(4), encode=zstd_encoder,
                  row_scale=[1.0, 2.0, 3.0])])),
    ("outliers_none", "an outlier plane whose blocks are all empty", File([replaced("w", [[], []])])),
    ("outliers_first", "an outlier at the first position",
     File([replaced("w", [[(0, 77.0)], [(0, -77.0)]])])),
    ("outliers_last", "an outlier at the last position", File([replaced("w", [[(9, 77.0)], [(9, -77.0)]])])),
    ("outliers_every", "every position is an outlier", File(
        [replaced("w", [[(n, 10.0 + n) for n in range(20)]], rows_per_block=2)])),
    ("outliers_last_block_empty", "an empty block ends an outlier plane: its length is a multiple of 64",
     File([replaced("w", [[(3, 1.0)], []]), replaced("x", [[], [(3, 1.0)]])])),
]
CODEBOOK_CASES += [(f"outliers_{dtype}", f"outliers of dtype {dtype}",
                    File([replaced("w", [[(1, 1.5), (8, -0.0)], [(4, 96.0)]], dtype)]))
                   for dtype in ("F16", "BF16", "F32", "F64")]


# ---- the file around the tensors ----

def aligned_file(align_log2, size):
    tensors = [counting("small", "U8", [100]),
               exact("large", "U8", [2, size // 2], bytes(size), encode=zstd_encoder),
               counting("after", "U8", [3])]
    return File(tensors, align_log2)


EVERY_TYPE = [
    (b"a.null", 0, 0), (b"b.false", 1, 0), (b"b.true", 1, 1), (b"c.i64", 2, (1 << 64) - 5),
    (b"d.u64", 3, (1 << 64) - 1), (b"e.f64", 4, 0x400921FB54442D18), (b"e.nan", 4, 0x7FF8000000000001),
    (b"f.empty", 5, b""), (b"f.string", 5, "späte ü".encode()), (b"g.bytes", 6, bytes(range(256))),
    (b"h.json", 7, b'{"a": [1, 2]}'), (b"u.inline.128", 128, 99), (b"u.inline.255", 255, (1 << 64) - 1),
    (b"u.pooled.127", 127, b"\xFF\xFE"), (b"u.pooled.8", 8, b"unknown"), ("ü".encode(), 5, b"last")]


def alias_file():
    quantized = codebook("q", [2, 3], 2, [0, 1, 2, 3, 0, 1], even_book(2))
    return File([counting("t", "BF16", [4, 3]), alias("tied", 0), quantized, alias("also.tied", 0),
                 alias("q2", 2)])


ROUND_TRIP = [counting("first", "F32", [4, 3]), asset("notes.txt", b"rebuilt from the records"),
              codebook("second", [4, 9], 3, code_noise(36, 3), SMALL_BOOK, row_scale=[1.0, 2.0, 3.0, 4.0]),
              alias("third", 2), metadata([(b"cdna.writer", 5, b"vectors")])]

FILE_CASES = [
    ("align_64", "A = 64: a plane of 16 KiB", aligned_file(6, 16384)),
    ("align_4k", "A = 4 KiB: the plane of 1 MiB starts at a multiple of A", aligned_file(12, 1 << 20)),
    ("align_4k_below", "A = 4 KiB: a plane just below 1 MiB does not", aligned_file(12, (1 << 20) - 2)),
    ("align_64k", "A = 64 KiB: no plane is large enough", aligned_file(16, 1 << 20)),
    ("align_64k_large", "A = 64 KiB: the plane of 16 MiB starts at a multiple of A",
     aligned_file(16, 1 << 24)),
    ("alias", "aliases of exact and codebook tensors", alias_file()),
    ("assets", "assets: empty, text, compressed", File(
        [asset("empty", b""), asset("dir/notes.txt", b"text\n"), asset("big", LETTERS, encode=zstd_encoder),
         asset("cut", bytes(CUT + 7), b"application/octet-stream", rows_per_block=0,
               encode=[zstd_encoder, raw_block])])),
    ("metadata", "every metadata type, and unknown ones", File([metadata(EVERY_TYPE)])),
    ("metadata_empty", "metadata without entries", File([metadata()])),
    ("metadata_compressed", "a zstd block of metadata", File(
        [counting("t", "U8", [3]), metadata([(b"zeros", 6, bytes(900))], encode=zstd_encoder)])),
    ("rebuilt", "what a recoverer makes of recover/cut_*.cdna except cut_third", File(ROUND_TRIP)),
]


# ---- byte planes ----

def near_one(dtype, count, seed=0):
    """Elements with noise in sign and fraction and one exponent: the last plane is a run."""
    size = DTYPE_BITS[dtype] // 8
    one, last_plane_only = {"F16": (0x3C00, 0x807F), "BF16": (0x3F80, 0x807F), "F32": (0x3F800000, 0x807FFFFF),
                            "F64": (0x3FF << 52, (1 << 63) + (1 << 55) - 1)}[dtype]
    words = [noise(8 * count, seed)[8 * i:8 * i + size] for i in range(count)]
    return b"".join((one & ~last_plane_only | int.from_bytes(word, "little") & last_plane_only).to_bytes(size, "little")
                    for word in words)


def in_planes(name, dtype, dims, rows_per_block=1, encode=None, data=None, **rest):
    """An exact tensor in byte planes."""
    encode = encode or byte_plane_encoder(DTYPE_BITS[dtype] // 8)
    data = near_one(dtype, math.prod(dims), len(name)) if data is None else data
    return exact(name, dtype, dims, data, rows_per_block=rows_per_block, encode=encode, **rest)


def under_text(dtype):
    """Elements whose last byte plane is TEXT: each is rotated right by one bit to be stored so."""
    size = DTYPE_BITS[dtype] // 8
    below = noise(len(TEXT) * (size - 1), size)
    words = [int.from_bytes(below[i * (size - 1):(i + 1) * (size - 1)] + TEXT[i:i + 1], "little")
             for i in range(len(TEXT))]
    return b"".join((word >> 1 | (word & 1) << 8 * size - 1).to_bytes(size, "little") for word in words)


FLOATS = ("F16", "BF16", "F32", "F64")
BYTE_PLANE_CASES = [
    ("byte_planes", "filter 1 with every dtype that has it, a short last block", File(
        [in_planes(f"w.{dtype}", dtype, [7, 13], rows_per_block=3) for dtype in FLOATS])),
    ("byte_planes_huffman", "last planes in a frame with Huffman and FSE coded blocks", File(
        [in_planes(f"w.{dtype}", dtype, [1, len(TEXT)], data=under_text(dtype),
                   encode=byte_plane_encoder(DTYPE_BITS[dtype] // 8, lambda plane: ZSTD_TEXT)) for dtype in FLOATS])),
    ("byte_planes_mixed", "blocks in byte planes, raw, and in plain zstd in one plane", File(
        [exact("w", "BF16", [6, 40], bytes([63]) * 480,
               encode=[byte_plane_encoder(2), raw_block, zstd_encoder])])),
    ("byte_planes_least_gain", "frames that are one byte shorter than their plane", File(
        [in_planes(f"w.{dtype}", dtype, [1, 11]) for dtype in FLOATS])),
    ("byte_planes_worked_example", "the numbers of section 12.1, several times each", File(
        [exact("w", "BF16", [4, 18], bytes.fromhex("803F" * 6 + "00C0" * 6 + "003C" * 6) * 4, rows_per_block=4,
               encode=byte_plane_encoder(2))])),
    ("byte_planes_rank_0_to_3", "scalar shapes are too small to gain; rank 1 and 3", File(
        [in_planes("one", "F32", [64], rows_per_block=64), in_planes("three", "BF16", [3, 4, 5], row_dims=2,
                                                                     rows_per_block=12)])),
]


# ---- what this version does not know ----

def changed(item, status="ok", plane=None, block=None, **over):
    """An item with attributes of itself, its first plane and its first block set; its outcome is `status`."""
    first = item.planes[0]
    for target, values in ((item, over), (first, plane or {}), (first.blocks[0], block or {})):
        for name, value in values.items():
            setattr(target, name, value)
    item.status = status
    if status != "ok":
        item.decoded_sha256 = None
    return item


def strange(name, status, **what):
    return changed(counting(name, "U8", [4, 3], encode=raw_block), status, **what)


def unknown_encoding(name):
    return strange(name, "U1", type=b"example.future", plane={"role": 99, "layout": 9, "vector": 4})


def unknown_dtype(name):
    return strange(name, "U2", dtype=200, plane={"dtype": 200})


def unknown_layout(name):
    return strange(name, "U4", plane={"layout": 2})


def unknown_codec(name):
    return strange(name, "U5", block={"codec": 3})


def unknown_filter(name):
    return strange(name, "U7", block={"filter": 1})


def second_block(item, status, **fields):
    for name, value in fields.items():
        setattr(item.planes[0].blocks[1], name, value)
    return changed(item, status)


def with_filter(item, n):
    """Filter 1 in the first block of plane n, which is packed and zstd."""
    plane = item.planes[n]
    plane.layout = 1
    plane.blocks[0] = Block(b"zstd", plane.blocks[0].decoded_length, ZSTD, 1)
    return changed(item, "U7")


def with_plane(item, plane):
    item.planes.append(plane)
    return item


def ignorable_plane(scope=0):
    """A plane whose every open value is unknown, under a role that may be ignored."""
    block = Block(b"future", 11, 7, 9)
    return Plane(IGNORABLE | 99, 77, 11, 8, 1, scope, group=5, layout=3, vector=4, blocks=[block])


def ignorable_blocks():
    return Plane(IGNORABLE | 11, 10, 8, 0, 0, 2, layout=2, blocks=[Block(b"part", 9, 5), Block(b"", 0, 5)])


def ignorable_item(name, kind, **rest):
    return Item(name.encode(), kind, [3], [ignorable_plane(scope=1)], 0, 99, b"future/type", **rest)


def empty_ignorable(name):
    return Item(name.encode(), IGNORABLE, [], [])


def unknown_file(name, description, item):
    return name, description, File([item, counting("good", "F32", [2, 2])])


def group_offset_plane(rows):
    return float_plane(8, "F32", 1, rows, range(rows), rows_per_block=rows)


UNKNOWN_CASES = [
    ("optional_feature", "optional feature bits that no reader knows", File(
        [counting("t", "U8", [3], optional=1 << 17), counting("u", "U8", [3], optional=1 << 63)])),
    ("ignorable_kind", "items of unknown kinds with bit 15, with and without bit 14, and without planes",
     File([ignorable_item("a", IGNORABLE | 5), counting("t", "U8", [3]), ignorable_item("b", 0xC005),
           empty_ignorable("c"), ignorable_item("t", 0xFFFF)])),
    ("ignorable_role", "planes that a reader may ignore, after the others", File(
        [with_plane(counting("t", "U8", [4, 3]), ignorable_plane()),
         with_plane(with_plane(replaced("q", [[(0, 1.0)], []]), ignorable_plane()), ignorable_blocks())])),
    unknown_file("unknown_encoding", "U1, although U3, U4 and U6 hold too", unknown_encoding("t")),
    unknown_file("unknown_dtype", "a dtype above 22", unknown_dtype("t")),
    unknown_file("unknown_dtype_0", "a tensor of dtype 0", strange("t", "U2", dtype=0)),
    unknown_file("unknown_role", "a role that cdna.exact does not define", with_plane(
        strange("t", "U3"), group_offset_plane(4))),
    unknown_file("unknown_role_codebook", "role 9 in a codebook tensor", with_plane(
        changed(scaled("t", [1.0, 2.0]), "U3"), float_plane(9, "F32", 1, 2, range(2), rows_per_block=2))),
    unknown_file("unknown_layout", "layout 2", unknown_layout("t")),
    unknown_file("unknown_codec", "codec 3", unknown_codec("t")),
    unknown_file("unknown_codec_7", "codec 7, the last", strange("t", "U5", block={"codec": 7})),
    unknown_file("unknown_vector", "vector 2", strange("t", "U6", plane={"vector": 2})),
    unknown_file("unknown_vector_0", "vector 0", strange("t", "U6", plane={"vector": 0})),
    unknown_file("unknown_filter", "filter 1", unknown_filter("t")),
    ("unknown_filter_1", "filter 1 where section 12.1 does not make it known: raw, brotli, another dtype", File(
        [changed(counting("raw", "BF16", [4, 3], encode=raw_block), "U7", block={"filter": 1}),
         changed(in_planes("brotli", "BF16", [1, 40]), "U7", block={"codec": BROTLI}),
         changed(in_planes("integers", "F16", [1, 40]), "U7", dtype=4, plane={"dtype": 4}),
         changed(in_planes("complex", "F64", [1, 40]), "U7", dtype=14, plane={"dtype": 14}),
         counting("good", "F32", [2, 2])])),
    ("unknown_filter_2", "filter 2 under zstd in a BF16 tensor, in its second block", File(
        [second_block(in_planes("t", "BF16", [2, 40]), "U7", filter=2), counting("good", "F32", [2, 2])])),
    ("unknown_filter_codebook", "filter 1 in codes, in a codebook, in outliers", File(
        [changed(codebook("codes", [3, 200], 8, [6] * 600, even_book(8), encode=zstd_encoder), "U7",
                 block={"filter": 1}),
         with_filter(replaced("codebook", [[(0, 1.0)], []]), 1),
         with_filter(replaced("outliers", [[(0, 1.0)], []]), 3)])),
    ("unknown_layout_filter", "a tensor that U4 makes unsupported: filter 1 binds it to nothing", File(
        [changed(in_planes("t", "BF16", [1, 40]), "U4", plane={"layout": 2}, block={"stored": b"short"})])),
    unknown_file("unknown_role_pwl", "pwl without bit 15", with_plane(
        changed(scaled("t", [1.0, 2.0]), "U3"), statement(18, "F16", [0.0] * 32))),
    unknown_file("unknown_asset", "an asset in an unknown codec",
                 changed(asset("a", b"abc", encode=raw_block), "U5", block={"codec": 4})),
    unknown_file("unknown_asset_layout", "an asset in an unknown layout",
                 changed(asset("a", b"abc", encode=raw_block), "U4", plane={"layout": 7})),
    unknown_file("unknown_asset_filter", "an asset with a filter",
                 changed(asset("a", b"abc", encode=raw_block), "U7", block={"filter": 1})),
    ("unknown_metadata_codec", "metadata in an unknown codec", File(
        [counting("t", "U8", [3]),
         changed(metadata(EVERY_TYPE, encode=raw_block), "U5", block={"codec": 6})])),
    ("unknown_mixed", "several of these beside a good tensor", File(
        [unknown_encoding("encoding"), unknown_dtype("dtype"), counting("good", "F32", [2, 2]),
         unknown_layout("layout"), unknown_codec("codec"), strange("vector", "U6", plane={"vector": 2}),
         unknown_filter("filter"), ignorable_item("kind", 0x8001),
         metadata([(b"k", 5, b"v")])])),
]

GOOD = SHAPE_CASES + DTYPE_CASES + CODEBOOK_CASES + FILE_CASES + BYTE_PLANE_CASES + GOOD_STATEMENTS + UNKNOWN_CASES
GOOD += GOOD_EXTENSIONS
