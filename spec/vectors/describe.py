"""Describes the vectors' items: exact and codebook tensors, assets, metadata, aliases."""
import hashlib
import math
import struct
from collections import Counter

from builder import (ALIAS, ASSET, CODEBOOK, CODES, COLUMN_SCALE, CUT, DATA, DTYPE_BITS, DTYPE_ID, FACTORS,
                     GROUP_OFFSET, GROUP_SCALE, INF, LEFT, METADATA, OUTLIERS, RIGHT, ROW_SCALE, SCALE_TABLE, TENSOR,
                     Item, Plane, block_lengths, bulk_hash, cut_blocks, f32_bytes, float_list, fused, metadata_bytes,
                     pack_bits, raw_block, row_bytes, to_f16, to_f32)

EXACT, CODEBOOK_NAME = b"cdna.exact", b"cdna.codebook"


def noise(size, seed=0):
    """Bytes without a pattern, the same ones each time."""
    pieces = (hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(-(-size // 32)))
    return b"".join(pieces)[:size]


def sha256_hex(data):
    return hashlib.sha256(data).hexdigest()


def split_matrix(dims, row_dims):
    return math.prod(dims[:row_dims]), math.prod(dims[row_dims:])


def whole_rows(dims, bits):
    """The row_dims of an exact tensor: 1, or 0 where rows would not be whole bytes."""
    return int(bool(dims) and math.prod(dims[1:]) * bits % 8 == 0)


def filled(role, dtype, bits, row_entries, rows, data, rows_per_block=1, encode=None, **rest):
    """A plane of scope 0 or 1 with these bytes: contiguous and raw, or packed if `encode` is given."""
    lengths = block_lengths(rows, row_entries, bits, rows_per_block)
    blocks = cut_blocks(data, lengths, encode or raw_block)
    return Plane(role, dtype, bits, row_entries, rows_per_block, blocks=blocks, layout=int(bool(encode)),
                 **rest)


def float_plane(role, dtype, row_entries, rows, values, **rest):
    data = float_list(dtype, values)
    return filled(role, DTYPE_ID[dtype], DTYPE_BITS[dtype], row_entries, rows, data, **rest)


def exact(name, dtype, dims, data, row_dims=None, rows_per_block=1, encode=None, **rest):
    bits = DTYPE_BITS[dtype]
    row_dims = whole_rows(dims, bits) if row_dims is None else row_dims
    rows, cols = split_matrix(dims, row_dims)
    plane = filled(DATA, DTYPE_ID[dtype], bits, cols, rows, data, rows_per_block, encode)
    return Item(name.encode(), TENSOR, dims, [plane], row_dims, DTYPE_ID[dtype], EXACT,
                source_digest=bulk_hash(data), decoded_sha256=sha256_hex(data), **rest)


def counting(name, dtype, dims, seed=0, **rest):
    """An exact tensor with noise in it, whatever the dtype."""
    bits = DTYPE_BITS[dtype]
    data = bytearray(noise(row_bytes(math.prod(dims), bits), seed))
    if data:
        data[-1] &= 0xFF >> (-math.prod(dims) * bits % 8)
    return exact(name, dtype, dims, bytes(data), **rest)


def content_item(name, kind, content, media=b"", rows_per_block=1, encode=None, **rest):
    plane = filled(DATA, DTYPE_ID["U8"], 8, len(content), 1, content, rows_per_block, encode)
    return Item(name.encode(), kind, [len(content)], [plane], 0, DTYPE_ID["U8"], media,
                source_digest=bulk_hash(content), decoded_sha256=sha256_hex(content), **rest)


def asset(name, content, media=b"text/plain", **rest):
    return content_item(name, ASSET, content, media, **rest)


def metadata(entries=(), content=None, **rest):
    return content_item("metadata", METADATA, metadata_bytes(entries) if content is None else content, **rest)


def alias(name, target):
    return Item(name.encode(), ALIAS, [target], [])


class Scales:
    """Group scales: group size, dtype, values[row][group]; for U8 a table of 256 f32 values. offsets[row][group]."""

    def __init__(self, group, dtype, values, table=None, offsets=None, offset_dtype="F32"):
        self.group, self.dtype, self.values, self.table = group, dtype, values, table
        self.offsets, self.offset_dtype = offsets, offset_dtype

    def offset_plane(self, rows, cols, rows_per_block):
        flat = [value for row in self.offsets for value in row]
        return float_plane(GROUP_OFFSET, self.offset_dtype, -(-cols // self.group), rows, flat,
                           rows_per_block=rows_per_block, group=self.group)

    def at(self, row, column):
        value = self.values[row][column // self.group]
        return self.table[value] if self.table else value

    def planes(self, rows, cols, rows_per_block):
        flat = [value for row in self.values for value in row]
        entries = -(-cols // self.group)
        place = {"rows_per_block": rows_per_block, "group": self.group}
        if not self.table:
            return [float_plane(GROUP_SCALE, self.dtype, entries, rows, flat, **place)]
        return [filled(GROUP_SCALE, DTYPE_ID["U8"], 8, entries, rows, bytes(flat), **place),
                float_plane(SCALE_TABLE, "F32", 256, 1, self.table, scope=0)]


class LowRank:
    """left[row][t], factors[t], right[t][column]."""

    def __init__(self, left, factors, right):
        self.left, self.factors, self.right = left, factors, right

    def planes(self, rows, rows_per_block):
        rank = len(self.factors)
        flat = [value for row in self.right for value in row]
        return [float_plane(LEFT, "F32", rank, rows, [value for row in self.left for value in row],
                            rows_per_block=rows_per_block),
                float_plane(FACTORS, "F32", rank, 1, self.factors, scope=0),
                float_plane(RIGHT, "F32", len(flat), 1, flat, scope=0)]

    def at(self, row, column):
        total = 0.0
        for left, factor, right in zip(self.left[row], self.factors, self.right):
            side, other = to_f32(left * factor), right[column]
            total = fused(side, other, total) if finite(side, other, total) else side * other + total
        return total


def finite(*numbers):
    return all(map(math.isfinite, numbers))


def quotient(a, b):
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(INF, a) * math.copysign(1.0, b)


def narrow(value):
    """The f32 of an outlier value; a NaN is given as a pair of bytes: (stored, decoded)."""
    return value[1] if isinstance(value, tuple) else f32_bytes(value)


def outlier_block(dtype, pairs):
    values = [value[0] if isinstance(value, tuple) else value for _, value in pairs]
    data = float_list(dtype, values) + struct.pack(f"<{len(pairs)}I", *(position for position, _ in pairs))
    return raw_block(data)


def outlier_plane(dtype, per_block):
    blocks = [outlier_block(dtype, pairs) for pairs in per_block]
    return Plane(OUTLIERS, DTYPE_ID[dtype], 8, 0, 0, scope=2, blocks=blocks)


def element_number(block, position, cols, rows_per_block, vector):
    """The row-major number of the element at a position of a block of codes."""
    if rows_per_block:
        return block * rows_per_block * cols + position
    blocks_per_row = -(-cols // vector // CUT)
    return block // blocks_per_row * cols + block % blocks_per_row * CUT * vector + position


def codebook_value(w, r, j, row_scale, scales):
    """The f32 bytes of one element that is not an outlier (section 13.2)."""
    if not scales:
        return f32_bytes(w * row_scale[r])
    scaled = f32_bytes(w * (to_f32(scales.at(r, j) * row_scale[r]) if row_scale else scales.at(r, j)))
    if not scales.offsets:
        return scaled
    return f32_bytes(struct.unpack("<f", scaled)[0] + scales.offsets[r][j // scales.group])


def finished_value(raw, r, j, low_rank, column_scale):
    """What comes after the outliers."""
    w, = struct.unpack("<f", raw)
    if low_rank:
        w, = struct.unpack("<f", f32_bytes(w + low_rank.at(r, j)))
    return f32_bytes(quotient(w, column_scale[j]) if column_scale else w)


def codebook_values(rows, cols, codes, book, rows_per_block, row_scale, scales, outliers, vector=1, low_rank=None,
                    column_scale=None):
    if vector > 1:
        book, codes = list(book), [code * vector + k for code in codes for k in range(vector)]
    if row_scale or scales:
        out = [codebook_value(book[codes[r * cols + j]], r, j, row_scale, scales)
               for r in range(rows) for j in range(cols)]
    else:
        table = [f32_bytes(w) for w in book]
        out = list(map(table.__getitem__, codes))
    for block, pairs in enumerate(outliers[1] if outliers else []):
        for position, value in pairs:
            out[element_number(block, position, cols, rows_per_block, vector)] = narrow(value)
    if low_rank or column_scale:
        out = [finished_value(raw, *divmod(n, cols), low_rank, column_scale) for n, raw in enumerate(out)]
    return b"".join(out)


def codebook(name, dims, bits, codes, book, book_dtype="F16", dtype="F32", row_dims=1, rows_per_block=1,
             encode=None, row_scale=None, scale_rows=None, scales=None, outliers=None, vector=1, low_rank=None,
             column_scale=None, **rest):
    """A codebook tensor; `codes` and `row_scale` are lists, `outliers` is (dtype, pairs per block)."""
    rows, cols = split_matrix(dims, row_dims)
    per_row = cols // vector
    packed = b"".join(pack_bits(codes[r * per_row:(r + 1) * per_row], bits) for r in range(rows))
    scale_rows = scale_rows or max(rows, 1)
    planes = [filled(CODES, 0, bits, per_row, rows, packed, rows_per_block, encode, vector=vector),
              float_plane(CODEBOOK, book_dtype, vector << bits, 1, book, scope=0)]
    if row_scale is not None:
        planes.append(float_plane(ROW_SCALE, "F32", 1, rows, row_scale, rows_per_block=scale_rows))
    if scales:
        planes += scales.planes(rows, cols, scale_rows)
    if outliers:
        planes.append(outlier_plane(*outliers))
    if scales and scales.offsets is not None:
        planes.append(scales.offset_plane(rows, cols, scale_rows))
    if low_rank:
        planes += low_rank.planes(rows, scale_rows)
    if column_scale is not None:
        planes.append(float_plane(COLUMN_SCALE, "F32", cols, 1, column_scale, scope=0))
    for number, block in enumerate(planes[0].blocks):
        block.error = 0.25 / (1 << number % 8)
    values = codebook_values(rows, cols, codes, book, rows_per_block, row_scale, scales, outliers, vector, low_rank,
                             column_scale)
    return Item(name.encode(), TENSOR, dims, planes, row_dims, DTYPE_ID[dtype], CODEBOOK_NAME,
                decoded_sha256=sha256_hex(values), sums=(100.0, 0.5), **rest)


def segments(base_and_step, length):
    """The codebook that pwl and affine planes state: `length` entries for each base and step."""
    pairs = zip(base_and_step[::2], base_and_step[1::2])
    return [to_f16(base + entry * step) for base, step in pairs for entry in range(length)]


def entropy(codes):
    """Bits per code."""
    shares = [count / len(codes) for count in Counter(codes).values()]
    return math.fsum(-share * math.log2(share) for share in shares)


def statement(role, dtype, values, **over):
    """A plane of section 13.3; `over` are attributes."""
    plane = float_plane(role, dtype, len(values), 1, values, scope=0)
    for name, value in over.items():
        setattr(plane, name, value)
    return plane


def even_book(bits, low=-1.0):
    """An ascending codebook of 2^bits multiples of 2^-8, exact in F16 up to 11 bits and in F32 always."""
    return [low + i / 256 for i in range(1 << bits)]


def code_noise(count, bits, seed=0):
    """Codes without a pattern, the first and the last code among them."""
    words = struct.unpack(f"<{count}H", noise(2 * count, seed))
    return [0, (1 << bits) - 1][:count] + [word >> (16 - bits) for word in words[2:]]


