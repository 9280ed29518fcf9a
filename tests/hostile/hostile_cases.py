"""The hostile CDNA files: a table of what each mirrors, what it does, and what has to become of it.

All digests are right unless the case says otherwise, so that every file reaches the code that it is meant for. Files
that break one rule of the format and no more are in spec/vectors/bad.
"""
import struct
from dataclasses import dataclass

import crafted_flatbuffers as flat
from bad_cases import changed, footer, letters, only, patch, plane, standard, with_planes
from builder import (AFFINE, BROTLI, BYTE_PLANES, CODEBOOK, CODES, DATA, DTYPE_ID, GROUP_SCALE, HEAD, HEAD_MAGIC,
                     IGNORABLE, RAW, RECORD, RECORD_MAGIC, ROW_SCALE, STATISTICS, TAIL, TAIL_MAGIC, TENSOR, ZSTD,
                     Block, File, Item, Plane, build, structure_hash, zstd_block, zstd_encoder, zstd_frame, zstd_header)
from describe import (CODEBOOK_NAME, EXACT, alias, asset, codebook, counting, exact, float_plane, metadata, noise,
                      statement)
from good_cases import ignorable_plane

MIB = 1 << 20
U8, BF16, F32 = DTYPE_ID["U8"], DTYPE_ID["BF16"], DTYPE_ID["F32"]


@dataclass
class Case:
    """`outcome`: "open RULE", "item N RULE", "deep RULE" or "clean", as a reader that goes on reports it first.

    `make` returns the file: bytes, or (length, {offset: bytes}) with zeros elsewhere. `reference`: whether the
    reference decoder, which decodes whole tensors in Python, can be asked too.
    """
    name: str
    mirrors: str
    attack: str
    outcome: str
    make: object
    reference: bool = True
    expected_root: str = None


def built(file):
    return lambda: build(file() if callable(file) else file).data


# ---- FlatBuffers ----

def as_footer(make, *arguments):
    return built(lambda: changed(footer(lambda old: make(b"CDN3", *arguments))))


def as_metadata(make, *arguments):
    return built(lambda: only(metadata(content=make(b"CDNM", *arguments))))


def end_of_file(footer_length, digest):
    """A head, `footer_length` zeros and a tail that fits, as a sparse file."""
    fields = {"tag": b"CDNA3 root v1", "file_length": 64 + footer_length + 256, "footer_offset": 64,
              "footer_length": footer_length, "version": 3, "align_log2": 6, "hash_suite": 1, "footer_digest": digest}
    body = TAIL.pack(fields)[:216]
    head = HEAD.pack({"magic": HEAD_MAGIC, "version": 3, "align_log2": 6, "hash_suite": 1})
    return fields["file_length"], {0: head, 64 + footer_length: body + structure_hash(body) + TAIL_MAGIC}


FOOTER_CASES = [
    Case("flat_shared_vectors", "fault F41; FlatBuffers verifier, 9.6 s for 0.5 MB",
         "65,536 offsets to one table with 65,536 offsets to one string, as the footer", "open F2",
         as_footer(flat.shared_vectors, 65536, 65536)),
    Case("flat_shared_vectors_metadata", "the same", "the same, as the metadata", "item 0 M2",
         as_metadata(flat.shared_vectors, 65536, 65536)),
    Case("flat_nested", "fault F40; gguf-py nested ARRAY", "100,000 tables, one in the other, as the footer",
         "open F2", as_footer(flat.nested, 100000)),
    Case("flat_nested_metadata", "the same", "the same, as the metadata", "item 0 M2",
         as_metadata(flat.nested, 100000)),
    Case("flat_cyclic", "fault F43", "a table that contains itself, by an offset that wraps", "open F2",
         as_footer(flat.cyclic)),
    Case("flat_huge_vtable", "FlatBuffers #7303", "a vtable of 65,534 bytes", "open F2", as_footer(flat.huge_vtable)),
    Case("footer_over_limit", "CVE-2024-21836, ollama #17042", "a footer of 300 MiB, sparse: refused before it is "
         "allocated", "open T13", lambda: end_of_file(300 * MIB, bytes(32)), reference=False),
    Case("footer_large", "the same", "a footer of 96 MiB of zeros, sparse, with its right digest: costs its length",
         "open F2", lambda: end_of_file(96 * MIB, structure_hash(bytes(96 * MIB))), reference=False),
]


# ---- many of everything ----

def flood_of_names():
    """Names of 1024 bytes that differ in the last ones."""
    names = [f"{'n' * 1019}{number:05}" for number in range(4000)]
    return File([exact("t", "U8", [1], b"x")] + [alias(name, 0) for name in names])


def bad_blocks(count, size=1, step=1):
    item = exact("b" * 1024, "U8", [count, size], noise(count * size))
    for block in item.planes[0].blocks[::step]:
        block.over = {"digest": bytes(32)}
    return only(item)


def planes_32():
    items = []
    for number in range(200):
        items.append(exact(f"t{number}", "U8", [1], b"x"))
        items[-1].planes += [ignorable_plane() for _ in range(31)]
    return File(items)


def many_scales(rows):
    return only(codebook("t", [rows, 8], 1, [0] * (8 * rows), [0.0, 1.0], row_scale=[1.0] * rows, scale_rows=1))


COUNT_CASES = [
    Case("many_items", "CVE-2024-21836; O(n^2) duplicate checks of gguf.cpp", "20,000 aliases of one tensor", "clean",
         built(lambda: File([exact("t", "U8", [1], b"x")] + [alias(f"a{n}", 0) for n in range(20000)])),
         reference=False),
    Case("many_long_names", "fault F56", "4,000 names of 1024 bytes that differ in the last five", "clean",
         built(flood_of_names), reference=False),
    Case("many_planes", "CVE-2024-21802", "200 items of 32 planes each", "clean", built(planes_32)),
    Case("many_blocks", "fault F60", "100,000 blocks of one byte", "clean",
         built(lambda: only(exact("t", "U8", [100000, 1], noise(100000)))), reference=False),
    Case("many_scale_blocks", "the square of a count", "50,000 rows, whose scales are in a block each: reading row after "
         "row must not look through all of them each time", "clean", built(lambda: many_scales(50000)), reference=False),
    Case("many_bad_blocks", "reports that outgrow the file", "60,000 blocks with wrong digests, of a tensor with a "
         "name of 1024 bytes", "item 0 B1", built(lambda: bad_blocks(60000)), reference=False),
    Case("many_scattered_bad_blocks", "reports that outgrow the file", "10,000 blocks with wrong digests, each between "
         "good ones", "item 0 B1", built(lambda: bad_blocks(20000, 64, 2)), reference=False),
]


# ---- codecs ----

def one_block(size, stored, codec):
    """A tensor of `size` bytes, said to be zeros, in one block of these stored bytes."""
    item = Item(b"t", TENSOR, [1, size], [Plane(DATA, U8, 8, size, blocks=[Block(stored, size, codec)])], 1, U8, EXACT)
    return built(lambda: only(item))


def zstd_case(name, mirrors, attack, outcome, size, stored, **rest):
    return Case(name, mirrors, attack, outcome, one_block(size, stored, ZSTD), **rest)


def brotli_case(name, mirrors, attack, outcome, size, stored, **rest):
    return Case(name, mirrors, attack, outcome, one_block(size, stored, BROTLI), **rest)


def rle(size, last=False):
    return zstd_block(1, size, b"\0", last)


# Two literals sections, and a header that says one sequence with tables of the block before: there is none.
RAW_LITERALS = bytes([8 << 3]) + b"literals"
TREELESS_LITERALS = (3 | 8 << 4 | 2 << 14).to_bytes(3, "little") + b"\1\1"
REPEATED_TABLES = bytes([1, 0xFC, 1])
NO_SEQUENCES = b"\0"

# 2^16 zeros and a flush, which leaves the stream at a whole byte: first with its header (WBITS 16), then without.
BROTLI_FIRST = bytes.fromhex("f0ff0fff04403c1608e4de0318")
BROTLI_NEXT = bytes.fromhex("f8ff877f02200e0b0074ef010c")
BROTLI_EMPTY, BROTLI_END = b"\6", b"\3"  # A metadata block of no bytes; the end of the stream.
# WBITS 24: 2^24 and 2^26 zeros.
BROTLI_16_MIB = bytes.fromhex("cfffff7ff82700e2b14020f7fe7f")
BROTLI_64_MIB = bytes.fromhex("cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c32200ddfb7ffeff"
                              "ffc33f0110870500baf7ff03")


def compressed(*parts):
    content = b"".join(parts)
    return zstd_header(200) + zstd_block(2, len(content), content, True)


def zeros_in_blocks(size, blocks, codec, stored):
    """A tensor of zeros, each block the same stored bytes."""
    planes = [Plane(DATA, U8, 8, size, blocks=[Block(stored, size, codec) for _ in range(blocks)], layout=1)]
    return built(lambda: only(Item(b"t", TENSOR, [blocks, size], planes, 1, U8, EXACT)))


def large_planes():
    """A codebook tensor of 2^22 x 32 whose every plane is one block of 16 MiB, stored in 518 bytes."""
    rows, block = 1 << 22, [Block(zstd_frame(bytes(16 * MIB)), 16 * MIB, ZSTD)]
    planes = [Plane(CODES, 0, 1, 32, rows, blocks=block), float_plane(CODEBOOK, "F16", 2, 1, [0.0, 1.0], scope=0),
              Plane(ROW_SCALE, F32, 32, 1, rows, blocks=block),
              Plane(GROUP_SCALE, F32, 32, 1, rows, group=32, blocks=block)]
    return only(Item(b"t", TENSOR, [rows, 32], planes, 1, F32, CODEBOOK_NAME, sums=(1.0, 1.0)))


def bf16_in_planes(frame):
    """A tensor of 2^19 BF16 in one block: a plane of zeros as it is, then `frame`."""
    block = Block(bytes(MIB // 2) + frame, MIB, ZSTD, BYTE_PLANES)
    plane = Plane(DATA, BF16, 16, MIB // 2, blocks=[block])
    return built(lambda: only(Item(b"t", TENSOR, [1, MIB // 2], [plane], 1, BF16, EXACT)))


def many_statements():
    """2^27 codes of one bit in 523 bytes, of which 30 planes state something."""
    planes = [Plane(CODES, 0, 1, 1 << 23, 16, blocks=[Block(zstd_frame(bytes(16 * MIB)), 16 * MIB, ZSTD)]),
              float_plane(CODEBOOK, "F16", 2, 1, [0.0, 1.0], scope=0)]
    for _ in range(15):
        planes += [statement(STATISTICS, "F64", [0.0, 0.0, 0.0]), statement(AFFINE, "F16", [0.0, 1.0])]
    return only(Item(b"t", TENSOR, [16, 1 << 23], planes, 1, F32, CODEBOOK_NAME, sums=(1.0, 1.0)))


def wide_statistics():
    """A statistics plane of 2^21 entries."""
    item = codebook("q", [1, 8], 3, list(range(8)), [0.0] * 8)
    return only(with_planes(item, statement(STATISTICS, "F64", [0.0, 0.0, 3.0] + [0.0] * ((1 << 21) - 3))))


CODEC_CASES = [
    Case("planes_1_gib", "zstd fuzz target dstSize_tooSmall", "a frame of byte planes that goes on to 1 GiB after the "
         "512 KiB of its plane", "item 0 C2",
         bf16_in_planes(zstd_header(MIB // 2) + rle(MIB // 8) * 8191 + rle(MIB // 8, True))),
    Case("planes_content_16_gib", "fault F39", "a content size of 2^34 in the frame of byte planes", "item 0 C1",
         bf16_in_planes(zstd_header(1 << 34, 3) + rle(MIB // 8, True))),
    Case("planes_content_of_block", "the same", "a frame of byte planes that yields the whole block", "item 0 C1",
         bf16_in_planes(zstd_frame(bytes(MIB)))),
    Case("statements_30", "work that is not stored", "30 planes that state something of 2^27 codes, which is allowed",
         "clean", built(many_statements), reference=False),
    Case("statistics_16_mib", "the same", "a statistics plane with 2^21 entries, which is allowed", "clean",
         built(wide_statistics)),
    zstd_case("zstd_1_gib", "zstd fuzz target dstSize_tooSmall", "32 KiB that go on to 1 GiB after the 128 KiB of "
              "their block", "item 0 C2", MIB // 8, zstd_header(MIB // 8) + rle(MIB // 8) * 8191 + rle(MIB // 8, True)),
    zstd_case("zstd_run_2_mib", "RFC 8878, Block_Maximum_Size", "one run of 2^21 - 1 bytes", "item 0 C2", 2 * MIB - 1,
              zstd_header(2 * MIB - 1) + rle(2 * MIB - 1, True)),
    zstd_case("zstd_content_16_gib", "fault F39", "a content size of 2^34 in a block of 2^24", "item 0 C1",
              16 * MIB, zstd_header(1 << 34, 3) + rle(MIB // 8, True)),
    zstd_case("zstd_window_2_31", "zstd --long=31", "a window of 2^31 around 2^24 bytes", "item 0 C1", 16 * MIB,
              zstd_header(16 * MIB, 2, window=21 << 3) + rle(MIB // 8, True)),
    zstd_case("zstd_skippable_4_gib", "fault F39", "a skippable frame of 2^32 - 1 bytes", "item 0 C1", 200,
              bytes.fromhex("502A4D18FFFFFFFF") + zstd_frame(bytes(200))),
    zstd_case("zstd_empty_frames", "the same", "a frame and 1,000 empty ones", "item 0 C2", 16 * MIB,
              zstd_frame(bytes(16 * MIB)) + (zstd_header(0) + zstd_block(0, 0, b"", True)) * 1000),
    zstd_case("zstd_empty_blocks", "the same", "300,000 empty blocks, which are allowed, before 1 MiB", "clean", MIB,
              zstd_header(MIB) + zstd_block(0, 0, b"", False) * 300000 + rle(MIB // 8) * 7 + rle(MIB // 8, True)),
    zstd_case("zstd_no_tree", "fault F57", "literals that use the Huffman tree of a block before the first",
              "item 0 C2", 200, compressed(TREELESS_LITERALS, NO_SEQUENCES)),
    zstd_case("zstd_no_tables", "fault F57", "sequences that use the tables of a block before the first",
              "item 0 C2", 200, compressed(RAW_LITERALS, REPEATED_TABLES)),
    Case("zstd_blocks_16_mib", "fault F39", "256 MiB of zeros in 16 blocks of 523 bytes, which is allowed", "clean",
         zeros_in_blocks(16 * MIB, 16, ZSTD, zstd_frame(bytes(16 * MIB))), reference=False),
    Case("zstd_planes_16_mib", "fault F39", "three planes of 16 MiB in 523 bytes each, to 512 MiB of floats",
         "clean", built(large_planes), reference=False),
    brotli_case("brotli_window_24", "window bomb: 51 bytes that cost 16 MiB", "WBITS 24 in a block of 64 KiB",
                "item 0 C3", MIB // 16, BROTLI_64_MIB),
    brotli_case("brotli_large_window", "the same", "the large-window extension, 30 bits, in a block of 16 MiB",
                "item 0 C3", 16 * MIB, bytes.fromhex("111e") + BROTLI_16_MIB[1:]),
    brotli_case("brotli_1_gib", "brotli 1.2.0, output limit", "208 KiB that go on to 1 GiB after the 256 KiB of their "
                "block", "item 0 C4", MIB // 4, BROTLI_FIRST + BROTLI_NEXT * 16383 + BROTLI_END),
    brotli_case("brotli_64_mib", "the same", "56 bytes that go on to 64 MiB after the 16 MiB of their block",
                "item 0 C4", 16 * MIB, BROTLI_64_MIB),
    brotli_case("brotli_metadata_blocks", "fault F39, quine loops", "60,000 empty metadata blocks, which are "
                "allowed", "clean", MIB // 16, BROTLI_FIRST + BROTLI_EMPTY * 60000 + BROTLI_END),
    brotli_case("brotli_metadata_16_mib", "CVE-2020-8927", "a metadata block of 2^24 bytes that are not there",
                "item 0 C4", MIB // 16, BROTLI_FIRST + bytes.fromhex("36ffffff")),
    brotli_case("brotli_16_mib", "fault F39", "14 bytes that are 16 MiB, which is allowed", "clean", 16 * MIB,
                BROTLI_16_MIB),
]


# ---- bytes that are elsewhere ----

def pair(seed):
    """Files of equal shape: with one seed equal, with another different in every block."""
    return build(File([counting(name, "U8", [4, 40], seed=seed + n, rows_per_block=2) for n, name in enumerate("tu")]))


OLD, NEW = pair(1), pair(11)
ITEM_1 = (len(OLD.data[:OLD.places["footer"]]) + 64) // 2  # Both packets have one length.
assert ITEM_1 < OLD.places["plane 1.0"] + 64 and OLD.places == NEW.places


def spliced(*parts):
    """The file NEW with the bytes [begin, end) of other files in their places."""
    out = bytearray(NEW.data)
    for source, begin, end in parts:
        out[begin:end] = source.data[begin:end]
    return lambda: bytes(out)


def packets_swapped():
    end = NEW.places["footer"]
    return NEW.data[:64] + NEW.data[ITEM_1:end] + NEW.data[64:ITEM_1] + NEW.data[end:]


def blocks_swapped_with_digests():
    out, block, digest = bytearray(NEW.data), NEW.places["plane 0.0"], NEW.places["index 0"] + 32
    for first, second, size in ((block, block + 80, 80), (digest, digest + 64, 32)):
        out[first:first + size], out[second:second + size] = out[second:second + size], out[first:first + size]
    return bytes(out)


END = len(NEW.data)
MOVE_CASES = [
    Case("moved_packet", "fault F53", "the first packet is that of another file of equal shape", "item 0 X1",
         spliced((OLD, 64, ITEM_1))),
    Case("moved_packets", "fault F53", "all packets are those of another file", "item 0 X1",
         spliced((OLD, 64, NEW.places["footer"]))),
    Case("moved_footer", "fault F53", "the footer is that of another file", "open F1",
         spliced((OLD, NEW.places["footer"], NEW.places["tail"]))),
    Case("moved_tail", "fault F53", "the tail is that of another file", "open F1",
         spliced((OLD, NEW.places["tail"], END))),
    Case("swapped_packets", "fault F53", "two packets of equal length change places", "item 0 X1",
         packets_swapped),
    Case("swapped_blocks", "fault F53", "two blocks change places, and so do their digests in the index",
         "item 0 X1", blocks_swapped_with_digests),
    Case("rollback", "fault F54", "an older intact file, where the root of the newer one is expected", "open T4",
         lambda: OLD.data, expected_root=NEW.root.hex()),
]


# ---- less than is asked for ----

def compressed_tensor():
    return only(exact("t", "U8", [1, 400], bytes(400), encode=zstd_encoder))


def index_entry(**fields):
    return lambda file: file.items[0].planes[0].blocks[0].over.update(fields)


def item_field(**fields):
    return lambda file: file.items[0].over.update(fields)


DOWNGRADE_CASES = [
    Case("no_block_digest", "fault F50", "a block whose digest in the index is zero", "item 0 B1",
         built(lambda: changed(index_entry(digest=bytes(32))))),
    Case("no_index_digest", "fault F50", "an item whose index digest is zero", "item 0 X1",
         built(lambda: changed(item_field(index_digest=bytes(32))))),
    Case("no_footer_digest", "fault F50", "a tail whose footer digest is zero, under its right root", "open F1",
         built(lambda: changed(lambda file: file.tail.update(footer_digest=bytes(32))))),
    Case("no_root", "fault F50", "a root of zeros", "open T3", built(
        lambda: changed(patch(lambda out, places: out[:-40] + bytes(32) + out[-8:])))),
    Case("codec_now_raw", "fault F50", "a zstd block that the index calls raw", "item 0 X7",
         built(lambda: changed(index_entry(codec=RAW), plane(0, 0, codecs=1), base=compressed_tensor))),
    Case("codec_now_brotli", "fault F50", "a zstd block that the index calls brotli", "item 0 C4",
         built(lambda: changed(index_entry(codec=BROTLI), plane(0, 0, codecs=4), base=compressed_tensor))),
    Case("plane_now_ignorable", "fault F50", "the only plane of a tensor, marked as one that may be ignored",
         "open E1", built(lambda: changed(plane(0, 0, role=IGNORABLE | DATA)))),
    Case("kind_now_ignorable", "fault F50", "a tensor marked as an item that may be ignored: its digests are "
         "still checked", "item 0 B1", built(lambda: changed(item_field(kind=IGNORABLE), index_entry(digest=bytes(32)),
                                                             base=compressed_tensor))),
]


# ---- names and metadata ----

NAMES = ["../../etc/passwd", "/etc/passwd", "..\\..\\windows", "C:\\aux", "con", "~/.ssh/id_rsa", "a/../../b", "-rf",
         "$(reboot)", "`id`", "{{7*7}}", "%s%n", "\u202Egpj.exe", "\u2066x\u2069", "\u061Cx", "line\u2028two",
         "paragraph\u2029two", "\uFEFFmark", "zero\u200Bwidth", "e\u0301", "\u00E9", "\U000E0041tag", "\U0010FFFF"]
TEXTS = ["\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;cm0gLXJm\x07", "a\r\nb: forged", "\x9b31m", "\0nul",
         "\u202Ertl", "\u061Cmark", "\u2028line", "\x7f\x08\x08", '","forged":"'] + NAMES


def terminal_file():
    items = [counting(name, "U8", [2], seed=n) for n, name in enumerate(NAMES)]
    items += [asset(name, name.encode(), b"text/plain") for name in NAMES]
    entries = sorted({(f"{n:02} {text}".encode(), 7 if n % 2 else 5, text.encode()) for n, text in enumerate(TEXTS)})
    return File(items + [metadata(entries)])


def json_value(text):
    return built(lambda: only(counting("t", "U8", [2]), metadata([(b"value", 7, text)])))


def zero_metadata(size):
    """One value of zeros, in zstd blocks of 1 MiB."""
    return metadata([(b"zeros", 6, bytes(size))], rows_per_block=0, encode=zstd_encoder)


TEXT_CASES = [
    Case("names_and_texts", "fault F45; CVE-2024-34359", "paths, terminal escapes, bidi marks, line breaks and "
         "templates as names and metadata", "clean", built(terminal_file)),
    Case("metadata_many_keys", "fault F56", "100,000 keys", "clean", built(lambda: only(
        counting("t", "U8", [2]), metadata([(b"%06d" % n, 0, 0) for n in range(100000)], rows_per_block=0))),
         reference=False),
    Case("metadata_json_many_keys", "fault F56", "a JSON value with 100,000 keys", "clean",
         json_value(b"{" + b",".join(b'"%06d":0' % n for n in range(100000)) + b"}")),
    Case("metadata_json_deep", "fault F40", "a JSON value of 100,000 brackets", "clean", json_value(b"[" * 100000)),
    Case("metadata_64_mib", "CVE-2024-23605", "one value of 63 MiB of zeros in 10 KB", "clean", built(
        lambda: only(counting("t", "U8", [2]), zero_metadata(63 * MIB))), reference=False),
]


# ---- records ----

def fake_records():
    """An asset that is full of frames of records, each of the greatest length and with a wrong digest."""
    size = 8 * MIB
    frames = [RECORD.pack({"magic": RECORD_MAGIC, "length": 4096, "number": 0, "offset": offset}) + bytes(32)
              for offset in range(64, 64 + size, 64)]
    return only(asset("a", b"".join(frames), rows_per_block=0), metadata())


def imitated_record():
    """An asset that begins with the record of another one, at the place where that could stand."""
    other = build(only(asset("other", b"")))
    record = other.data[64:other.places["footer"]]
    return only(asset("a", record), metadata())


RECORD_CASES = [
    Case("records_fake", "fault F56", "131,072 places where a rebuild has to hash 4 KiB", "clean",
         built(fake_records), reference=False),
    Case("records_imitated", "spec/format.md, section 18", "an asset whose content is a record: a rebuild is led "
         "astray, says that it is a salvage, and has another root", "clean", built(imitated_record)),
]

CASES = (FOOTER_CASES + COUNT_CASES + CODEC_CASES + MOVE_CASES + DOWNGRADE_CASES + TEXT_CASES + RECORD_CASES)
