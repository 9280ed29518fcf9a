"""Reference decoder of CDNA v3 files in plain Python, written from ../format.md alone, to be read beside it.

The parts of this file follow the sections of the specification, and every rule (T3, P8, ...) is named at the
line that checks it. The plain way is preferred to the fast one. Nothing is allocated by an unchecked number.
"""
import hashlib
import io
import json
import math
import mmap
import struct
import sys
from array import array
from collections import Counter
from fractions import Fraction
from pathlib import Path

HEAD_MAGIC, TAIL_MAGIC, RECORD_MAGIC = map(bytes.fromhex, (
    "CD43444E410D0A1A", "CD43444E33454E44", "CD43444E33524543"))
TAIL_TAG = b"CDNA3 root v1\0\0\0"
FOOTER_START = struct.pack("<I4s2x7Hi", 24, b"CDN3", 14, 24, 4, 8, 12, 16, 20, 14)
METADATA_START = struct.pack("<I4s4Hi", 16, b"CDNM", 8, 12, 4, 8, 8)
FOOTER_LIMIT = 2**28              # this reader's own limit; the format's is 2^30
CONTENT_LIMIT = 2**32             # this reader's own limit on the decoded bytes of an item
MAX_BLOCK = 2**24                 # decoded bytes of a block
CUT = 2**20                       # entries after which a row is cut when rows_per_block is 0
PIECE = 16384                     # bytes of a piece of bulk data
TENSOR, ASSET, METADATA, ALIAS = range(4)
BIT_15 = 0x8000                   # in a kind: may be ignored; in a plane's role: decoding works without it
DATA, CODES, CODEBOOK, ROW_SCALE, GROUP_SCALE, SCALE_TABLE, OUTLIERS, GROUP_OFFSET = range(1, 9)
LEFT, FACTORS, RIGHT, COLUMN_SCALE = range(14, 18)
PWL, AFFINE, STATISTICS = range(BIT_15 | 18, BIT_15 | 21)
RAW, ZSTD, BROTLI = range(3)
NONFINITE = 1                     # bit 0 of optional_features
ENCODINGS = {b"cdna.exact": (DATA,), b"cdna.codebook": (*range(CODES, GROUP_OFFSET + 1), *range(LEFT, COLUMN_SCALE + 1))}
DTYPE_NAMES = ("none BOOL U8 I8 U16 I16 U32 I32 U64 I64 F16 BF16 F32 F64 C64 F8_E4M3 F8_E5M2 F8_E8M0 "
               "F8_E4M3FNUZ F8_E5M2FNUZ F6_E2M3 F6_E3M2 F4").split()
DTYPE_BITS = (0, 8, 8, 8, 16, 16, 32, 32, 64, 64, 16, 16, 32, 64, 64, 8, 8, 8, 8, 8, 6, 6, 4)
U8 = DTYPE_NAMES.index("U8")
FLOATS = F16, BF16, F32, F64 = tuple(map(DTYPE_NAMES.index, ("F16", "BF16", "F32", "F64")))

# The error class of each rule; all others are "malformed". CONTENT_LIMIT has a class and no rule.
CLASSES = {None: "limit"} | {rule: error_class for error_class, rules in {
    "not_cdna": "T1", "truncated": "T2 T11", "root_mismatch": "T4", "corrupt": "H1 T3 F1 X1 B1 G1 R1 D2",
    "unsupported": "T5 T6 T7 T9 T10 I1 I2 P1 P2 X2 U1 U2 U3 U4 U5 U6 U7",
    "limit": "T13 T14 I5 I6 I8 P4 P6 E7 M1"}.items() for rule in rules.split()}

class CdnaError(Exception):
    """What a file does wrong: the rule, its error class, and a sentence."""
    def __init__(self, rule, message):
        self.rule, self.error_class, self.message = rule, CLASSES.get(rule, "malformed"), message
        super().__init__(f"{rule} ({self.error_class}): {message}")

def need(condition, rule, message):
    """The file keeps `rule` only if `condition` holds."""
    if not condition:
        raise CdnaError(rule, message)

# ---- 1 Conventions, 4 Hashes ----
def align(x, n):
    return -(-x // n) * n

def ceil_div(x, y):
    return -(-x // y)

def RN(x):
    """x rounded to f32: nearest, ties to even, subnormals kept. Every NaN becomes 7FC00000."""
    return array("f", (x if x == x else math.nan,))[0]     # array, unlike struct.pack, overflows to infinity

def fused(a, b, c):
    """RN(a * b + c), rounded once. The product of two f32 is exact in f64; their sum is made of fractions."""
    total = a * b + c
    if not math.isfinite(total) or total == 0:
        return RN(total)
    exact = Fraction(a * b) + Fraction(c)
    first = exact.numerator.bit_length() - exact.denominator.bit_length()   # the place of the first bit
    last = max(first - 23, -149)
    return RN(math.copysign(math.ldexp(round(abs(exact) / Fraction(2)**last), last), total))

def divide(a, b):
    if b:
        return RN(a / b)
    return RN(math.copysign(math.inf, a) * math.copysign(1, b) if abs(a) > 0 else math.nan)

def RN16(x):
    """The two bytes of x rounded to f16. A zero is +0."""
    return struct.pack("<e", x + 0.0 if abs(x) < 65520 else math.copysign(math.inf, x))

def H(data):
    return hashlib.sha256(data).digest()

def D(data):
    return H(b"".join(H(data[at:at + PIECE]) for at in range(0, len(data), PIECE)))

def read_file(path_or_bytes):
    """The bytes of a file, mapped: every slice of them is a private copy."""
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        return bytes(path_or_bytes)
    with open(path_or_bytes, "rb") as stream:
        empty = not stream.seek(0, io.SEEK_END)            # no empty file can be mapped
        return b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

class Structure:
    """A fixed structure: `fields` are the names and formats of its attributes, in the order of the bytes."""
    def __init_subclass__(cls):
        cls.names, formats = zip(*(field.split(":") for field in cls.fields.split()))
        cls.form = struct.Struct("<" + "".join(formats))

    def __init__(self, raw):
        vars(self).update(zip(self.names, self.form.unpack(raw)))

    def need_fields(self, rule, **expected):
        """The file keeps `rule` only if the fields have the expected values."""
        for name, value in expected.items():
            found = getattr(self, name)
            need(found == value, rule, f"{name} is {found}, not {value}")

# ---- 5 Head and tail ----
class Tail(Structure):
    fields = ("tag:16s required_features:Q optional_features:Q file_length:Q footer_offset:Q footer_length:Q "
              "item_count:I version:I footer_digest:32s align_log2:B hash_suite:B reserved:118s root:32s "
              "magic:8s")

def read_tail(data, expected_root):
    """T1 to T14. `expected_root`: None, 32 bytes, or their hex digits in lower case."""
    complete = len(data) >= 448 and data[-8:] == TAIL_MAGIC
    need(complete or data[:8] == HEAD_MAGIC, "T1", "neither begins nor ends as a CDNA file")
    need(complete, "T2", "the file ends without a tail")
    raw = data[-256:]
    tail = Tail(raw)
    tail.need_fields("T3", root=H(raw[:216]))
    need(expected_root in (None, tail.root, tail.root.hex()), "T4", "not the file that is expected")
    tail.need_fields("T5", tag=TAIL_TAG)
    tail.need_fields("T6", version=3)
    tail.need_fields("T7", hash_suite=1)
    need(6 <= tail.align_log2 <= 16, "T8", f"align_log2 is {tail.align_log2}")
    tail.need_fields("T9", reserved=bytes(118))
    bits = [bit for bit in range(64) if tail.required_features >> bit & 1]
    need(not bits, "T10", f"unknown required features: bits {bits}")
    need(tail.file_length == len(data) < 2**63, "T11", f"{len(data)} bytes, recorded are {tail.file_length}")
    need(tail.footer_offset % 64 == 0 and tail.footer_offset >= 64
         and tail.footer_length % 8 == 0 and tail.footer_length >= 88
         and align(tail.footer_offset + tail.footer_length, 64) == len(data) - 256,
         "T12", "the footer is not where a footer can be")
    need(tail.footer_length <= FOOTER_LIMIT, "T13", "the footer is too long")
    need(tail.item_count <= 2**24, "T14", "too many items")
    return tail

def check_head(data, align_log2):
    need(data[:64] == struct.pack("<8sIBB50x", HEAD_MAGIC, 3, align_log2, 1), "H1", "not the one head")

# ---- 6 Footer, and the layout that it shares with the metadata (section 14) ----
def join_vectors(start, vectors):
    """The buffer that begins with `start` and has these vectors: (size of an element, bytes) of each."""
    buffer = bytearray(start + bytes(4 * len(vectors)))
    for number, (size, elements) in enumerate(vectors):
        place, here = align(len(buffer) - 4, 8) + 4, len(start) + 4 * number
        struct.pack_into("<I", buffer, here, place - here)
        buffer += bytes(place - len(buffer)) + struct.pack("<I", len(elements) // size) + elements
    return bytes(buffer + bytes(-len(buffer) % 8))

def split_vectors(buffer, start, sizes, rule):
    """The reverse: the bytes of each vector. The layout leaves no choice: joined, they give the buffer."""
    end, vectors = len(start) + 4 * len(sizes), []
    for size in sizes:
        place = align(end - 4, 8) + 4                      # the first p >= end with p mod 8 = 4
        count = int.from_bytes(buffer[place:place + 4], "little")
        end = place + 4 + count * size
        need(end <= len(buffer), rule, "a vector does not fit")
        vectors.append((size, buffer[place + 4:end]))
    need(join_vectors(start, vectors) == buffer, rule, "not the one layout of these vectors")
    return [elements for _, elements in vectors]

# ---- 7 Items ----
class Item(Structure):
    fields = ("packet_offset:Q index_offset:Q index_digest:32s source_digest:32s sum_squares:d "
              "sum_squared_error:d max_abs_error:f entry_count:I first_dim:I first_plane:I text_offset:I "
              "name_length:H type_length:H kind:H role:H dtype:B rank:B plane_count:B row_dims:B "
              "required_features:Q optional_features:Q reserved:16s")

    def __init__(self, raw, number):
        super().__init__(raw)
        self.raw, self.number = raw, number
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
        self.by_role = {plane.role: plane for plane in self.needed_planes}
        self.name, self.type = text[:self.name_length], text[self.name_length:]

    def sort_key(self):
        return self.kind not in (TENSOR, ALIAS), self.name

class Directory:
    """The items so far; what they have used of the file and, in bytes, of the pools dims, planes, text."""
    def __init__(self, align_log2):
        self.alignment, self.items = 1 << align_log2, []
        self.end, self.used, self.features = 64, (0, 0, 0), (0, 0)

    def check(self, item, pools, is_last, footer_offset):
        """The rules I, P and E for the next item, in the order of section 16.2."""
        item.need_fields("I1", reserved=bytes(16))
        need(item.kind <= ALIAS or item.kind & BIT_15, "I2", f"kind {item.kind}")
        need(item.rank <= 8, "I5", f"rank {item.rank}")
        need(item.plane_count <= 32, "I6", f"{item.plane_count} planes")
        need((8 * item.first_dim, 48 * item.first_plane, item.text_offset) == self.used
             and item.packet_offset == self.end, "I3", f"item {item.number} does not follow the one before")
        slices = [pool[used:used + size] for pool, used, size in zip(pools, self.used, item.sizes)]
        need(tuple(map(len, slices)) == item.sizes, "I3", "a slice is not within its vector")
        item.attach(*slices)
        check_kind(item, self.items, is_last)
        check_packet(item, footer_offset, self.alignment)
        if item.kind == TENSOR and not unsupported_rule(item):
            check_encoding(item)

    def append(self, item):
        self.items.append(item)
        self.used = tuple(map(sum, zip(self.used, item.sizes)))
        self.end = item.record_offset + item.record_length
        self.features = (self.features[0] | item.required_features, self.features[1] | item.optional_features)

def check_kind(item, earlier, is_last):
    """I7 to I13, but for the plane of I11."""
    need(item.row_dims <= item.rank, "I7", "row_dims is above the rank")
    elements = math.prod(max(dim, 1) for dim in item.dims)
    need(item.kind == ALIAS or elements < 2**60, "I8", "too many elements")
    need(all(map(is_bound, item.error_numbers)), "I9", "an error number is negative or NaN")
    simple = {"rank": 1, "row_dims": 0, "error_numbers": (0, 0, 0)}
    if item.kind == TENSOR:
        need(item.planes and item.type, "I10", "a tensor without plane or encoding")
    elif item.kind in (ASSET, METADATA):
        item.need_fields("I11", dtype=U8, plane_count=1, **simple)
        need(item.kind == ASSET or not item.type, "I11", "metadata with a type")
        need(item.kind == ASSET or is_last, "I12", "metadata is not the last item")
    elif item.kind == ALIAS:
        item.need_fields("I13", dtype=0, plane_count=0, type=b"", source_digest=bytes(32), **simple)
        need(item.dims[0] < len(earlier) and earlier[item.dims[0]].kind == TENSOR, "I13", "no earlier tensor")

def check_packet(item, footer_offset, alignment):
    """The planes, and the places of index and record (section 7.2)."""
    end = item.packet_offset
    for plane in item.planes:
        end = check_plane(item, plane, end, footer_offset, alignment)
    if item.kind in (ASSET, METADATA):                     # the content is one row of bytes
        item.planes[0].need_fields("I11", role=DATA, dtype=U8, bits=8, scope=1, row_entries=item.dims[0],
                                   group=0, vector=1)
    blocks = sum(plane.block_count for plane in item.planes)
    item.need_fields("I14", entry_count=blocks)
    item.need_fields("I15", index_offset=align(end, 64) if blocks else 0)
    need(blocks or item.index_digest == H(b""), "I15", "index_digest without an index")
    item.record_offset = align(end, 64) + 64 * blocks

def is_bound(number):
    """Not NaN, and with a clear sign bit (I9, X8)."""
    return number >= 0 and math.copysign(1, number) > 0

# ---- 8 Planes and blocks ----
class Plane(Structure):
    fields = ("offset:Q stored_length:Q row_entries:Q block_count:I rows_per_block:I role:H group:H bits:B "
              "dtype:B scope:B layout:B codecs:B vector:B reserved_a:H reserved_b:I")

    def __init__(self, raw):
        super().__init__(raw)
        self.row_bytes = ceil_div(self.row_entries * self.bits, 8)

    def set_rows(self, rows):
        """Sets the geometry: a block has `step` rows, which are cut into blocks every `width` entries."""
        self.rows = rows
        self.step, self.width = (self.rows_per_block, self.row_entries) if self.rows_per_block else (1, CUT)
        self.cuts = ceil_div(self.row_entries, self.width) if rows * self.row_bytes else 0

def check_plane(item, plane, end, footer_offset, alignment):
    """P1 to P9. `end` is where the plane before ends; returns where this one does."""
    first = item.planes[0]
    plane.need_fields("P1", reserved_a=0, reserved_b=0)
    need(plane.scope <= 2, "P2", f"scope {plane.scope}")
    need(1 <= plane.bits <= 128, "P3", f"{plane.bits} bits")
    first.need_fields("P3", scope=1)
    if plane.scope == 2:
        plane.need_fields("P3", bits=8, row_entries=0, rows_per_block=0)
    plane.set_rows((1, item.rows, 0)[plane.scope])         # scope 2 has blocks, but no rows
    size = plane.rows * plane.row_bytes
    need(plane.row_entries < 2**60 and size < 2**63, "P4", "the plane is too large")
    blocks = first.block_count if plane.scope == 2 else ceil_div(plane.rows, plane.step) * plane.cuts
    plane.need_fields("P5", block_count=blocks)
    need(plane.rows_per_block * plane.row_bytes <= MAX_BLOCK, "P6", "the blocks are too large")
    need(plane is first or plane.scope != 1 or plane.rows_per_block == 0 or plane.rows_per_block >= plane.rows
         or plane.rows_per_block % max(1, first.rows_per_block) == 0,
         "P7", "blocks are not made of whole blocks of plane 0")
    need(plane.layout != 0 or (plane.scope != 2 and plane.stored_length == size and plane.codecs <= 1),
         "P8", "not contiguous")
    need((plane.codecs == 0) == (blocks == 0), "P8", f"codecs {plane.codecs} for {blocks} blocks")
    need(blocks or not plane.stored_length, "P8", "bytes without blocks")
    step = alignment if plane.scope != 2 and size >= 256 * alignment else 64
    plane.need_fields("P9", offset=align(end, step) if plane.stored_length else 0)
    need(plane.offset + plane.stored_length <= footer_offset, "P9", "the plane ends in the footer")
    return plane.offset + plane.stored_length if plane.stored_length else end

# ---- 9 Index ----
class Entry(Structure):
    fields = ("offset:Q stored_length:I decoded_length:I codec:B filter:B reserved_a:H max_abs_error:f "
              "reserved_b:Q digest:32s")

    def __init__(self, raw, plane, number):
        super().__init__(raw)
        self.plane, self.number, self.place = plane, number, plane.offset + self.offset
        self.end = self.offset + self.stored_length        # like offset, from the plane's offset
        if plane.scope != 2:
            self.rows = min(plane.step, plane.rows - number // plane.cuts * plane.step)
            self.first_column = number % plane.cuts * plane.width
            self.columns = min(plane.width, plane.row_entries - self.first_column)

def check_index(item, data):
    """X1 to X9. Returns the entries of all planes."""
    index = []
    need(H(data) == item.index_digest, "X1", "the index differs from its digest")
    for plane in item.planes:
        end = 0
        for number in range(plane.block_count):
            entry = Entry(data[64 * len(index):64 * len(index) + 64], plane, number)
            check_entry(item, entry, end)
            index.append(entry)
            end = entry.end
    for plane in item.planes:
        plane.need_fields("X9", codecs=sum({1 << entry.codec for entry in index if entry.plane is plane}))
    largest = max((entry.max_abs_error for entry in index if entry.plane is item.planes[0]), default=0)
    item.need_fields("X9", max_abs_error=largest)
    return index

def check_entry(item, entry, end):
    """X2 to X8. `end` is where the plane's block before ends."""
    plane, length, error = entry.plane, entry.decoded_length, entry.max_abs_error
    entry.need_fields("X2", reserved_a=0, reserved_b=0)
    need(plane.scope == 2 or length == entry.rows * ceil_div(entry.columns * plane.bits, 8),
         "X3", f"{length} is not the length of the block")
    need(length <= MAX_BLOCK, "X3", "the block is too large")
    # With layout 0, X7 of the blocks before has made stored lengths of their decoded lengths.
    placed = (entry.offset == end, entry.offset == align(end, 64), entry.offset >= end)[min(plane.layout, 2)]
    need(placed, "X4", f"the block is not to be at {entry.offset}")
    room, is_last = plane.stored_length - entry.end, entry.number == plane.block_count - 1
    need(room == 0 if is_last else room >= 0, "X5", "the end of the block")
    need(entry.codec <= 7 and plane.codecs >> entry.codec & 1, "X6", f"codec {entry.codec} is not announced")
    is_plain = entry.codec == entry.filter == 0
    need(not is_plain or entry.stored_length == length, "X7", "a raw block of another length")
    if entry.filter == 0 and entry.codec in (ZSTD, BROTLI):
        need(0 < entry.stored_length < length, "X7", "the codec saves nothing")
    if is_byte_planes(item, entry):
        need(length - length * 8 // plane.bits < entry.stored_length < length, "X7", "the last byte plane")
    need((plane.layout or is_plain) and entry.stored_length <= 1 << 25, "X7", "not raw, or too large")
    may_err = plane is item.planes[0] and item.kind not in (ASSET, METADATA)
    need(is_bound(error) and (error == 0 or may_err), "X8", f"max_abs_error is {error}")

# ---- 10 Record ----
def make_record(item):
    start = struct.pack("<8sIIQ8x", RECORD_MAGIC, item.record_length, item.number, item.record_offset)
    body = (item.raw + b"".join(item.slices)).ljust(item.record_length - 64, b"\0")
    return start + H(start + body) + body

# ---- 11 Names ----
def is_utf8(data):
    return data.decode("utf-8", "ignore").encode() == data

def ascending(keys):
    return all(a < b for a, b in zip(keys, keys[1:]))

def check_text(item, in_recovery=False):
    """N1 to N4; N2 and N3 do not matter to recovery."""
    need(1 <= item.name_length <= 1024, "N1", "length of the name")
    if not in_recovery:
        need(is_utf8(item.name), "N2", "the name is not UTF-8")
        control = any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in item.name.decode())
        need(not control, "N3", "a control character in the name")
    need(item.type_length <= 255 and all(0x20 <= byte <= 0x7E for byte in item.type), "N4", "the type")

# ---- 12 Codecs ----
def decode_zstd(stored, length):
    """C1, C2. The library gets one block after the other, so that the size of each can be checked."""
    need(len(stored) >= 6 and stored[:4] == b"\x28\xb5\x2f\xfd", "C1", "no zstd frame")
    descriptor, window, place = stored[4], length, 5       # of a single segment, the window is the content
    need(descriptor & 0b11111 == 0, "C1", "dictionary, checksum or reserved bit")
    single_segment = descriptor >> 5 & 1
    if not single_segment:
        window, place = (8 + (stored[5] & 7)) << (7 + (stored[5] >> 3)), 6
    size = (single_segment, 2, 4, 8)[descriptor >> 6]
    need(size and len(stored) >= place + size, "C1", "no content size")
    content = int.from_bytes(stored[place:place + size], "little") + (256 if size == 2 else 0)
    need(content == length, "C1", f"the content size is {content}")
    need(window <= max(1024, length), "C1", "the window is too large")
    import zstandard
    decoder = zstandard.ZstdDecompressor(max_window_size=max(1024, length)).decompressobj()
    decoded, start, place, last = bytearray(), 0, place + size, 0
    while not last:               # the first piece is the frame's header and a block
        need(place + 3 <= len(stored), "C2", "the frame is cut off")
        header = int.from_bytes(stored[place:place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        place += 3 + (1 if kind == 1 else size)            # kind 1 repeats one byte
        try:
            block = decoder.decompress(stored[start:place])
        except zstandard.ZstdError as error:
            raise CdnaError("C2", str(error)) from None
        need(max(size, len(block)) <= min(window, 2**17), "C2", "a block over Block_Maximum_Size")
        decoded += block
        need(len(decoded) <= length, "C2", "the frame yields too much")
        start = place
    need(place == len(stored) and len(decoded) == length, "C2", "another length, stored or decoded")
    return bytes(decoded)

def decode_brotli(stored, length):
    """C3, C4. The stream must need the last stored byte and be complete with it."""
    n, m = stored[0] >> 1 & 7, stored[0] >> 4 & 7
    need(stored[0] & 1 == 0 or n or m != 1, "C3", "large window")
    wbits = 16 if stored[0] & 1 == 0 else 17 + n if n else 8 + m if m else 17
    need(wbits <= max(16, (length - 1).bit_length()), "C3", f"WBITS {wbits}")
    import brotli
    decoder, decoded, last = brotli.Decompressor(), bytearray(), len(stored) - 1
    try:
        # Some ten bytes make a meta-block that yields 16 MiB: short pieces bound what one call yields.
        for start in range(0, last, 16):
            decoded += decoder.process(stored[start:min(start + 16, last)])
            need(len(decoded) <= length and not decoder.is_finished(), "C4", "too much, or ends early")
        decoded += decoder.process(stored[last:])
    except brotli.error as error:
        raise CdnaError("C4", str(error)) from None
    need(decoder.is_finished() and len(decoded) == length, "C4", "cut off, or another length")
    return bytes(decoded)

def is_byte_planes(item, entry):
    """Whether filter 1 is known in this entry (section 12.1)."""
    return ((entry.filter, entry.codec) == (1, ZSTD) and entry.plane is item.planes[0] and item.kind == TENSOR
            and item.type == b"cdna.exact" and item.dtype in FLOATS and not unsupported_rule(item))

def join_byte_planes(stored, length, size):
    count, joined = length // size, bytearray(length)
    planes = stored[:length - count] + decode_zstd(stored[length - count:], count)
    for k in range(size):
        joined[k::size] = planes[k * count:(k + 1) * count]
    words = struct.Struct(f"<{count}{'__H_I___Q'[size]}")
    return words.pack(*(word >> 1 | (word & 1) << 8 * size - 1 for word in words.unpack(joined)))

# ---- 13 Encodings ----
def known_vectors(item, plane):
    return (1, 2, 4) if (item.type, plane.role) == (b"cdna.codebook", CODES) else (1,)

def unsupported_rule(item, index=()):
    """The first of U1 to U7 (without an index, U6) that makes the item unsupported, or None."""
    tensor = item.kind == TENSOR
    known_roles = ENCODINGS.get(item.type, ())
    rules = [("U1", tensor and not known_roles), ("U2", tensor and not 1 <= item.dtype < len(DTYPE_NAMES))]
    for plane in item.needed_planes:
        rules += [("U3", tensor and plane.role not in known_roles), ("U4", plane.layout > 1),
                  ("U5", plane.codecs >> 3), ("U6", tensor and plane.vector not in known_vectors(item, plane))]
    needed = [entry for entry in index if not entry.plane.role & BIT_15]
    rules.append(("U7", any(entry.filter and not is_byte_planes(item, entry) for entry in needed)))
    return next((rule for rule, holds in rules if holds), None)

def is_plane(plane, scope, dtypes, row_entries, groups=(0,), bits=None):
    return (plane.scope == scope and plane.dtype in dtypes and plane.row_entries == row_entries
            and plane.group in groups and plane.bits in (bits or (DTYPE_BITS[plane.dtype],)))

def check_encoding(item):
    """E1, or E2 and E7."""
    needed, planes = item.needed_planes, item.by_role
    in_order = item.planes[:len(needed)] == needed == [planes[role] for role in sorted(planes)]
    if item.type == b"cdna.exact":
        need(in_order and DATA in planes and is_plane(planes[DATA], 1, (item.dtype,), item.cols),
             "E1", "not the plane of an exact tensor")
        need(not any(item.error_numbers), "E1", "an error number is not zero")
        need(item.rows <= 1 or item.cols * DTYPE_BITS[item.dtype] % 8 == 0, "E1", "rows are not whole bytes")
        return
    need(in_order and CODES in planes and CODEBOOK in planes and item.dtype in FLOATS,
         "E2", "not the dtype or the planes of a codebook tensor")
    groups, codes, k = planes.get(GROUP_SCALE), planes[CODES], planes[LEFT].row_entries if LEFT in planes else 0
    size = groups.group if groups else 0
    cells = ceil_div(item.cols, size or 1)
    table = {CODES: (1, (0,), item.cols // codes.vector, (0,), range(1, 17)), OUTLIERS: (2, FLOATS, 0, (0,), (8,)),
             CODEBOOK: (0, (F16, F32), 2**codes.bits * codes.vector), SCALE_TABLE: (0, (F32,), 256),
             ROW_SCALE: (1, (F32,), 1), GROUP_SCALE: (1, (F32, F16, BF16, U8), cells, (16, 32, 64, 128)),
             GROUP_OFFSET: (1, (F32, F16, BF16), cells, (size,)), LEFT: (1, (F32,), k), FACTORS: (0, (F32,), k),
             RIGHT: (0, (F32,), k * item.cols), COLUMN_SCALE: (0, (F32,), item.cols)}
    need(item.cols % codes.vector == 0, "E2", "vectors do not divide the columns")
    planes[CODEBOOK].is_vectors = codes.vector > 1
    need(groups or GROUP_OFFSET not in planes, "E2", "group_offset")
    need((k > 0) == (LEFT in planes) == (FACTORS in planes) == (RIGHT in planes), "E2", "low rank")
    need(LEFT not in planes or planes[LEFT].rows_per_block, "E2", "left is cut")
    for role, plane in planes.items():
        need(is_plane(plane, *table[role]), "E2", f"the plane of role {role} is not as it must be")
    need((SCALE_TABLE in planes) == (groups is not None and groups.dtype == U8), "E2", "scale_table")
    whole = [planes[role].row_entries for role in (RIGHT, COLUMN_SCALE) if role in planes]
    need(k <= 1024 and max(whole, default=0) <= 2**26, "E7", "planes that a decoder cannot hold")

def check_block(index, entry, block):
    """E3 to E6 for a decoded block."""
    plane = entry.plane
    if plane.scope != 2:
        size, used = len(block) // entry.rows, entry.columns * plane.bits % 8   # bits of a last byte; 0: all
        need(not used or max(block[size - 1::size]) < 1 << used, "E4", "unused bits are not zero")
    if plane.role == OUTLIERS:
        need(len(block) % (4 + DTYPE_BITS[plane.dtype] // 8) == 0, "E5", "not a whole number of outliers")
        codes, (_, positions) = index[entry.number], split_outliers(block, plane.dtype)   # plane 0 is first
        inside = max(positions, default=-1) < codes.rows * codes.columns * codes.plane.vector
        need(ascending(positions) and inside, "E6", "positions do not ascend, or leave the block")
    if plane.role == CODEBOOK:
        values = list(floats(block, plane.dtype))
        need(not any(map(math.isnan, values)), "E3", "the codebook has a NaN")
        need(plane.is_vectors or values == sorted(values), "E3", "the codebook is not ascending")

def split_outliers(block, dtype):
    """The values (as bytes) and the positions of the outliers of a block."""
    size = DTYPE_BITS[dtype] // 8
    count = len(block) // (4 + size)
    values = [block[at:at + size] for at in range(0, size * count, size)]
    return values, struct.unpack(f"<{count}I", block[size * count:])

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

def code_rows(entry, block):
    """The codes of each row, a bit string, least significant bit first: eight codes take `bits` whole bytes."""
    bits, size = entry.plane.bits, len(block) // entry.rows
    for start in range(0, len(block), size):
        words = (int.from_bytes(block[at:at + bits], "little") for at in range(start, start + size, bits))
        codes = (word >> k * bits & (1 << bits) - 1 for word in words for k in range(8))
        yield (code for _, code in zip(range(entry.columns), codes))

def codebook_values(item, blocks):
    """The decoded bytes of a codebook tensor; blocks[role] are (entry, decoded block)."""
    def entries(role):            # row after row; none where the plane is missing
        for entry, block in blocks.get(role, ()):
            yield from block if entry.plane.dtype == U8 else floats(block, entry.plane.dtype)

    vector, cols, values = item.by_role[CODES].vector, item.cols, bytearray()
    groups, outlier_plane = map(item.by_role.get, (GROUP_SCALE, OUTLIERS))
    codebook, scale_table, factors, right, column_scales = map(
        list, map(entries, (CODEBOOK, SCALE_TABLE, FACTORS, RIGHT, COLUMN_SCALE)))
    row_scales, group_scales, group_offsets, left = map(entries, (ROW_SCALE, GROUP_SCALE, GROUP_OFFSET, LEFT))
    for entry, block in blocks[CODES]:
        outliers = {}
        if outlier_plane:
            outlier_values, positions = split_outliers(blocks[OUTLIERS][entry.number][1], outlier_plane.dtype)
            outliers = dict(zip(positions, outlier_values))
        for row, row_codes in enumerate(code_rows(entry, block)):
            if entry.first_column == 0:
                row_scale = next(row_scales, None)
                left_row = [RN(next(left) * factor) for factor in factors]
            scale, offset = row_scale, None
            elements = (codebook[code * vector + i] for code in row_codes for i in range(vector))
            for column, w in enumerate(elements):
                if groups and column % groups.group == 0:
                    scale, offset = next(group_scales), next(group_offsets, None)
                    scale = scale_table[scale] if scale_table else scale
                    scale = scale if row_scale is None else RN(scale * row_scale)
                w = w if scale is None else RN(w * scale)
                w = w if offset is None else RN(w + offset)
                raw = outliers.get(row * entry.columns * vector + column)
                raw = struct.pack("<f", w) if raw is None else outlier_to_f32(raw, outlier_plane.dtype)
                j = entry.first_column * vector + column
                if factors or column_scales:
                    w, = floats(raw, F32)
                    raw = struct.pack("<f", finished(w, left_row, right[j::cols], column_scales[j:j + 1]))
                values += raw
    return bytes(values)

def finished(w, left_row, right_column, column_scale):
    """What comes after the outliers."""
    if left_row:
        added = 0.0
        for left, right in zip(left_row, right_column):
            added = fused(left, right, added)
        w = RN(w + added)
    return divide(w, *column_scale) if column_scale else w

# ---- 14 Metadata ----
def read_metadata(content):
    """M2 to M5. Returns {key: (type, value)} without the values of unknown types."""
    need(len(content) >= 40 and content[:20] == METADATA_START, "M2", "the fixed bytes differ")
    raw_entries, text = split_vectors(content, METADATA_START, (24, 1), "M2")
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
    def __init__(self, path_or_bytes, expected_root=None):
        self.data = read_file(path_or_bytes)
        self.tail = read_tail(self.data, expected_root)
        self.root = self.tail.root
        self.read_footer(self.tail)
        check_head(self.data, self.tail.align_log2)

    def read_footer(self, tail):
        base = tail.footer_offset
        footer = self.data[base:base + tail.footer_length]
        need(H(footer) == tail.footer_digest, "F1", "the footer differs from its digest")
        need(footer[:28] == FOOTER_START, "F2", "the fixed bytes differ")
        items, planes, dims, order, text = split_vectors(footer, FOOTER_START, (160, 48, 8, 4, 1), "F3")
        need(len(items) == 160 * tail.item_count and len(order) == 4 * tail.item_count, "F4", "item_count")
        pools, directory = (dims, planes, text), Directory(tail.align_log2)
        for number in range(tail.item_count):
            item = Item(items[160 * number:160 * (number + 1)], number)
            directory.check(item, pools, number == tail.item_count - 1, base)
            directory.append(item)
        need(directory.used == tuple(map(len, pools)) and directory.end == base, "F5", "something is left")
        need(directory.features == (tail.required_features, tail.optional_features), "F6", "features")
        self.items = directory.items
        for item in self.items:
            check_text(item)
        order = [number for number, in struct.iter_unpack("<I", order)]
        need(max(order, default=-1) < len(self.items), "N5", "no item has such a number")
        need(ascending([self.items[number].sort_key() for number in order]), "N5", "names are not in order")

    def find(self, name):
        """The item of that name: of an alias its tensor, and rather a tensor than another kind."""
        by_name = {item.name: item for item in sorted(self.items, key=Item.sort_key, reverse=True)}
        item = by_name[name.encode()]
        return self.items[item.dims[0]] if item.kind == ALIAS else item

    def read_index(self, item):
        need(item.kind != METADATA or item.dims[0] <= 2**26, "M1", "too much metadata")
        return check_index(item, self.data[item.index_offset:item.index_offset + 64 * item.entry_count])

    def read_stored(self, entry):
        stored = self.data[entry.place:entry.place + entry.stored_length]
        need(D(stored) == entry.digest, "B1", f"the block at {entry.place} differs from its digest")
        return stored

    def read_blocks(self, index, role):
        """(entry, decoded block) of a plane; digests are checked at each reading, for a file can change."""
        for entry in (entry for entry in index if entry.plane.role == role):
            block = self.read_stored(entry)
            if entry.filter:
                block = join_byte_planes(block, entry.decoded_length, entry.plane.bits // 8)
            elif entry.codec != RAW:
                block = {ZSTD: decode_zstd, BROTLI: decode_brotli}[entry.codec](block, entry.decoded_length)
            check_block(index, entry, block)
            yield entry, block

    def read_item(self, number):
        """Steps 2 and 3 for a whole item: its decoded bytes, or None for aliases and ignorable kinds."""
        item = self.items[number]
        index = self.read_index(item)
        for entry in index:
            self.read_stored(entry)
        if item.kind not in (TENSOR, ASSET, METADATA):
            return None
        rule = unsupported_rule(item, index)
        need(rule is None, rule, "the reader does not know how to decode this")
        is_codebook = item.kind == TENSOR and item.type == b"cdna.codebook"
        size = 4 * item.rows * item.cols if is_codebook else sum(entry.decoded_length for entry in index)
        need(size <= CONTENT_LIMIT, None, "more bytes than this reader decodes")
        blocks = {role: list(self.read_blocks(index, role)) for role in item.by_role}
        if is_codebook:
            return codebook_values(item, blocks)
        content = b"".join(block for _, block in blocks[DATA])
        if item.kind == METADATA:
            read_metadata(content)
        return content

    def deep_check(self):
        """Step 4, which comes after all items have been read."""
        for item in self.items:
            index = self.read_index(item)
            if item.kind not in (TENSOR, ASSET, METADATA) or unsupported_rule(item, index):
                continue
            if item.kind == TENSOR and item.type == b"cdna.codebook":
                self.check_finite(item, index)
                self.check_statements(item, index)
            elif any(item.source_digest):
                item.need_fields("D2", source_digest=D(self.read_item(item.number)))
        end = 64
        for item in self.items:
            places = [(entry.place, entry.stored_length) for entry in self.read_index(item)]
            places += [(item.index_offset, 64 * item.entry_count), (item.record_offset, item.record_length)]
            for start, length in places:
                if length:
                    need(not any(self.data[end:start]), "G1", f"the gap at {end} is not zero")
                    end = start + length
            need(self.data[item.record_offset:end] == make_record(item), "R1", f"record {item.number}")
        end = self.tail.footer_offset + self.tail.footer_length
        need(not any(self.data[end:-256]), "G1", "the gap behind the footer is not zero")

    def check_finite(self, item, index):
        for role, plane in item.by_role.items():
            if role == CODES or plane.dtype == U8 or item.optional_features & NONFINITE:
                continue
            for _, block in self.read_blocks(index, role):
                values = b"".join(split_outliers(block, plane.dtype)[0]) if role == OUTLIERS else block
                finite = all(map(math.isfinite, floats(values, plane.dtype)))
                need(finite, "D1", "a value is not finite")
                need(role != COLUMN_SCALE or all(floats(values, plane.dtype)), "D1", "a column scale is zero")

    def check_statements(self, item, index):
        """D3, D4 of the planes of section 13.3, in order."""
        table = {PWL: ("D3", F16, (32,)), AFFINE: ("D3", F16, (2,)), STATISTICS: ("D4", F64, range(3, 2**60))}
        bits, codebook = item.by_role[CODES].bits, item.by_role[CODEBOOK]
        for plane in (plane for plane in item.planes if plane.role in table):
            rule, dtype, lengths = table[plane.role]
            need(is_plane(plane, 0, (dtype,), plane.row_entries) and plane.row_entries in lengths
                 and plane.layout == 0 and plane.vector == 1, rule, "the plane is not as it must be")
            first = next(entry for entry in index if entry.plane is plane)
            values = list(floats(self.read_stored(first), dtype))[:lengths[0]]
            need(all(map(math.isfinite, values)), rule, "an entry is not finite")
            if plane.role == STATISTICS:
                outliers, entropy = self.measure(item, index)
                need(values[0] == outliers and abs(values[2] - entropy) <= 1e-6, "D4", "outliers or entropy")
                continue
            scalar = item.by_role[CODES].vector == 1
            need(codebook.dtype == F16 and scalar and (plane.role == AFFINE or bits >= 5), "D3", "not for pwl, affine")
            segment = 2**bits * 2 // len(values)           # codes
            stated = b"".join(RN16(base + l * step) for base, step in zip(values[::2], values[1::2])
                              for l in range(segment))
            need([stated] == [block for _, block in self.read_blocks(index, CODEBOOK)], "D3", "another codebook")

    def measure(self, item, index):
        """The number of outliers, and the entropy of the codes in bits."""
        outliers, codes = (self.read_blocks(index, role) for role in (OUTLIERS, CODES))
        counts = Counter(code for pair in codes for row in code_rows(*pair) for code in row)
        entropy = -sum(n / counts.total() * math.log2(n / counts.total()) for n in counts.values())
        return sum(len(split_outliers(block, entry.plane.dtype)[1]) for entry, block in outliers), entropy

# ---- 18 Recovery ----
def record_at(data, place, directory, pools):
    """The item of the record at `place`, if it can be the next one, and the pools with its slices."""
    need(data[place:place + 8] == RECORD_MAGIC and len(data) - place >= 64 + 160, "R1", "no record")
    item = Item(data[place + 64:place + 224], len(directory.items))
    need(item.record_length <= min(4096, len(data) - place), "R1", "too long")
    slices = io.BytesIO(data[place + 224:place + item.record_length])
    pools = [pool + slices.read(size) for pool, size in zip(pools, item.sizes)]
    directory.check(item, pools, True, place)
    check_text(item, in_recovery=True)
    need(item.record_offset == place, "R1", "not where the record of the item must be")
    # The one record that the item can have also has the right frame, number, offset, zeros and digest.
    need(data[place:place + item.record_length] == make_record(item), "R1", "not the record of the item")
    return item, pools

def rebuild(path_or_bytes):
    """The file that head and records describe, and whether it has all items. It is yet to be checked."""
    data = read_file(path_or_bytes)
    align_log2 = data[12] if len(data) > 12 else 0
    need(6 <= align_log2 <= 16, "H1", "no alignment in the head")
    check_head(data, align_log2)
    directory, pools, place, complete = Directory(align_log2), [b"", b"", b""], 64, False
    while place < len(data) and not complete:              # nothing can follow metadata (I12)
        found, _ = attempt(lambda: record_at(data, place, directory, pools))
        place += 64
        if found:
            item, pools = found
            directory.append(item)
            place, complete = directory.end, item.kind == METADATA
    items, (dims, planes, text) = directory.items, pools
    order = b"".join(struct.pack("<I", item.number) for item in sorted(items, key=Item.sort_key))
    raw_items = b"".join(item.raw for item in items)
    footer = join_vectors(FOOTER_START, ((160, raw_items), (48, planes), (8, dims), (4, order), (1, text)))
    body = data[:directory.end] + footer
    body = body.ljust(align(len(body), 64), b"\0")
    tail = Tail.form.pack(TAIL_TAG, *directory.features, len(body) + 256, directory.end, len(footer),
                          len(items), 3, H(footer), align_log2, 1, b"", b"", b"")[:216]
    return body + tail + H(tail) + TAIL_MAGIC, complete

# ---- 19 Conformance ----
def attempt(action):
    """What `action` returns, and how it breaks a rule (or None)."""
    try:
        return action(), None
    except CdnaError as error:
        return None, {"rule": error.rule, "class": error.error_class}

def examine(path_or_bytes, expected_root=None):
    """The outcome of a file, as the `.json` of a test vector states it."""
    file, fault = attempt(lambda: File(path_or_bytes, expected_root))
    if fault:
        return {"open": fault, "items": [], "deep": None}
    items, deep = [examine_item(file, item) for item in file.items], None
    if all(item["status"] == "ok" or str(item["status"]["rule"]).startswith("U") for item in items):
        deep = attempt(file.deep_check)[1] or "clean"
    return {"open": "ok", "root": file.root.hex(), "items": items, "deep": deep}

def examine_item(file, item):
    content, fault = attempt(lambda: file.read_item(item.number))
    dtype = DTYPE_NAMES[item.dtype] if item.dtype < len(DTYPE_NAMES) else str(item.dtype)
    return {"number": item.number, "name": item.name.decode(), "kind": item.kind, "dtype": dtype,
            "shape": item.dims, "encoding": item.type.decode(), "status": fault or "ok",
            "decoded_sha256": None if content is None else hashlib.sha256(content).hexdigest(),
            "alias_of": item.dims[0] if item.kind == ALIAS else None}

# ---- Command line ----
def main(command="", path="", last=None):
    """usage: cdna_reference.py examine FILE [EXPECTED_ROOT] | rebuild FILE OUT | cat FILE NAME"""
    if command == "examine":
        outcome = examine(path, last)
        print(json.dumps(outcome, indent=2))
        sound = outcome["deep"] == "clean" and all(item["status"] == "ok" for item in outcome["items"])
        return 0 if sound else 4
    if command == "rebuild" and last:
        data, complete = rebuild(path)
        File(data)                                         # a rebuilt file is checked before it gets its name
        unfinished = Path(last + ".part")
        unfinished.write_bytes(data)
        unfinished.replace(last)
        print("complete" if complete else "salvage: items may be missing after the last one")
    elif command == "cat" and last:
        file = File(path)
        sys.stdout.buffer.write(file.read_item(file.find(last).number) or b"")
    else:
        print(main.__doc__, file=sys.stderr)
        return 16
    return 0

if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except CdnaError as error:
        print(error, file=sys.stderr)
        sys.exit(4)
