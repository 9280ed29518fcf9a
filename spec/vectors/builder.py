"""Builds CDNA v3 files, whole or with chosen fields wrong, from a description: the vectors' own writer.

It follows ../format.md and shares no code with any other implementation. A file is described by File, Item,
Plane and Block. Their `over` dictionaries hold fields that replace the computed ones while the structure is
packed, so that every digest above it is still right. `patches` change the finished bytes and no digest.
"""
import hashlib
import math
import re
import struct
from dataclasses import dataclass, field
from fractions import Fraction

HEAD_MAGIC = bytes.fromhex("CD43444E410D0A1A")
TAIL_MAGIC = bytes.fromhex("CD43444E33454E44")
RECORD_MAGIC = bytes.fromhex("CD43444E33524543")
TENSOR, ASSET, METADATA, ALIAS = range(4)
DATA, CODES, CODEBOOK, ROW_SCALE, GROUP_SCALE, SCALE_TABLE, OUTLIERS, GROUP_OFFSET = range(1, 9)
LEFT, FACTORS, RIGHT, COLUMN_SCALE = range(14, 18)
IGNORABLE = 0x8000
PWL, AFFINE, STATISTICS = range(IGNORABLE | 18, IGNORABLE | 21)
RAW, ZSTD, BROTLI = range(3)
BYTE_PLANES = 1
NONFINITE = 1
CUT = 1 << 20
INF = math.inf
DTYPES = [("none", 0), ("BOOL", 8), ("U8", 8), ("I8", 8), ("U16", 16), ("I16", 16), ("U32", 32), ("I32", 32),
          ("U64", 64), ("I64", 64), ("F16", 16), ("BF16", 16), ("F32", 32), ("F64", 64), ("C64", 64),
          ("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8),
          ("F6_E2M3", 6), ("F6_E3M2", 6), ("F4", 4)]
DTYPE_ID = {name: number for number, (name, _) in enumerate(DTYPES)}
DTYPE_BITS = dict(DTYPES)


class Layout:
    """A packed little-endian struct with named fields; all fields default to zero."""

    def __init__(self, description):
        pairs = [part.split(":") for part in description.split()]
        self.names = [name for name, _ in pairs]
        self.formats = [code for _, code in pairs]
        self.size = struct.calcsize("<" + "".join(self.formats))

    def pack(self, values):
        unknown = set(values) - set(self.names)
        if unknown:
            raise KeyError(f"no such field: {unknown}")
        return b"".join(self._one(code, values.get(name)) for name, code in zip(self.names, self.formats))

    @staticmethod
    def _one(code, value):
        if value is None:
            return bytes(struct.calcsize("<" + code))
        if isinstance(value, bytes) and not code.endswith("s"):
            return value.ljust(struct.calcsize("<" + code), b"\0")
        return struct.pack("<" + code, value)


HEAD = Layout("magic:8s version:I align_log2:B hash_suite:B reserved:50s")
TAIL = Layout("tag:16s required_features:Q optional_features:Q file_length:Q footer_offset:Q footer_length:Q "
              "item_count:I version:I footer_digest:32s align_log2:B hash_suite:B reserved:118s "
              "root:32s magic:8s")
ITEM = Layout(
    "packet_offset:Q index_offset:Q index_digest:32s source_digest:32s sum_squares:d sum_squared_error:d "
    "max_abs_error:f entry_count:I first_dim:I first_plane:I text_offset:I name_length:H type_length:H "
    "kind:H role:H dtype:B rank:B plane_count:B row_dims:B required_features:Q optional_features:Q "
    "reserved:16s")
PLANE = Layout(
    "offset:Q stored_length:Q row_entries:Q block_count:I rows_per_block:I role:H group:H bits:B dtype:B "
    "scope:B layout:B codecs:B vector:B reserved_a:H reserved_b:I")
ENTRY = Layout("offset:Q stored_length:I decoded_length:I codec:B filter:B reserved_a:H max_abs_error:f "
               "reserved_b:Q digest:32s")
RECORD = Layout("magic:8s length:I number:I offset:Q reserved:Q")
KEY_VALUE = Layout("value:Q text_offset:I key_length:I type:B reserved:7s")


@dataclass
class Block:
    """One block: its stored bytes and what the index says about them."""
    stored: bytes
    decoded_length: int
    codec: int = RAW
    filter: int = 0
    error: float = 0.0
    over: dict = field(default_factory=dict)


@dataclass
class Plane:
    """One plane; place, length, block count and codecs follow from the blocks."""
    role: int
    dtype: int
    bits: int
    row_entries: int
    rows_per_block: int = 1
    scope: int = 1
    group: int = 0
    layout: int = 1
    vector: int = 1
    blocks: list = field(default_factory=list)
    over: dict = field(default_factory=dict)


@dataclass
class Item:
    """One item, with the outcome that a reader has to report for it."""
    name: bytes
    kind: int
    dims: list
    planes: list
    row_dims: int = 0
    dtype: int = 0
    type: bytes = b""
    role: int = 0
    required: int = 0
    optional: int = 0
    source_digest: bytes = bytes(32)
    sums: tuple = (0.0, 0.0)
    status: str = "ok"
    decoded_sha256: str = None
    over: dict = field(default_factory=dict)


@dataclass
class File:
    """A whole file; the hooks change the footer's vectors and bytes, `patches` the finished file."""
    items: list = field(default_factory=list)
    align_log2: int = 6
    head: dict = field(default_factory=dict)
    tail: dict = field(default_factory=dict)
    vector_hooks: list = field(default_factory=list)
    footer_hooks: list = field(default_factory=list)
    records: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)
    patches: list = field(default_factory=list)


@dataclass
class Built:
    """A finished file, and where its parts are: places["plane 0.1"], ["index 0"], ["footer"] …"""
    data: bytes
    root: bytes
    places: dict


def align(x, n):
    return -(-x // n) * n


def structure_hash(data):
    return hashlib.sha256(data).digest()


def bulk_hash(data):
    pieces = (data[i:i + 16384] for i in range(0, len(data), 16384))
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).digest()


def matrix_view(item):
    return math.prod(item.dims[:item.row_dims]), math.prod(item.dims[item.row_dims:])


def row_bytes(row_entries, bits):
    return -(-row_entries * bits // 8)


def block_lengths(rows, row_entries, bits, rows_per_block):
    """The decoded lengths of the blocks of a plane of scope 0 or 1 (section 8.2)."""
    size = row_bytes(row_entries, bits)
    if rows * size == 0:
        return []
    if rows_per_block:
        starts = range(0, rows, rows_per_block)
        return [min(rows_per_block, rows - start) * size for start in starts]
    piece = CUT * bits // 8
    row = [min(piece, size - start) for start in range(0, size, piece)]
    return row * rows


def raw_block(data):
    return Block(data, len(data))


def cut_blocks(decoded, lengths, encode=raw_block):
    """Blocks of these decoded lengths; `encode` is one function from bytes to Block, or a list of them."""
    blocks, start = [], 0
    for number, length in enumerate(lengths):
        encoder = encode[number % len(encode)] if isinstance(encode, list) else encode
        blocks.append(encoder(decoded[start:start + length]))
        start += length
    if start != len(decoded):
        raise ValueError("the blocks do not cover the plane")
    return blocks


# ---- zstd frames by hand ----

ZSTD_MAGIC = bytes.fromhex("28B52FFD")
ZSTD_BLOCK_MAX = 1 << 17
RUN = re.compile(rb"(.)\1{3,}", re.DOTALL)


def zstd_block(kind, size, content, last):
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + content


def pieces_of(data):
    """(is a run, bytes) pieces of data: runs of one byte of at least 4, and what is between them."""
    if len(data) >= 4 and data.count(data[:1]) == len(data):
        return [(True, data)]
    pieces, start = [], 0
    for match in RUN.finditer(data):
        pieces += [(False, data[start:match.start()])] * (start < match.start()) + [(True, match.group())]
        start = match.end()
    return pieces + [(False, data[start:])] * (start < len(data))


def zstd_blocks(data, limit=ZSTD_BLOCK_MAX):
    """The blocks of a frame: an RLE block for each run, a raw block for the rest."""
    pieces = [(run, piece[k:k + limit]) for run, piece in pieces_of(data)
              for k in range(0, len(piece), limit)]
    parts = [zstd_block(run, len(piece), piece[:1] if run else piece, i == len(pieces) - 1)
             for i, (run, piece) in enumerate(pieces)]
    return b"".join(parts)


def zstd_header(size, size_code=None, window=None, flags=0, dictionary=b""):
    """A frame header; a single segment without `window`. size_code: the content size flag, None the least."""
    if size_code is None:
        size_code = 0 if size < 256 and window is None else 1 if 256 <= size < 65792 else 2
    width = 1 << size_code if size_code or window is None else 0
    single = window is None
    descriptor = size_code << 6 | single << 5 | flags
    number = size - 256 if size_code == 1 else size
    return (ZSTD_MAGIC + bytes([descriptor]) + (b"" if single else bytes([window])) + dictionary
            + (number.to_bytes(width, "little") if width else b""))


def zstd_frame(data):
    return zstd_header(len(data)) + zstd_blocks(data)


def zstd_encoder(data):
    return Block(zstd_frame(data), len(data), ZSTD)


# ---- byte planes (section 12.1) ----

def byte_planes(data, size):
    """The planes of elements of `size` bytes, each rotated left by one bit."""
    planes = [bytearray() for _ in range(size)]
    for at in range(0, len(data), size):
        word = int.from_bytes(data[at:at + size], "little")
        rotated = word << 1 & (1 << 8 * size) - 1 | word >> 8 * size - 1
        for k in range(size):
            planes[k].append(rotated >> 8 * k & 255)
    return list(map(bytes, planes))


def byte_plane_encoder(size, frame=zstd_frame):
    """An encoder whose last plane is what `frame` makes of it."""
    def encode(data):
        planes = byte_planes(data, size)
        return Block(b"".join(planes[:-1]) + frame(planes[-1]), len(data), ZSTD, BYTE_PLANES)
    return encode


# ---- number formats ----

def to_f32(x):
    """x as a Python float, rounded to f32 (ties to even), with overflow to infinity."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(INF, x)


def to_f16(x):
    """Likewise for f16; a zero is +0."""
    try:
        return struct.unpack("<e", struct.pack("<e", x + 0.0))[0]
    except OverflowError:
        return math.copysign(INF, x)


def fused(a, b, c):
    """a * b + c rounded once to f32: of an estimate and its neighbours the nearest to the exact number, or the even one."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    estimate = to_f32(float(exact))
    if exact == 0 or math.isinf(estimate):
        return a * b + c if exact == 0 else estimate
    pattern, = struct.unpack("<I", struct.pack("<f", abs(estimate)))
    near = [(struct.unpack("<f", struct.pack("<I", n))[0], n) for n in range(max(pattern, 1) - 1, pattern + 2)]
    nearest, _ = min(near, key=lambda pair: (abs(Fraction(pair[0]) - abs(exact)), pair[1] & 1))
    return math.copysign(nearest, exact)


def f32_bytes(x):
    """The f32 of a result of arithmetic; every NaN is the canonical one."""
    return bytes.fromhex("0000C07F") if math.isnan(x) else struct.pack("<f", to_f32(x))


def float_bytes(dtype, x):
    """The bytes of x in a float dtype; x has to be representable in F16 and BF16."""
    if isinstance(x, bytes):
        return x
    if dtype == "BF16":
        return struct.pack("<f", x)[2:]
    return struct.pack({"F16": "<e", "F32": "<f", "F64": "<d"}[dtype], x)


def float_list(dtype, values):
    return b"".join(float_bytes(dtype, x) for x in values)


def pack_bits(entries, bits):
    """Entries packed LSB first; the last byte's unused high bits are zero."""
    out = bytearray()
    for i in range(0, len(entries), 8):
        word = sum(entry << (k * bits) for k, entry in enumerate(entries[i:i + 8]))
        out += word.to_bytes(bits, "little")
    return bytes(out[:row_bytes(len(entries), bits)])


# ---- the two FlatBuffers ----

def vectors_at(start, fields_at, prefix, vectors):
    """A fixed FlatBuffer: prefix, offsets of the vectors, vectors. `vectors` are (count, bytes) pairs."""
    body, offsets = bytearray(prefix), []
    if len(body) != fields_at:
        raise ValueError("prefix and fields do not meet")
    end = start
    tail = bytearray()
    for number, (count, content) in enumerate(vectors):
        place = end + (4 - end) % 8
        offsets.append(place - (fields_at + 4 * number))
        tail += bytes(place - end) + struct.pack("<I", count) + content
        end = place + 4 + len(content)
    body += struct.pack(f"<{len(offsets)}I", *offsets) + tail
    return bytes(body) + bytes(align(end, 8) - end)


def footer_bytes(vectors):
    prefix = struct.pack("<I4sH7HI", 24, b"CDN3", 0, 14, 24, 4, 8, 12, 16, 20, 14)
    pairs = [(len(vectors[key]), b"".join(vectors[key])) for key in ("items", "planes", "dims", "order")]
    return vectors_at(48, 28, prefix, pairs + [(len(vectors["text"]), bytes(vectors["text"]))])


def metadata_prefix():
    return struct.pack("<I4s4HI", 16, b"CDNM", 8, 12, 4, 8, 8)


def metadata_bytes(entries, over=None):
    """Metadata from (key, type, value) with bytes for pooled values; `over` has overrides by entry number."""
    packed, text = [], bytearray()
    for number, (key, kind, value) in enumerate(entries):
        fields = {"text_offset": len(text), "key_length": len(key), "type": kind,
                  "value": len(value) if isinstance(value, bytes) else value}
        packed.append(KEY_VALUE.pack(fields | (over or {}).get(number, {})))
        text += key + (value if isinstance(value, bytes) else b"")
    return vectors_at(28, 20, metadata_prefix(), [(len(packed), b"".join(packed)), (len(text), bytes(text))])


# ---- the file ----

def plane_start(file, item, plane, pos):
    rows = {0: 1, 1: matrix_view(item)[0]}.get(plane.scope, 0)
    big = rows * row_bytes(plane.row_entries, plane.bits) >= 256 << file.align_log2
    return align(pos, 1 << file.align_log2 if big else 64)


def place_blocks(plane):
    """(offset, block) pairs relative to the plane, and the plane's length."""
    placed, end = [], 0
    for block in plane.blocks:
        offset = align(end, 64) if plane.layout else end
        placed.append((offset, block))
        end = offset + len(block.stored)
    return placed, end


def pack_entry(offset, block):
    fields = {"offset": offset, "stored_length": len(block.stored), "decoded_length": block.decoded_length,
              "codec": block.codec, "filter": block.filter, "max_abs_error": block.error,
              "digest": bulk_hash(block.stored)}
    return ENTRY.pack(fields | block.over)


def pack_plane(plane, offset, length):
    codecs = 0
    for block in plane.blocks:
        codecs |= 1 << block.codec
    names = ("role", "dtype", "bits", "row_entries", "rows_per_block", "scope", "group", "layout", "vector")
    fields = {name: getattr(plane, name) for name in names}
    fields |= {"offset": offset, "stored_length": length, "block_count": len(plane.blocks),
               "codecs": codecs & 255}
    return PLANE.pack(fields | plane.over)


class Writer:
    """Writes one description from head to tail."""

    def __init__(self, file):
        self.file = file
        self.out = bytearray(self._head())
        self.places = {}
        self.vectors = {"items": [], "planes": [], "dims": [], "order": [], "text": bytearray()}

    def write(self):
        for number, item in enumerate(self.file.items):
            self._packet(number, item)
        names = [(int(item.kind not in (TENSOR, ALIAS)), item.name, n)
                 for n, item in enumerate(self.file.items)]
        self.vectors["order"] = [struct.pack("<I", n) for _, _, n in sorted(names)]
        for hook in self.file.vector_hooks:
            hook(self.vectors)
        self._pad(64)
        self.out += self.file.extra.get("before footer", b"")
        footer = footer_bytes(self.vectors)
        for hook in self.file.footer_hooks:
            footer = hook(footer)
        root = self._end(footer)
        for patch in self.file.patches:
            self.out = patch(self.out, self.places)
        return Built(bytes(self.out), root, self.places)

    def _head(self):
        fields = {"magic": HEAD_MAGIC, "version": 3, "align_log2": self.file.align_log2, "hash_suite": 1}
        return HEAD.pack(fields | self.file.head)

    def _pad(self, n):
        self.out += bytes(align(len(self.out), n) - len(self.out))

    def _plane(self, item, plane, key):
        """Writes a plane's blocks; returns its packed struct and its index entries."""
        placed, length = place_blocks(plane)
        start = 0
        if length:
            start = plane_start(self.file, item, plane, len(self.out))
            self.out += bytes(start - len(self.out))
            for offset, block in placed:
                self.out += bytes(start + offset - len(self.out)) + block.stored
        self.places[key] = start
        return pack_plane(plane, start, length), [pack_entry(offset, block) for offset, block in placed]

    def _packet(self, number, item):
        packet, planes, entries = len(self.out), [], []
        for n, plane in enumerate(item.planes):
            packed, index = self._plane(item, plane, f"plane {number}.{n}")
            planes.append(packed)
            entries += index
        index = b"".join(entries)
        if index:
            self._pad(64)
        index_offset = len(self.out) if index else 0
        self.places[f"index {number}"] = index_offset
        self.out += index
        self._pad(64)
        packed = self._item(item, packet, index_offset, index)
        dims = [struct.pack("<Q", dim) for dim in item.dims]
        self._record(number, packed + b"".join(dims + planes) + item.name + item.type)
        self.vectors["items"].append(packed)
        self.vectors["planes"] += planes
        self.vectors["dims"] += dims
        self.vectors["text"] += item.name + item.type

    def _item(self, item, packet, index_offset, index):
        errors = [block.error for plane in item.planes[:1] for block in plane.blocks]
        fields = {
            "packet_offset": packet, "index_offset": index_offset, "index_digest": structure_hash(index),
            "source_digest": item.source_digest, "sum_squares": item.sums[0],
            "sum_squared_error": item.sums[1], "max_abs_error": max(errors, default=0.0),
            "entry_count": len(index) // 64, "first_dim": len(self.vectors["dims"]),
            "first_plane": len(self.vectors["planes"]), "text_offset": len(self.vectors["text"]),
            "name_length": len(item.name), "type_length": len(item.type), "kind": item.kind,
            "role": item.role, "dtype": item.dtype, "rank": len(item.dims), "plane_count": len(item.planes),
            "row_dims": item.row_dims, "required_features": item.required,
            "optional_features": item.optional}
        return ITEM.pack(fields | item.over)

    def _record(self, number, body):
        offset = len(self.out)
        self.places[f"record {number}"] = offset
        length = align(64 + len(body), 64)
        body += bytes(length - 64 - len(body))
        fields = {"magic": RECORD_MAGIC, "length": length, "number": number, "offset": offset}
        frame = RECORD.pack(fields | self.file.records.get(number, {}))
        self.out += frame + structure_hash(frame + body) + body

    def _end(self, footer):
        masks = [0, 0]
        for item in self.file.items:
            masks = [masks[0] | item.required, masks[1] | item.optional]
        self.places["footer"] = len(self.out)
        self.places["footer end"] = len(self.out) + len(footer)
        fields = {"tag": b"CDNA3 root v1", "required_features": masks[0], "optional_features": masks[1],
                  "footer_offset": len(self.out), "footer_length": len(footer),
                  "item_count": len(self.file.items), "version": 3, "footer_digest": structure_hash(footer),
                  "align_log2": self.file.align_log2, "hash_suite": 1}
        self.out += footer
        self._pad(64)
        self.out += self.file.extra.get("before tail", b"")
        self.places["tail"] = len(self.out)
        fields["file_length"] = len(self.out) + 256
        body = TAIL.pack(fields | self.file.tail)[:216]
        root = structure_hash(body)
        self.out += body + root + TAIL_MAGIC
        return root


def build(file):
    return Writer(file).write()
