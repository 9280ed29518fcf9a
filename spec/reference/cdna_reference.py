"""Reference decoder of CDNA v3 files in plain Python, written from ../format.md alone, to be read beside it.

The parts of this file follow the sections of the specification, and every rule (T3, P8, ...) is named at the
line that checks it. Where there is a choice, this file prefers the plain way to the fast one. Nothing is
allocated by a number that has not been checked against the file or a limit.
"""
import argparse
import hashlib
import io
import json
import math
import os
import struct
import sys
from array import array
from pathlib import Path

HEAD_MAGIC = bytes.fromhex("CD43444E410D0A1A")
TAIL_MAGIC = bytes.fromhex("CD43444E33454E44")
RECORD_MAGIC = bytes.fromhex("CD43444E33524543")
TAIL_TAG = b"CDNA3 root v1\0\0\0"
FOOTER_START = struct.pack("<I4s2x7Hi", 24, b"CDN3", 14, 24, 4, 8, 12, 16, 20, 14)
METADATA_START = struct.pack("<I4s4Hi", 16, b"CDNM", 8, 12, 4, 8, 8)
FOOTER_LIMIT = 2**28              # this reader's own limit; the format's is 2^30
MAX_BLOCK = 2**24                 # decoded bytes of a block
CUT = 2**20                       # entries after which a row is cut when rows_per_block is 0
PIECE = 16384                     # bytes of a piece of bulk data

TENSOR, ASSET, METADATA, ALIAS = range(4)
BIT_15 = 0x8000                   # in a kind: may be ignored; in a plane's role: decoding works without it
DATA, CODES, CODEBOOK, ROW_SCALE, GROUP_SCALE, SCALE_TABLE, OUTLIERS = range(1, 8)
RAW, ZSTD, BROTLI = range(3)
NONFINITE = 1                     # bit 0 of optional_features
ENCODINGS = {b"cdna.exact": (DATA,), b"cdna.codebook": range(CODES, OUTLIERS + 1)}
DTYPE_NAMES = ("none BOOL U8 I8 U16 I16 U32 I32 U64 I64 F16 BF16 F32 F64 C64 F8_E4M3 F8_E5M2 F8_E8M0 "
               "F8_E4M3FNUZ F8_E5M2FNUZ F6_E2M3 F6_E3M2 F4").split()
DTYPE_BITS = (0, 8, 8, 8, 16, 16, 32, 32, 64, 64, 16, 16, 32, 64, 64, 8, 8, 8, 8, 8, 6, 6, 4)
U8, F16, BF16, F32, F64 = map(DTYPE_NAMES.index, ("U8", "F16", "BF16", "F32", "F64"))

# The error class of each rule; all others are "malformed".
CLASSES = {rule: error_class for error_class, rules in {
    "not_cdna": "T1", "truncated": "T2 T11", "root_mismatch": "T4", "corrupt": "H1 T3 F1 X1 B1 G1 R1 D2",
    "unsupported": "T5 T6 T7 T9 T10 I1 I2 P1 P2 X2 U1 U2 U3 U4 U5 U6 U7",
    "limit": "T13 T14 I5 I6 I8 P4 P6 M1 caller"}.items() for rule in rules.split()}


class CdnaError(Exception):
    """What a file does wrong: the rule, its error class, and where in the file (None: at no one place)."""

    def __init__(self, rule, message, offset=None):
        self.rule, self.error_class = rule, CLASSES.get(rule, "malformed")
        self.message, self.offset = message, offset
        place = "" if offset is None else f", at {offset}"
        super().__init__(f"{rule} ({self.error_class}): {message}{place}")

    def outcome(self):
        return {"rule": self.rule, "class": self.error_class}


def need(condition, rule, message, offset=None):
    """The file keeps `rule` only if `condition` holds."""
    if not condition:
        raise CdnaError(rule, message, offset)


# ---- 1 Conventions, 4 Hashes ----

def align(x, n):
    return -(-x // n) * n


def ceil_div(x, y):
    return -(-x // y)


def RN(x):
    """x rounded to f32: nearest, ties to even, subnormals kept. Every NaN becomes 7FC00000."""
    return array("f", (x if x == x else math.nan,))[0]     # array, unlike struct.pack, overflows to infinity


def H(data):
    return hashlib.sha256(data).digest()


def D(chunks):
    """D of the concatenation of `chunks`: bulk data never needs to be in memory as a whole."""
    outer, rest = hashlib.sha256(), b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        whole = len(data) // PIECE * PIECE
        for start in range(0, whole, PIECE):
            outer.update(H(data[start:start + PIECE]))
        rest = data[whole:]
    if rest:
        outer.update(H(rest))
    return outer.digest()


class Source:
    """The bytes of a file, read by offset. Every read is a private copy."""

    def __init__(self, path_or_bytes):
        in_memory = isinstance(path_or_bytes, (bytes, bytearray, memoryview))
        self.stream = io.BytesIO(path_or_bytes) if in_memory else open(path_or_bytes, "rb")
        self.length = self.stream.seek(0, os.SEEK_END)

    def read(self, offset, length):
        self.stream.seek(offset)
        data = self.stream.read(length)
        if len(data) != length:
            raise OSError("the file became shorter while it was read")
        return data

    def is_zero(self, start, end):
        return not any(any(self.read(at, min(PIECE, end - at))) for at in range(start, end, PIECE))


class Wire:
    """A fixed structure: `form` and `names` say how its bytes become attributes."""

    def __init__(self, raw):
        vars(self).update(zip(self.names, self.form.unpack(raw)))


# ---- 5 Head and tail ----

HEAD = struct.Struct("<8sIBB50s")


class Tail(Wire):
    form = struct.Struct("<16sQQQQQII32sBB118s32s8s")
    names = ("tag required_features optional_features file_length footer_offset footer_length item_count "
             "version footer_digest align_log2 hash_suite reserved root magic").split()


def read_tail(source, expected_root):
    """T1 to T14. Before T4 holds, only the file's length, its first 8 and its last 256 bytes are used."""
    at = source.length - 256
    complete = source.length >= 448 and source.read(source.length - 8, 8) == TAIL_MAGIC
    begins = source.length >= 8 and source.read(0, 8) == HEAD_MAGIC
    need(complete or begins, "T1", "neither begins nor ends as a CDNA file", 0)
    need(complete, "T2", "the file ends without a tail")
    raw = source.read(at, 256)
    tail = Tail(raw)
    need(H(raw[:216]) == tail.root, "T3", "the root is not the hash of the tail", at + 216)
    need(expected_root in (None, tail.root), "T4", "not the file that is expected", at + 216)
    need(tail.tag == TAIL_TAG, "T5", "unknown tag", at)
    need(tail.version == 3, "T6", f"version {tail.version}", at + 60)
    need(tail.hash_suite == 1, "T7", f"hash suite {tail.hash_suite}", at + 97)
    need(6 <= tail.align_log2 <= 16, "T8", "alignment out of range", at + 96)
    need(not any(tail.reserved), "T9", "reserved bytes are not zero", at + 98)
    bits = [bit for bit in range(64) if tail.required_features >> bit & 1]
    need(not bits, "T10", f"unknown required features: bits {bits}", at + 16)
    need(tail.file_length == source.length < 2**63, "T11", "not the recorded length", at + 32)
    need(tail.footer_offset % 64 == 0 and tail.footer_offset >= 64 and tail.footer_length >= 88
         and tail.footer_length % 8 == 0 and align(tail.footer_offset + tail.footer_length, 64) == at,
         "T12", "the footer is not where a footer can be", at + 40)
    need(tail.footer_length <= FOOTER_LIMIT, "T13", "the footer is too long", at + 48)
    need(tail.item_count <= 2**24, "T14", "too many items", at + 56)
    return tail


def check_head(source, align_log2, hash_suite):
    expected = HEAD.pack(HEAD_MAGIC, 3, align_log2, hash_suite, b"")
    need(source.read(0, 64) == expected, "H1", "the head is not as it must be", 0)


# ---- 6 Footer, and the layout that it shares with the metadata (section 14) ----

def split_vectors(buffer, start, sizes, rule, base=0):
    """The vectors of a fixed-layout FlatBuffer, whose offset fields follow `start`, as (count, bytes)."""
    end, vectors = len(start) + 4 * len(sizes), []
    for here, size in zip(range(len(start), end, 4), sizes):
        place = align(end - 4, 8) + 4                      # the first p >= end with p mod 8 = 4
        offset, = struct.unpack_from("<I", buffer, here)
        need(offset == place - here, rule, "a vector is not where it must be", base + here)
        need(place + 4 <= len(buffer) and not any(buffer[end:place]), rule, "padding", base + end)
        count, = struct.unpack_from("<I", buffer, place)
        end = place + 4 + count * size
        need(end <= len(buffer), rule, "a vector does not fit", base + place)
        vectors.append((count, buffer[place + 4:end]))
    need(align(end, 8) == len(buffer) and not any(buffer[end:]), rule, "the end", base + end)
    return vectors


def join_vectors(start, vectors):
    """The reverse of split_vectors."""
    buffer = bytearray(start + bytes(4 * len(vectors)))
    for number, (count, elements) in enumerate(vectors):
        place, here = align(len(buffer) - 4, 8) + 4, len(start) + 4 * number
        struct.pack_into("<I", buffer, here, place - here)
        buffer += bytes(place - len(buffer)) + struct.pack("<I", count) + elements
    return bytes(buffer + bytes(-len(buffer) % 8))


# ---- 7 Items ----

class Item(Wire):
    form = struct.Struct("<QQ32s32sddfIIIIHHHHBBBBQQ16s")
    names = ("packet_offset index_offset index_digest source_digest sum_squares sum_squared_error "
             "max_abs_error entry_count first_dim first_plane text_offset name_length type_length "
             "kind role dtype rank plane_count row_dims required_features optional_features reserved").split()

    def __init__(self, raw, number, offset):
        super().__init__(raw)
        self.raw, self.number, self.offset = raw, number, offset      # offset: where raw is in the file
        self.error_numbers = self.sum_squares, self.sum_squared_error, self.max_abs_error
        self.sizes = 8 * self.rank, 48 * self.plane_count, self.name_length + self.type_length
        self.record_length = align(64 + 160 + sum(self.sizes), 64)

    def attach(self, dims, planes, text):
        """Gives the item its slices of the pools, of the lengths `sizes`."""
        self.slices = dims, planes, text
        self.dims = list(struct.unpack(f"<{self.rank}Q", dims))
        self.rows = math.prod(self.dims[:self.row_dims])
        self.cols = math.prod(self.dims[self.row_dims:])
        self.planes = [Plane(planes[at:at + 48]) for at in range(0, len(planes), 48)]
        self.needed_planes = [plane for plane in self.planes if not plane.role & BIT_15]
        self.name, self.type = text[:self.name_length], text[self.name_length:]

    def sort_key(self):
        return self.kind not in (TENSOR, ALIAS), self.name


class Sums:
    """What the items so far have used of the pools (in bytes) and of the file (I3), and their features."""

    def __init__(self):
        self.sizes, self.end, self.features = (0, 0, 0), 64, (0, 0)

    def add(self, item):
        self.sizes = tuple(map(sum, zip(self.sizes, item.sizes)))
        self.end = item.record_offset + item.record_length
        self.features = (self.features[0] | item.required_features, self.features[1] | item.optional_features)


def check_item_place(item, sums, pool_sizes):
    """The rules that come before the item's slices of the pools are looked at."""
    at = item.offset
    need(not any(item.reserved), "I1", "reserved bytes are not zero", at + 144)
    need(item.kind <= ALIAS or item.kind & BIT_15, "I2", f"kind {item.kind}", at + 120)
    need(item.rank <= 8, "I5", f"rank {item.rank}", at + 125)
    need(item.plane_count <= 32, "I6", f"{item.plane_count} planes", at + 126)
    need((8 * item.first_dim, 48 * item.first_plane, item.text_offset) == sums.sizes
         and item.packet_offset == sums.end, "I3", "the item does not follow the one before", at)
    need(all(used + size <= pool for used, size, pool in zip(sums.sizes, item.sizes, pool_sizes)),
         "I3", "a slice is not within its vector", at)


def check_item(item, earlier, is_last, footer_offset, alignment):
    """The other rules of sections 7 and 8, in the order of section 16.2; finds the place of the record."""
    at, content = item.offset, item.kind in (ASSET, METADATA)
    need(item.row_dims <= item.rank, "I7", "row_dims is above the rank", at + 127)
    elements = math.prod(max(dim, 1) for dim in item.dims)
    need(item.kind == ALIAS or elements < 2**60, "I8", "too many elements", at)
    need(all(map(is_bound, item.error_numbers)), "I9", "an error number is negative or NaN", at + 80)
    if item.kind == TENSOR:
        need(item.planes and item.type_length, "I10", "a tensor without plane or encoding", at)
    elif content:
        need((item.rank, item.row_dims, item.dtype, item.plane_count) == (1, 0, U8, 1)
             and (item.kind == ASSET or not item.type_length), "I11", "not a run of bytes", at)
        need(item.kind == ASSET or is_last, "I12", "metadata is not the last item", at)
    elif item.kind == ALIAS:
        need((item.rank, item.row_dims, item.dtype, item.plane_count, item.type_length) == (1, 0, 0, 0, 0)
             and not any(item.source_digest) and not any(item.error_numbers)
             and item.dims[0] < len(earlier) and earlier[item.dims[0]].kind == TENSOR,
             "I13", "not an alias of an earlier tensor", at)
    end = item.packet_offset
    for number, plane in enumerate(item.planes):
        end = check_plane(item, plane, number, end, footer_offset, alignment)
    need(not content or (is_plane(plane, 1, (U8,), item.dims[0]) and (plane.role, plane.vector) == (DATA, 1)),
         "I11", "the plane is not one row of bytes", at)
    blocks = sum(plane.block_count for plane in item.planes)
    need(item.entry_count == blocks, "I14", "entry_count is not the number of blocks", at + 100)
    need(item.index_offset == (align(end, 64) if blocks else 0) and (blocks or item.index_digest == H(b"")),
         "I15", "the index is not where it must be", at + 8)
    item.record_offset = item.index_offset + 64 * blocks if blocks else align(end, 64)


def is_bound(number):
    return number >= 0 and math.copysign(1, number) > 0


# ---- 8 Planes and blocks ----

class Plane(Wire):
    form = struct.Struct("<QQQIIHHBBBBBBHI")
    names = ("offset stored_length row_entries block_count rows_per_block role group bits dtype scope layout "
             "codecs vector reserved_a reserved_b").split()

    def __init__(self, raw):
        super().__init__(raw)
        self.row_bytes = ceil_div(self.row_entries * self.bits, 8)


def expected_block_count(plane, item):
    if plane.scope == 2:
        return item.planes[0].block_count
    if plane.rows * plane.row_bytes == 0:
        return 0
    if plane.rows_per_block:
        return ceil_div(plane.rows, plane.rows_per_block)
    return plane.rows * ceil_div(plane.row_entries, CUT)


def block_extent(plane, number):
    """Rows, first column and columns of a block of a plane with scope 0 or 1."""
    if plane.rows_per_block:
        return min(plane.rows_per_block, plane.rows - number * plane.rows_per_block), 0, plane.row_entries
    column = number % ceil_div(plane.row_entries, CUT) * CUT
    return 1, column, min(CUT, plane.row_entries - column)


def check_plane(item, plane, number, end, footer_offset, alignment):
    """P1 to P9. `end` is where the plane before ends; returns where this one does."""
    first, at = item.planes[0], item.offset
    need(plane.reserved_a == plane.reserved_b == 0, "P1", f"plane {number}: reserved bytes", at)
    need(plane.scope <= 2, "P2", f"plane {number}: scope {plane.scope}", at)
    need(1 <= plane.bits <= 128 and first.scope == 1
         and (plane.scope != 2 or (plane.bits == 8 and plane.row_entries == plane.rows_per_block == 0)),
         "P3", f"plane {number}: bits or scope", at)
    plane.rows = (1, item.rows, 0)[plane.scope]            # scope 2 has blocks, but no rows
    size = plane.rows * plane.row_bytes
    need(plane.row_entries < 2**60 and size < 2**63, "P4", f"plane {number}: too large", at)
    need(plane.block_count == expected_block_count(plane, item), "P5", f"plane {number}: block_count", at)
    need(plane.rows_per_block * plane.row_bytes <= MAX_BLOCK, "P6", f"plane {number}: large blocks", at)
    need(number == 0 or plane.scope != 1 or plane.rows_per_block == 0 or plane.rows_per_block >= plane.rows
         or plane.rows_per_block % max(1, first.rows_per_block) == 0,
         "P7", f"plane {number}: blocks are not made of whole blocks of plane 0", at)
    need(plane.layout != 0 or (plane.scope != 2 and plane.stored_length == size and plane.codecs <= 1),
         "P8", f"plane {number}: not contiguous", at)
    need((plane.codecs == 0) == (plane.block_count == 0), "P8", f"plane {number}: codecs", at)
    # Not stated, but without it the plane's bytes would be under no digest.
    need(plane.block_count or not plane.stored_length, "P8", f"plane {number}: bytes without blocks", at)
    step = alignment if plane.scope != 2 and size >= 256 * alignment else 64
    offset = align(end, step) if plane.stored_length else 0
    need(plane.offset == offset and offset + plane.stored_length <= footer_offset,
         "P9", f"plane {number}: place", at)
    return offset + plane.stored_length if plane.stored_length else end


# ---- 9 Index ----

class Entry(Wire):
    form = struct.Struct("<QIIBBHfQ32s")
    names = ("offset stored_length decoded_length codec filter reserved_a max_abs_error reserved_b "
             "digest").split()


def check_index(item, data):
    """X1 to X9. Returns the entries of each plane."""
    at = item.index_offset
    need(H(data) == item.index_digest, "X1", "the index differs from its digest", at)
    index = []
    for plane in item.planes:
        end, entries = 0, []
        for number in range(plane.block_count):
            start = at - item.index_offset
            entry = Entry(data[start:start + 64])
            check_entry(item, plane, number, entry, end, at)
            entries.append(entry)
            end, at = entry.offset + entry.stored_length, at + 64
        index.append(entries)
    codecs = [sum({1 << entry.codec for entry in entries}) for entries in index]
    largest = max((entry.max_abs_error for entries in index[:1] for entry in entries), default=0)
    need(codecs == [plane.codecs for plane in item.planes] and largest == item.max_abs_error,
         "X9", "codecs or max_abs_error are not those of the entries", item.index_offset)
    return index


def check_entry(item, plane, number, entry, end, at):
    """X2 to X8 for block `number` of a plane; `end` is where the block before ends."""
    need(entry.reserved_a == entry.reserved_b == 0, "X2", "reserved bytes are not zero", at)
    length = entry.decoded_length
    if plane.scope != 2:
        rows, _, columns = block_extent(plane, number)
        need(length == rows * ceil_div(columns * plane.bits, 8), "X3", "not the length of the block", at + 12)
    need(length <= MAX_BLOCK, "X3", "the block is too large", at + 12)
    # With layout 0, X7 of the blocks before has made stored lengths of their decoded lengths.
    placed = (entry.offset == end, entry.offset == align(end, 64), entry.offset >= end)[min(plane.layout, 2)]
    need(placed, "X4", "the block is not where it must be", at)
    room = plane.stored_length - entry.offset - entry.stored_length
    need(room == 0 if number == plane.block_count - 1 else room >= 0, "X5", "end of the block", at)
    need(entry.codec <= 7 and plane.codecs >> entry.codec & 1, "X6", "codec not announced", at + 16)
    if entry.filter == 0 and entry.codec == RAW:
        need(entry.stored_length == length, "X7", "a raw block of another length", at + 8)
    elif entry.filter == 0 and entry.codec in (ZSTD, BROTLI):
        need(0 < entry.stored_length < length, "X7", "the codec saves nothing", at + 8)
    need(plane.layout != 0 or entry.codec == entry.filter == 0, "X7", "a contiguous plane is raw", at + 16)
    exact = plane is not item.planes[0] or item.kind in (ASSET, METADATA)
    error = entry.max_abs_error
    need(is_bound(error) and (error == 0 or not exact), "X8", "max_abs_error", at + 20)


# ---- 10 Record ----

def make_record(item):
    start = struct.pack("<8sIIQ8x", RECORD_MAGIC, item.record_length, item.number, item.record_offset)
    body = (item.raw + b"".join(item.slices)).ljust(item.record_length - 64, b"\0")
    return start + H(start + body) + body


# ---- 11 Names ----

def is_utf8(data):
    try:
        return data.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def ascending(keys):
    return all(a < b for a, b in zip(keys, keys[1:]))


def check_names(order, items):
    for item in items:
        at = item.offset
        need(1 <= item.name_length <= 1024, "N1", "length of the name", at + 116)
        need(is_utf8(item.name), "N2", "the name is not UTF-8", at)
        control = any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in item.name.decode())
        need(not control, "N3", "a control character in the name", at)
        printable = all(0x20 <= byte <= 0x7E for byte in item.type)
        need(item.type_length <= 255 and printable, "N4", "the type is not short printable ASCII", at)
    need(all(number < len(items) for number in order)
         and ascending([items[number].sort_key() for number in order]), "N5", "names are not in order")


# ---- 12 Codecs ----

def decode_zstd(stored, length, at):
    """C1, C2. The headers are walked by hand: the library is asked for the content and nothing else."""
    need(len(stored) >= 6 and stored[:4] == b"\x28\xb5\x2f\xfd", "C1", "no zstd frame", at)
    descriptor, window, place = stored[4], 0, 5
    need(descriptor & 0b11111 == 0, "C1", "dictionary, checksum or reserved bit", at + 4)
    single_segment = descriptor >> 5 & 1
    if not single_segment:
        window, place = (8 + (stored[5] & 7)) << (7 + (stored[5] >> 3)), 6
    size = (single_segment, 2, 4, 8)[descriptor >> 6]
    need(size and len(stored) >= place + size, "C1", "no content size", at + 4)
    content = int.from_bytes(stored[place:place + size], "little") + (256 if size == 2 else 0)
    need(content == length, "C1", "the content size is not decoded_length", at + place)
    need(window <= max(1024, length), "C1", "the window is too large", at + 5)
    place, last = place + size, 0
    while not last:
        need(place + 3 <= len(stored), "C2", "the frame is cut off", at + place)
        header = int.from_bytes(stored[place:place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        place += 3 + (1 if kind == 1 else size)            # kind 1 repeats one byte
    need(place == len(stored), "C2", "the frame does not end with the block", at)
    import zstandard
    try:                          # it allocates the content size, which is decoded_length
        decoded = zstandard.ZstdDecompressor(max_window_size=max(1024, length)).decompress(stored)
    except zstandard.ZstdError as error:
        raise CdnaError("C2", str(error), at) from None
    need(len(decoded) == length, "C2", "the frame yields another length", at)
    return decoded


def decode_brotli(stored, length, at):
    """C3, C4. The stream must need the last stored byte and be complete with it."""
    n, m = stored[0] >> 1 & 7, stored[0] >> 4 & 7
    need(stored[0] & 1 == 0 or n or m != 1, "C3", "large window", at)
    wbits = 16 if stored[0] & 1 == 0 else 17 + n if n else 8 + m if m else 17
    need(wbits <= max(16, (length - 1).bit_length()), "C3", f"WBITS {wbits}", at)
    import brotli
    decoder, decoded, last = brotli.Decompressor(), bytearray(), len(stored) - 1
    try:
        # Some ten bytes make a meta-block that yields 16 MiB: short pieces bound what one call yields.
        for start in range(0, last, 16):
            decoded += decoder.process(stored[start:min(start + 16, last)])
            need(len(decoded) <= length and not decoder.is_finished(), "C4", "too much, or ends early", at)
        decoded += decoder.process(stored[last:])
    except brotli.error as error:
        raise CdnaError("C4", str(error), at) from None
    need(decoder.is_finished() and len(decoded) == length, "C4", "cut off, or another length", at)
    return bytes(decoded)


# ---- 13 Encodings ----

def unsupported_rule(item):
    """The first of U1 to U6 that holds for the item, or None."""
    tensor = item.kind == TENSOR
    if tensor and item.type not in ENCODINGS:
        return "U1"
    if tensor and not 1 <= item.dtype < len(DTYPE_NAMES):
        return "U2"
    for plane in item.needed_planes:
        if tensor and plane.role not in ENCODINGS[item.type]:
            return "U3"
        if plane.layout > 1:
            return "U4"
        if plane.codecs >> 3:
            return "U5"
        if tensor and plane.vector != 1:
            return "U6"
    return None


def is_plane(plane, scope, dtypes, row_entries, groups=(0,)):
    return (plane.scope == scope and plane.dtype in dtypes and plane.bits == DTYPE_BITS[plane.dtype]
            and plane.row_entries == row_entries and plane.group in groups)


def check_encoding(item):
    """E1, E2. That planes with bit 15 come last has no rule of its own, and is taken to be part of both."""
    needed = item.needed_planes
    by_role = {plane.role: plane for plane in needed}
    ordered = item.planes[:len(needed)] == needed == [by_role[role] for role in sorted(by_role)]
    whole_rows = item.cols * DTYPE_BITS[item.dtype] % 8 == 0
    if item.type == b"cdna.exact":
        need(ordered and DATA in by_role and is_plane(by_role[DATA], 1, (item.dtype,), item.cols)
             and not any(item.error_numbers) and (item.rows <= 1 or whole_rows),
             "E1", "not as an exact tensor must be", item.offset)
        return
    need(ordered and CODES in by_role and CODEBOOK in by_role and item.dtype in (F16, BF16, F32, F64),
         "E2", "not the planes of a codebook tensor", item.offset)
    codes, groups, outliers = by_role[CODES], by_role.get(GROUP_SCALE), by_role.get(OUTLIERS)
    cells = ceil_div(item.cols, groups.group or 1) if groups else 0
    fits = {CODES: (codes.scope, codes.dtype, codes.row_entries, codes.group) == (1, 0, item.cols, 0)
            and codes.bits <= 16,
            CODEBOOK: is_plane(by_role[CODEBOOK], 0, (F16, F32), 2**codes.bits),
            ROW_SCALE: is_plane(by_role.get(ROW_SCALE, codes), 1, (F32,), 1),
            GROUP_SCALE: groups and is_plane(groups, 1, (F32, F16, BF16, U8), cells, (32, 64, 128)),
            SCALE_TABLE: groups and groups.dtype == U8
            and is_plane(by_role.get(SCALE_TABLE, codes), 0, (F32,), 256),
            OUTLIERS: outliers and (outliers.scope, outliers.group) == (2, 0)
            and outliers.dtype in (F16, BF16, F32, F64)}
    need(all(fits[role] for role in by_role) and (SCALE_TABLE in by_role or not groups or groups.dtype != U8),
         "E2", "a plane is not as a codebook tensor needs it", item.offset)


def check_block(item, plane, number, block, at):
    """E3 to E6 for a decoded block."""
    if plane.scope != 2:
        rows, _, columns = block_extent(plane, number)
        size, used = len(block) // rows, columns * plane.bits % 8     # bits of a row's last byte; 0: all
        need(not used or max(block[size - 1::size]) < 1 << used, "E4", "unused bits are not zero", at)
    if plane.role == OUTLIERS:
        size = DTYPE_BITS[plane.dtype] // 8
        need(len(block) % (4 + size) == 0, "E5", "not a whole number of outliers", at)
        rows, _, columns = block_extent(item.planes[0], number)
        positions = array("I", (position for position, _ in outliers_of(block, size)))
        need(ascending(positions) and max(positions, default=-1) < rows * columns, "E6", "positions", at)
    if plane.role == CODEBOOK:
        values = list(floats(block, plane.dtype))
        need(values[0] == values[0] and all(a <= b for a, b in zip(values, values[1:])),
             "E3", "the codebook is not ascending", at)


def outliers_of(block, size):
    """(position, bytes of the value) of each outlier: the values come first, then the positions."""
    count = len(block) // (4 + size)
    for number in range(count):
        place = size * count + 4 * number
        yield int.from_bytes(block[place:place + 4], "little"), block[size * number:size * (number + 1)]


def floats(data, dtype):
    """The values of float entries, as Python floats, which hold every one exactly."""
    if dtype == BF16:
        data, dtype = b"".join(b"\0\0" + data[at:at + 2] for at in range(0, len(data), 2)), F32
    return (value for value, in struct.iter_unpack({F16: "<e", F32: "<f", F64: "<d"}[dtype], data))


def outlier_to_f32(raw, dtype):
    """The four bytes of RN(outlier value). A NaN keeps its sign and the upper bits of its payload."""
    bits, value = int.from_bytes(raw, "little"), next(floats(raw, dtype))
    if dtype in (F32, BF16):
        return raw.rjust(4, b"\0")
    if value == value:
        return struct.pack("<f", RN(value))
    if dtype == F16:
        return struct.pack("<I", (bits & 0x8000) << 16 | 0x7F800000 | (bits & 0x3FF) << 13)
    return struct.pack("<I", bits >> 63 << 31 | 0x7FC00000 | bits >> 29 & 0x3FFFFF)


def unpack_codes(data, bits, count):
    """`count` codes of a bit string, least significant bit first: eight codes take `bits` whole bytes."""
    for first in range(0, count, 8):
        place = first // 8 * bits
        word = int.from_bytes(data[place:place + bits], "little")
        for _ in range(min(8, count - first)):
            yield word & (1 << bits) - 1
            word >>= bits


def codebook_values(item, blocks):
    """The decoded bytes of a codebook tensor, in pieces. `blocks(role)` yields decoded blocks."""
    by_role = {plane.role: plane for plane in item.needed_planes}
    codes, groups, outlier_plane = by_role[CODES], by_role.get(GROUP_SCALE), by_role.get(OUTLIERS)

    def entries(role):            # the entries of a plane, row after row, or None
        dtype = by_role[role].dtype if role in by_role else None
        read = iter if dtype == U8 else lambda block: floats(block, dtype)
        return dtype and (entry for block in blocks(role) for entry in read(block))

    codebook, scale_table = list(entries(CODEBOOK)), list(entries(SCALE_TABLE) or ())
    row_scales, group_scales = entries(ROW_SCALE), entries(GROUP_SCALE)
    outlier_blocks = blocks(OUTLIERS) if outlier_plane else iter(())
    outlier_size = DTYPE_BITS[outlier_plane.dtype] // 8 if outlier_plane else 0
    row_scale, values = None, bytearray()
    for number, block in enumerate(blocks(CODES)):
        rows, first_column, columns = block_extent(codes, number)
        size = len(block) // rows
        outliers = outliers_of(next(outlier_blocks, b""), outlier_size)
        next_position, raw = next(outliers, (None, None))
        for row in range(rows):
            if row_scales and first_column == 0:
                row_scale = next(row_scales)
            scale = row_scale
            row_codes = unpack_codes(block[row * size:(row + 1) * size], codes.bits, columns)
            for column, code in enumerate(row_codes):
                if groups and column % groups.group == 0:
                    scale = next(group_scales)
                    scale = scale_table[scale] if scale_table else scale
                    scale = scale if row_scale is None else RN(scale * row_scale)
                if row * columns + column == next_position:
                    values += outlier_to_f32(raw, outlier_plane.dtype)
                    next_position, raw = next(outliers, (None, None))
                else:
                    w = codebook[code] if scale is None else RN(codebook[code] * scale)
                    values += struct.pack("<f", w)
                if len(values) == 2**16:                   # memory does not grow with the tensor
                    yield bytes(values)
                    values.clear()
    yield bytes(values)


# ---- 14 Metadata ----

def read_metadata(content):
    """M2 to M5. Returns {key: (type, value)} without the values of unknown types."""
    need(len(content) >= 40 and content[:20] == METADATA_START, "M2", "the fixed bytes differ")
    (_, raw_entries), (_, text) = split_vectors(content, METADATA_START, (24, 1), "M2")
    entries = list(struct.iter_unpack("<QIIB7s", raw_entries))
    need(not any(any(reserved) for *_, reserved in entries), "M2", "reserved bytes are not zero")
    end, pairs = 0, []
    for value, text_offset, key_length, kind, _ in entries:
        need(text_offset == end, "M3", "a key does not follow what is before")
        key_end = end + key_length
        end = key_end + (value if 5 <= kind <= 127 else 0)
        need(end <= len(text), "M3", "a key or value is not within the text")
        pairs.append((text[text_offset:key_end], kind, text[key_end:end] if 5 <= kind <= 127 else value))
    need(end == len(text), "M3", "text after the last value")
    keys = [key for key, _, _ in pairs]
    need(all(map(is_utf8, keys)) and all(keys) and ascending(keys), "M4", "keys are not ascending UTF-8")
    for _, kind, value in pairs:
        need((kind, value) == (0, 0) if kind == 0 else kind != 1 or value <= 1, "M5", "null or bool")
        need(kind not in (5, 7) or is_utf8(value), "M5", "a string is not UTF-8")
    return {key.decode(): (kind, value) for key, kind, value in pairs if kind <= 7}


# ---- 16 Readers ----

class File:
    """An open file (section 16.2, step 1). Items and blocks are checked when they are touched."""

    def __init__(self, source, expected_root):
        self.source, self.tail, self.items = source, read_tail(source, expected_root), []
        self.root = self.tail.root
        self.read_footer()
        check_head(source, self.tail.align_log2, self.tail.hash_suite)

    def read_footer(self):
        tail, base = self.tail, self.tail.footer_offset
        footer = self.source.read(base, tail.footer_length)
        need(H(footer) == tail.footer_digest, "F1", "the footer differs from its digest", base)
        need(footer[:28] == FOOTER_START, "F2", "the fixed bytes differ", base)
        vectors = split_vectors(footer, FOOTER_START, (160, 48, 8, 4, 1), "F3", base)
        (count, items), (_, planes), (_, dims), (order_count, order), (_, text) = vectors
        need(count == order_count == tail.item_count, "F4", "item_count", base)
        pools, sums = (dims, planes, text), Sums()
        for number in range(count):
            item = Item(items[160 * number:160 * (number + 1)], number, base + 56 + 160 * number)
            check_item_place(item, sums, map(len, pools))
            item.attach(*(pool[at:at + size] for pool, at, size in zip(pools, sums.sizes, item.sizes)))
            check_item(item, self.items, number == count - 1, base, 1 << tail.align_log2)
            if item.kind == TENSOR and not unsupported_rule(item):
                check_encoding(item)
            self.items.append(item)
            sums.add(item)
        need(sums.sizes == tuple(map(len, pools)) and sums.end == base, "F5", "something is left", base)
        need(sums.features == (tail.required_features, tail.optional_features), "F6", "features", base)
        check_names(struct.unpack(f"<{order_count}I", order), self.items)

    def find(self, name):
        """The item of that name: of an alias its tensor, and rather a tensor than another kind."""
        for item in sorted(self.items, key=Item.sort_key):
            if item.name == name.encode():
                return self.items[item.dims[0]] if item.kind == ALIAS else item
        raise KeyError(name)

    def read_index(self, item):
        need(item.kind != METADATA or item.dims[0] <= 2**26, "M1", "too much metadata", item.offset)
        return check_index(item, self.source.read(item.index_offset, 64 * item.entry_count))

    def read_stored(self, plane, entry):
        at = plane.offset + entry.offset
        stored = self.source.read(at, entry.stored_length)
        need(D([stored]) == entry.digest, "B1", "a block differs from its digest", at)
        return stored

    def read_blocks(self, item, index, role):
        """The decoded blocks of one plane; digests are checked at each reading, for a file can change."""
        plane, entries = next(pair for pair in zip(item.planes, index) if pair[0].role == role)
        decoders = {RAW: lambda stored, length, at: stored, ZSTD: decode_zstd, BROTLI: decode_brotli}
        for number, entry in enumerate(entries):
            at = plane.offset + entry.offset
            block = decoders[entry.codec](self.read_stored(plane, entry), entry.decoded_length, at)
            check_block(item, plane, number, block, at)
            yield block

    def decode_item(self, number):
        """Steps 2 and 3 for a whole item: its decoded bytes in pieces; None for aliases, ignorable kinds."""
        item = self.items[number]
        index = self.read_index(item)
        for plane, entries in zip(item.planes, index):
            for entry in entries:
                self.read_stored(plane, entry)
        if item.kind not in (TENSOR, ASSET, METADATA):
            return None
        rule = unsupported_rule(item)
        need(rule is None, rule, "the reader does not know how to decode this", item.offset)
        needed = [entries for plane, entries in zip(item.planes, index) if not plane.role & BIT_15]
        need(not any(entry.filter for entries in needed for entry in entries), "U7", "filter", item.offset)
        if item.kind == TENSOR and item.type == b"cdna.codebook":
            for plane in item.needed_planes:               # all rules come before the first value
                for _ in self.read_blocks(item, index, plane.role):
                    pass
            return codebook_values(item, lambda role: self.read_blocks(item, index, role))
        blocks = self.read_blocks(item, index, DATA)
        if item.kind == METADATA:
            blocks = [b"".join(blocks)]                    # at most 2^26 bytes (M1)
            read_metadata(blocks[0])
        return blocks

    def read_item(self, number, limit=2**32):
        """The decoded bytes of an item (section 19), or None. `limit` is the caller's, not the format's."""
        pieces, content = self.decode_item(number), bytearray()
        for piece in pieces or ():
            need(len(content) + len(piece) <= limit, "caller", "more bytes than the caller wants")
            content += piece
        return None if pieces is None else bytes(content)

    def deep_check(self):
        """Step 4, after all items have been read. An unsupported item is no reason to stop."""
        readable = []
        for item in self.items:
            try:
                for _ in self.decode_item(item.number) or ():
                    pass
                readable.append(item)
            except CdnaError as error:
                if error.error_class != "unsupported":
                    raise
        for item in readable:
            self.check_values(item)
        self.check_layout()

    def check_values(self, item):
        """D1, D2."""
        if item.kind == TENSOR and item.type == b"cdna.codebook" and not item.optional_features & NONFINITE:
            index = self.read_index(item)
            for plane in item.needed_planes:
                size = DTYPE_BITS[plane.dtype] // 8
                if plane.role == CODES or plane.dtype == U8:
                    continue
                for block in self.read_blocks(item, index, plane.role):
                    values = block[:len(block) // (4 + size) * size] if plane.role == OUTLIERS else block
                    finite = all(map(math.isfinite, floats(values, plane.dtype)))
                    need(finite, "D1", "a value is not finite", plane.offset)
        elif item.kind in (ASSET, METADATA) or (item.kind == TENSOR and item.type == b"cdna.exact"):
            need(not any(item.source_digest) or D(self.decode_item(item.number)) == item.source_digest,
                 "D2", "the content differs from source_digest", item.offset)

    def check_layout(self):
        """G1, R1, in file order: what belongs to nothing is zero."""
        end = 64
        for start, stop, record_of in self.extents():
            need(self.source.is_zero(end, start), "G1", "a gap is not zero", end)
            need(record_of is None or self.source.read(start, stop - start) == make_record(record_of),
                 "R1", "the record is not that of the item", start)
            end = stop

    def extents(self):
        """(start, end, item whose record it is, if it is one) of all that follows the head, in file order."""
        for item in self.items:
            try:
                index = self.read_index(item)
            except CdnaError:     # X2: the places of the blocks are not known
                index = None
            for number, plane in enumerate(item.planes):
                at = plane.offset
                for entry in index[number] if index else ():
                    if entry.stored_length:
                        yield at + entry.offset, at + entry.offset + entry.stored_length, None
                if plane.stored_length and not index:
                    yield at, at + plane.stored_length, None
            if item.entry_count:
                yield item.index_offset, item.index_offset + 64 * item.entry_count, None
            yield item.record_offset, item.record_offset + item.record_length, item
        yield self.tail.footer_offset, self.tail.footer_offset + self.tail.footer_length, None
        yield self.source.length - 256, self.source.length, None


def open_file(path_or_bytes, expected_root=None):
    """Opens a file. `expected_root`: 32 bytes, or their hex digits."""
    expected = bytes.fromhex(expected_root) if isinstance(expected_root, str) else expected_root
    return File(Source(path_or_bytes), expected)


# ---- 18 Recovery ----

def record_at(source, place, sums, items, alignment):
    """The item of the record at `place` if it can be the next one, else None."""
    if source.length - place < 64 + 160 or source.read(place, 8) != RECORD_MAGIC:
        return None
    item = Item(source.read(place + 64, 160), len(items), place + 64)
    if item.record_length > min(2**17, source.length - place):
        return None
    slices = io.BytesIO(source.read(place + 224, sum(item.sizes)))
    try:
        check_item_place(item, sums, (math.inf,) * 3)
        item.attach(*map(slices.read, item.sizes))
        check_item(item, items, True, place, alignment)
    except CdnaError:
        return None
    # Comparing with the record that the item would have checks its number, offset, zeros and digest at once.
    same = item.record_offset == place and source.read(place, item.record_length) == make_record(item)
    return item if same else None


def rebuild(path_or_bytes):
    """The file that head and records describe, and whether it has all items. It is yet to be checked."""
    source = Source(path_or_bytes)
    need(source.length >= 64, "H1", "no head", 0)
    align_log2 = source.read(12, 1)[0]
    need(6 <= align_log2 <= 16, "H1", "no alignment in the head", 12)
    check_head(source, align_log2, 1)
    items, sums, place, complete = [], Sums(), 64, False
    while place < source.length and not complete:          # nothing can follow metadata (I12)
        item = record_at(source, place, sums, items, 1 << align_log2)
        place += 64
        if item:
            items.append(item)
            sums.add(item)
            place, complete = sums.end, item.kind == METADATA
    order = [item.number for item in sorted(items, key=Item.sort_key)]
    pools = [b"".join(item.slices[k] for item in items) for k in range(3)]
    footer = join_vectors(FOOTER_START, [
        (len(items), b"".join(item.raw for item in items)), (len(pools[1]) // 48, pools[1]),
        (len(pools[0]) // 8, pools[0]), (len(order), struct.pack(f"<{len(order)}I", *order)),
        (len(pools[2]), pools[2])])
    body = source.read(0, sums.end) + footer
    body = body.ljust(align(len(body), 64), b"\0")
    tail = Tail.form.pack(TAIL_TAG, *sums.features, len(body) + 256, sums.end, len(footer), len(items), 3,
                          H(footer), align_log2, 1, b"", b"", b"")[:216]
    return body + tail + H(tail) + TAIL_MAGIC, complete


# ---- 19 Conformance ----

def examine(path_or_bytes, expected_root=None):
    """The outcome of a file, as the `.json` of a test vector states it."""
    try:
        file = open_file(path_or_bytes, expected_root)
    except CdnaError as error:
        return {"open": error.outcome(), "items": [], "deep": None}
    items, deep = [examine_item(file, item) for item in file.items], None
    if all(item["status"] == "ok" or item["status"]["class"] == "unsupported" for item in items):
        try:
            file.deep_check()
            deep = "clean"
        except CdnaError as error:
            deep = error.outcome()
    return {"open": "ok", "root": file.root.hex(), "items": items, "deep": deep}


def examine_item(file, item):
    status, digest = "ok", None
    try:
        pieces, content = file.decode_item(item.number), hashlib.sha256()
        for piece in pieces or ():
            content.update(piece)
        digest = None if pieces is None else content.hexdigest()
    except CdnaError as error:
        status = error.outcome()
    dtype = DTYPE_NAMES[item.dtype] if item.dtype < len(DTYPE_NAMES) else str(item.dtype)
    return {"number": item.number, "name": item.name.decode(), "kind": item.kind, "dtype": dtype,
            "shape": item.dims, "encoding": item.type.decode(), "status": status, "decoded_sha256": digest,
            "alias_of": item.dims[0] if item.kind == ALIAS else None}


def disagreements(expected, outcome):
    for key in ("open", "root", "deep"):
        if expected.get(key) != outcome.get(key):
            yield f"{key}: expected {expected.get(key)}, found {outcome.get(key)}"
    wanted, found = expected.get("items") or [], outcome["items"]
    if len(wanted) != len(found):
        yield f"expected {len(wanted)} items, found {len(found)}"
    for want, have in zip(wanted, found):
        for key in have:
            if want.get(key) != have[key]:
                yield f"item {have['number']}, {key}: expected {want.get(key)}, found {have[key]}"


def conform(directories):
    """Compares every DIR/x.cdna with DIR/x.json; returns how many disagree."""
    paths = sorted(path for directory in directories for path in Path(directory).glob("*.json"))
    failed = 0
    for path in paths:
        expected = json.loads(path.read_text("utf-8"))
        outcome = examine(path.with_suffix(".cdna"), expected.get("expected_root"))
        found = list(disagreements(expected, outcome))
        print("".join(f"{path}: {line}\n" for line in found), end="")
        failed += bool(found)
    print(f"{len(paths) - failed} passed, {failed} failed")
    return failed


# ---- Command line ----

def run_examine(arguments):
    outcomes = [examine(file, arguments.expected_root) for file in arguments.files]
    for outcome in outcomes:
        print(json.dumps(outcome, indent=2))
    return 0 if all(outcome["deep"] == "clean" and all(item["status"] == "ok" for item in outcome["items"])
                    for outcome in outcomes) else 4


def run_rebuild(arguments):
    data, complete = rebuild(arguments.file)
    open_file(data)                                        # a rebuilt file is checked before it gets its name
    temporary = Path(arguments.out + ".part")
    temporary.write_bytes(data)
    temporary.replace(arguments.out)
    print("complete" if complete else "salvage: items may be missing after the last one")
    return 0


def run_cat(arguments):
    file = open_file(arguments.file)
    sys.stdout.buffer.write(file.read_item(file.find(arguments.name).number) or b"")
    return 0


def run_conform(arguments):
    return 4 if conform(arguments.directories) else 0


def root_argument(text):
    if len(bytes.fromhex(text)) != 32:
        raise ValueError("a root has 64 hex digits")
    return text


def main():
    parser = argparse.ArgumentParser(description="Reference decoder of CDNA v3 files.")
    commands = parser.add_subparsers(required=True)
    for run, names in ((run_examine, ["files"]), (run_rebuild, ["file", "out"]), (run_cat, ["file", "name"]),
                       (run_conform, ["directories"])):
        command = commands.add_parser(run.__name__[4:])
        command.set_defaults(run=run)
        for name in names:
            command.add_argument(name, nargs="+" if name in ("files", "directories") else None)
        if run is run_examine:
            command.add_argument("--expected-root", type=root_argument, metavar="HEX")
    try:
        arguments = parser.parse_args()
    except SystemExit as stop:    # argparse's own code for a usage error is 2
        return 16 if stop.code else 0
    try:
        return arguments.run(arguments)
    except CdnaError as error:
        print(error, file=sys.stderr)
        return 4
    except KeyError as error:
        print(f"no item is named {error}", file=sys.stderr)
        return 16
    except (OSError, ImportError, MemoryError) as error:
        print(error, file=sys.stderr)
        return 8


if __name__ == "__main__":
    sys.exit(main())
