"""The bad and the recovery vectors: tables of cases, most of them one change to a standard file."""
import math
import struct
from dataclasses import dataclass

from builder import (ASSET, BROTLI, CODEBOOK, DATA, DTYPE_ID, GROUP_SCALE, HEAD_MAGIC, IGNORABLE, INF, PWL, RAW,
                     ROW_SCALE, TENSOR, ZSTD, File, Item, Plane, build, byte_plane_encoder, metadata_bytes,
                     raw_block, structure_hash, zstd_block, zstd_blocks, zstd_encoder, zstd_frame, zstd_header)
from describe import (EXACT, Scales, alias, asset, code_noise, codebook, counting, exact, filled, metadata, noise,
                      outlier_plane, statement)
from extension_cases import BAD_EXTENSIONS
from good_cases import ROUND_TRIP, SMALL_BOOK, TABLE, ignorable_plane, in_planes, stored_as
from payloads import (BROTLI_128K_18, BROTLI_199_LETTERS, BROTLI_201_LETTERS, BROTLI_LETTERS_16,
                      BROTLI_LETTERS_17, BROTLI_LETTERS_22, LETTERS)
from statement_cases import BAD_STATEMENTS, BENT, only, with_planes

NAN = math.nan
TOP = 1 << 64
CANONICAL_NAN = bytes.fromhex("0000C07F")

RULES_WITHOUT_FILE = {"T13": "the footer would have to be larger than 1 GiB"}


@dataclass
class Case:
    """One bad file: its name begins with the rule that it breaks; `hit` is the item that is damaged."""
    name: str
    description: str
    file: File
    hit: int = 0
    expected_root: str = None

    @property
    def rule(self):
        return self.name.split("_")[0]


@dataclass
class Recovery:
    """A damaged file and the description of what is rebuilt from it."""
    name: str
    description: str
    expect: str
    output: File
    cut: object

    def damaged(self):
        return self.cut(build(ROUND_TRIP_FILE))


# ---- the standard files ----

def small_codebook(name="q", **rest):
    arguments = dict(rows_per_block=2, row_scale=[1.0, 2.0, 4.0, 0.5],
                     outliers=("F32", [[(3, 9.0), (7, 8.0)], []]))
    return codebook(name, [4, 5], 3, code_noise(20, 3), SMALL_BOOK, **(arguments | rest))


def standard():
    """Item 0 exact in two contiguous blocks, 1 codebook, 2 asset, 3 metadata."""
    return File([counting("t", "F32", [4, 3], rows_per_block=2), small_codebook(), asset("a", b"0123456789"),
                 metadata([(b"key", 5, b"value")])])


def letters(stored, codec=ZSTD):
    """One tensor of 200 bytes of `A`, stored in one block as these bytes."""
    return File([exact("t", "U8", [1, 200], LETTERS, encode=stored_as(stored, codec))])


def packed():
    """One tensor in two packed raw blocks."""
    return File([counting("t", "U8", [2, 40], encode=raw_block)])


# ---- changes to a description: each is a function of the File ----

def changed(*changes, base=standard):
    file = base()
    for change in changes:
        change(file)
    return file


def item(number, /, **fields):
    return lambda file: file.items[number].over.update(fields)


def plane(number, n, /, **fields):
    return lambda file: file.items[number].planes[n].over.update(fields)


def entry(number, n, block, /, **fields):
    return lambda file: file.items[number].planes[n].blocks[block].over.update(fields)


def head(**fields):
    return lambda file: file.head.update(fields)


def tail(**fields):
    return lambda file: file.tail.update(fields)


def both(**fields):
    """A field that head and tail have in common."""
    return lambda file: (file.head.update(fields), file.tail.update(fields))


def attribute(number, /, **fields):
    return lambda file: [setattr(file.items[number], name, value) for name, value in fields.items()]


def plane_attribute(number, n, /, **fields):
    return lambda file: [setattr(file.items[number].planes[n], name, value) for name, value in fields.items()]


def record(number, /, **fields):
    return lambda file: file.records.update({number: fields})


def extra(place, data):
    return lambda file: file.extra.update({place: data})


def vectors(hook):
    return lambda file: file.vector_hooks.append(hook)


def footer(hook):
    return lambda file: file.footer_hooks.append(hook)


def footer_at(offset, data):
    return footer(lambda old: old[:offset] + data + old[offset + len(data):])


def patch(hook):
    """A change to the finished bytes, after all digests: hook(bytes, places)."""
    return lambda file: file.patches.append(hook)


def written(place, delta, data):
    """These bytes over the finished file's, at a place."""
    def hook(out, places):
        at = places.get(place, 0) + delta
        return out[:at] + data + out[at + len(data):]
    return patch(hook)


def flipped(place, delta, bit=0):
    def hook(out, places):
        out[places.get(place, 0) + delta] ^= 1 << bit
        return out
    return patch(hook)


def inserted(place, data):
    return patch(lambda out, places: out[:places[place]] + data + out[places[place]:])


def sliced(start, end):
    return patch(lambda out, places: out[start:end])


def whole(data):
    return patch(lambda out, places: data)


def u32(x):
    return struct.pack("<I", x)


# ---- T: head and tail ----

T_CASES = [
    ("T1_empty", "no bytes", changed(whole(b""), base=File)),
    ("T1_one_byte", "the first byte of the magic", changed(whole(HEAD_MAGIC[:1]), base=File)),
    ("T1_short_garbage", "60 bytes of something else", changed(whole(noise(60)), base=File)),
    ("T1_garbage", "600 bytes of something else", changed(whole(noise(600)), base=File)),
    ("T1_both_magics", "both magics differ", changed(flipped("head", 0), flipped("tail", 255))),
    ("T1_short_with_tail", "447 bytes that end with the tail's magic and begin otherwise",
     changed(sliced(1, 448), base=File)),
    ("T2_head_only", "a head and nothing else", changed(sliced(0, 64))),
    ("T2_447_bytes", "447 bytes, with both magics", changed(
        patch(lambda out, places: out[:100] + out[101:]), base=File)),
    ("T2_cut_by_one", "the last byte is missing", changed(sliced(0, -1))),
    ("T2_cut_in_footer", "the file ends within the footer", changed(sliced(0, -500))),
    ("T2_cut_in_half", "the file ends within a packet", changed(sliced(0, 700))),
    ("T2_byte_appended", "a zero byte after the tail", changed(patch(lambda out, places: out + b"\0"))),
    ("T2_tail_magic", "the tail's magic has a flipped bit", changed(flipped("tail", 250))),
    ("T3_root_flipped", "a bit of the root", changed(flipped("tail", 216))),
    ("T3_root_last_bit", "the last bit of the root", changed(flipped("tail", 247, 7))),
    ("T3_tag_flipped", "a bit of the tag", changed(flipped("tail", 3))),
    ("T3_optional_feature", "an optional feature bit was added", changed(flipped("tail", 24, 5))),
    ("T3_version", "the tail's version was changed", changed(flipped("tail", 60))),
    ("T3_reserved", "a reserved byte was changed", changed(flipped("tail", 215))),
    ("T3_footer_digest", "the footer's digest was changed", changed(flipped("tail", 64))),
    ("T5_tag", "the tag names version 2", changed(tail(tag=b"CDNA3 root v2"))),
    ("T5_tag_padding", "the tag's last byte is not zero", changed(tail(tag=b"CDNA3 root v1\0\0\1"))),
    ("T6_version_2", "version 2", changed(both(version=2))),
    ("T6_version_4", "version 4", changed(both(version=4))),
    ("T7_suite_0", "hash suite 0", changed(both(hash_suite=0))),
    ("T7_suite_2", "hash suite 2", changed(both(hash_suite=2))),
    ("T8_align_5", "an alignment of 32", changed(both(align_log2=5))),
    ("T8_align_17", "an alignment of 2^17", changed(both(align_log2=17))),
    ("T8_align_255", "an alignment of 2^255", changed(both(align_log2=255))),
    ("T9_reserved_first", "the first reserved byte", changed(tail(reserved=b"\1" + bytes(117)))),
    ("T9_reserved_last", "the last reserved byte", changed(tail(reserved=bytes(117) + b"\x80"))),
    ("T10_bit_0", "required feature bit 0", changed(attribute(0, required=1))),
    ("T10_bit_63", "required feature bit 63", changed(attribute(0, required=1 << 63))),
    ("T11_longer", "64 zero bytes before the tail", changed(inserted("tail", bytes(64)))),
    ("T11_shorter", "a packet was taken out", changed(patch(lambda out, places: out[:64] + out[128:]))),
    ("T11_file_length_2_63", "file_length 2^63 and more, with a footer to match", changed(
        tail(file_length=(1 << 63) + 448, footer_offset=(1 << 63) + 64), base=File)),
    ("T12_footer_unaligned", "footer_offset is not a multiple of 64", changed(
        tail(footer_offset=72, footer_length=88), base=File)),
    ("T12_footer_at_0", "footer_offset 0", changed(tail(footer_offset=0, footer_length=152), base=File)),
    ("T12_footer_80", "footer_length 80", changed(tail(footer_length=80), base=File)),
    ("T12_footer_92", "footer_length 92", changed(tail(footer_length=92), base=File)),
    ("T12_footer_long", "the footer would reach into the tail", changed(tail(footer_length=136), base=File)),
    ("T12_gap_before_tail", "64 bytes between footer and tail", changed(extra("before tail", bytes(64)))),
    ("T12_sum_wraps", "footer_offset + footer_length wraps around 2^64", changed(
        tail(footer_offset=TOP - 64, footer_length=256), base=File)),
    ("T14_items_2_24", "item_count 2^24 + 1", changed(tail(item_count=(1 << 24) + 1))),
    ("T14_items_2_32", "item_count 2^32 - 1", changed(tail(item_count=(1 << 32) - 1))),
]


# ---- F, H: footer and head ----

def appended(key, data):
    return vectors(lambda parts: parts[key].append(data))


def without_last(key):
    return vectors(lambda parts: parts[key].pop())


F_CASES = [
    ("F1_footer_flipped", "a bit of the footer", changed(flipped("footer", 300))),
    ("F1_digest", "the tail has another digest", changed(tail(footer_digest=structure_hash(b"other")))),
    ("F2_root_offset", "the root table is elsewhere", changed(footer_at(0, u32(28)))),
    ("F2_identifier", "another file identifier", changed(footer_at(4, b"CDN4"))),
    ("F2_zero_bytes", "bytes 8 and 9 are not zero", changed(footer_at(8, b"\0\1"))),
    ("F2_vtable_size", "a longer vtable", changed(footer_at(10, b"\x10"))),
    ("F2_table_size", "a longer table", changed(footer_at(12, b"\x1C"))),
    ("F2_field_missing", "the vtable has no text", changed(footer_at(22, b"\0\0"))),
    ("F2_fields_swapped", "the vtable swaps planes and dims", changed(footer_at(16, b"\x0C\0\x08\0"))),
    ("F2_vtable_distance", "the table's vtable is elsewhere", changed(footer_at(24, u32(12)))),
    ("F3_vectors_shared", "planes and items are one vector", changed(footer_at(32, u32(20)), base=File)),
    ("F3_vector_outside", "text lies after the footer", changed(footer_at(44, u32(1 << 20)))),
    ("F3_vector_before", "an offset that wraps to the table", changed(footer_at(28, u32((1 << 32) - 4)))),
    ("F3_count_large", "the text has 2^32 - 1 bytes", changed(footer_at(84, u32((1 << 32) - 1)), base=File)),
    ("F3_items_large", "2^32 - 1 items",
     changed(footer_at(52, u32((1 << 32) - 1)), tail(item_count=0), base=File)),
    ("F3_padding_first", "a byte before the first vector", changed(footer_at(48, b"\1"))),
    ("F3_padding_last", "the last byte of the padding", changed(
        footer(lambda old: old[:-1] + b"\1"), base=lambda: only(counting("text", "U8", [1])))),
    ("F3_long", "8 zero bytes more", changed(footer(lambda old: old + bytes(8)))),
    ("F4_tail_count", "the tail has an item more", changed(tail(item_count=5))),
    ("F4_tail_count_0", "the tail has no items", changed(tail(item_count=0))),
    ("F4_order_short", "an element of order is missing", changed(without_last("order"))),
    ("F4_order_long", "order has an element more", changed(appended("order", u32(0)))),
    ("F5_dims_left", "an unused dim at the end", changed(appended("dims", struct.pack("<Q", 4)))),
    ("F5_planes_left", "an unused plane at the end", changed(vectors(
        lambda parts: parts["planes"].append(parts["planes"][0])))),
    ("F5_text_left", "an unused byte of text", changed(vectors(lambda parts: parts["text"].append(65)))),
    ("F5_gap_before_footer", "64 bytes between the last record and the footer", changed(
        extra("before footer", bytes(64)))),
    ("F5_gap_no_items", "64 bytes between head and footer",
     changed(extra("before footer", bytes(64)), base=File)),
    ("F6_optional_added", "an optional bit of no item", changed(tail(optional_features=2))),
    ("F6_optional_missing", "an item's optional bit is not in the tail", changed(
        item(1, optional_features=1))),
    ("F6_required_missing", "an item's required bit is not in the tail",
     changed(item(0, required_features=8))),
    ("F6_no_items", "optional bits without items", changed(tail(optional_features=1), base=File)),
    ("H1_magic", "a bit of the head's magic", changed(flipped("head", 1))),
    ("H1_version", "the head has version 2", changed(head(version=2))),
    ("H1_align", "the head has another alignment", changed(head(align_log2=12))),
    ("H1_suite", "the head has hash suite 0", changed(head(hash_suite=0))),
    ("H1_reserved_first", "the first reserved byte of the head", changed(flipped("head", 14))),
    ("H1_reserved_last", "the last reserved byte of the head", changed(flipped("head", 63, 7))),
]


# ---- I: items ----

def pair():
    """Two tensors of the same shape, name length and type."""
    return only(counting("t", "U8", [3, 4]), counting("u", "U8", [3, 4]))


def hole(key, element, **fields):
    """An unused element between the slices of two items."""
    return changed(vectors(lambda parts: parts[key].insert(len(parts[key]) // 2, element)), item(1, **fields),
                   base=pair)


def shared(key, count, **fields):
    """Both items use the slice of the first; the pool holds it once."""
    def hook(parts):
        del parts[key][count:]
    return changed(vectors(hook), item(1, **fields), base=pair)


def hostile_shape(dims, row_dims=1, row_entries=0):
    """A shape whose product wraps: without blocks, as if the tensor were empty."""
    return only(Item(b"t", TENSOR, dims, [Plane(DATA, DTYPE_ID["U8"], 8, row_entries, 0, layout=0)], row_dims,
                     DTYPE_ID["U8"], EXACT))


def many_planes(count):
    base = counting("t", "U8", [2])
    base.planes += [Plane(IGNORABLE | 1, 2, 8, 0, 0) for _ in range(count - 1)]
    return only(base)


def bad_asset(*changes):
    """An asset, alone in its file, with changes that also move what depends on them."""
    return changed(*changes, base=lambda: only(asset("a", b"0123456789")))


def bad_alias(*changes):
    return changed(*changes, base=lambda: only(counting("t", "U8", [3]), asset("x", b"x"), alias("z", 0),
                                               alias("zz", 0), counting("last", "U8", [1])))


def wrapped_entry_count():
    """Two planes of 2^31 blocks: their sum is 2^32, and 0 in 32 bits."""
    def blocks(role):
        return Plane(role, DTYPE_ID["U8"], 8, 1, 1, over={"block_count": 1 << 31, "codecs": 1})
    planes = [blocks(DATA), blocks(IGNORABLE | 1)]
    return only(Item(b"t", TENSOR, [1 << 31, 1], planes, 1, DTYPE_ID["U8"], EXACT))


I_CASES = [
    ("I1_reserved_first", "the first reserved byte of an item", changed(item(0, reserved=b"\1" + bytes(15)))),
    ("I1_reserved_last", "the last reserved byte of an item", changed(item(3, reserved=bytes(15) + b"\1"))),
    ("I2_kind_4", "kind 4", changed(item(0, kind=4))),
    ("I2_kind_bit_14", "bit 14 without bit 15", changed(item(2, kind=0x4001))),
    ("I2_kind_7fff", "every bit but bit 15", changed(item(2, kind=0x7FFF))),
    ("I3_dims_shared", "two items share their dims", shared("dims", 2, first_dim=0)),
    ("I3_dims_hole", "an unused dim between two items", hole("dims", struct.pack("<Q", 3), first_dim=3)),
    ("I3_dims_outside", "first_dim is outside of dims", changed(item(0, first_dim=1 << 20))),
    ("I3_dims_wrap", "first_dim + rank wraps around 2^32", changed(item(0, first_dim=(1 << 32) - 2))),
    ("I3_dims_swapped", "two items have each other's dims", changed(
        item(0, first_dim=2), item(1, first_dim=0), base=pair)),
    ("I3_planes_shared", "two items share a plane", shared("planes", 1, first_plane=0)),
    ("I3_planes_hole", "an unused plane between two items", hole("planes", bytes(48), first_plane=2)),
    ("I3_planes_outside", "first_plane is outside of planes", changed(item(0, first_plane=1 << 24))),
    ("I3_text_shared", "two items share their text", shared("text", 11, text_offset=0)),
    ("I3_text_hole", "an unused byte of text between two items", hole("text", 65, text_offset=12)),
    ("I3_text_overlap", "a name begins within the text before", changed(item(1, text_offset=10))),
    ("I3_text_outside", "text_offset is outside of text", changed(item(0, text_offset=(1 << 32) - 1))),
    ("I3_dims_short", "dims ends within an item's slice", changed(without_last("dims"))),
    ("I3_packet_first", "the first packet does not begin at 64", changed(item(0, packet_offset=128))),
    ("I3_packet_shared", "two items share a packet", changed(item(1, packet_offset=64))),
    ("I3_packet_2_64", "packet_offset near 2^64", changed(item(1, packet_offset=TOP - 64))),
    ("I5_rank_9", "rank 9", only(counting("t", "U8", [1] * 9))),
    ("I5_rank_255", "rank 255", only(counting("t", "U8", [1] * 255))),
    ("I6_planes_33", "33 planes", many_planes(33)),
    ("I6_planes_255", "255 planes", many_planes(255)),
    ("I7_row_dims", "row_dims 3 of rank 2", changed(item(0, row_dims=3))),
    ("I7_row_dims_scalar", "row_dims 1 of rank 0", only(counting("t", "U8", [], over={"row_dims": 1}))),
    ("I8_product_wraps", "2^32 x 2^32 x 1 x 1", hostile_shape([1 << 32, 1 << 32, 1, 1], 2, 1)),
    ("I8_columns_wrap", "1 x 2^32 x 2^32", hostile_shape([1, 1 << 32, 1 << 32])),
    ("I8_exactly", "2^60 elements", hostile_shape([1 << 30, 1 << 30])),
    ("I8_one_dim", "a dim of 2^64 - 1", hostile_shape([TOP - 1])),
    ("I8_zero_beside", "a zero does not hide the other dims", hostile_shape([0, 1 << 60])),
    ("I8_zero_last", "2^40 x 2^40 x 0", hostile_shape([1 << 40, 1 << 40, 0])),
    ("I8_asset", "an asset of 2^60 bytes", changed(attribute(2, dims=[1 << 60]))),
    ("I9_squares_nan", "sum_squares is NaN", changed(item(1, sum_squares=NAN))),
    ("I9_error_nan", "sum_squared_error is NaN", changed(item(1, sum_squared_error=NAN))),
    ("I9_error_negative", "sum_squared_error is negative", changed(item(1, sum_squared_error=-1.0))),
    ("I9_max_nan", "max_abs_error is NaN", changed(item(1, max_abs_error=CANONICAL_NAN))),
    ("I9_negative_zero", "sum_squares is -0", changed(item(1, sum_squares=-0.0))),
    ("I10_no_planes", "a tensor without planes", only(Item(b"t", TENSOR, [0], [], 0, 2, EXACT))),
    ("I10_no_type", "a tensor without an encoding name", changed(attribute(0, type=b""))),
    ("I11_rank_0", "an asset of rank 0", bad_asset(attribute(0, dims=[]))),
    ("I11_rank_2", "an asset of rank 2", bad_asset(attribute(0, dims=[10, 1]))),
    ("I11_row_dims", "an asset with row_dims 1", bad_asset(item(0, row_dims=1))),
    ("I11_dtype", "an asset of dtype I8", bad_asset(item(0, dtype=DTYPE_ID["I8"]))),
    ("I11_no_plane", "an asset without planes", only(Item(b"a", ASSET, [0], [], 0, 2))),
    ("I11_two_planes", "an asset with a second plane", bad_asset(
        lambda file: file.items[0].planes.append(ignorable_plane()))),
    ("I11_metadata_type", "metadata with a type", changed(attribute(3, type=b"text/plain"))),
    ("I11_plane_role", "an asset whose plane has role 2", bad_asset(plane(0, 0, role=2))),
    ("I11_plane_role_ignorable", "an asset whose plane may be ignored", bad_asset(plane(0, 0, role=0x8001))),
    ("I11_plane_dtype", "an asset whose plane has dtype 0", bad_asset(plane(0, 0, dtype=0))),
    ("I11_plane_bits", "an asset in entries of 16 bits", only(Item(
        b"a", ASSET, [5], [filled(DATA, 2, 16, 5, 1, b"0123456789")], 0, 2))),
    ("I11_plane_entries", "an asset of 5 bytes with a plane of 10", bad_asset(attribute(0, dims=[5]))),
    ("I11_plane_group", "an asset whose plane has a group", bad_asset(plane(0, 0, group=32))),
    ("I11_plane_vector", "an asset whose plane has vector 2", bad_asset(plane(0, 0, vector=2))),
    ("I11_sum", "an asset with sum_squares", bad_asset(item(0, sum_squares=1.0))),
    ("I11_max_error", "an asset with max_abs_error", bad_asset(item(0, max_abs_error=INF))),
    ("I12_two", "two metadata items", only(metadata(), metadata())),
    ("I12_not_last", "metadata before a tensor", only(metadata(), counting("t", "U8", [1]))),
    ("I13_itself", "an alias of itself", bad_alias(attribute(2, dims=[2]))),
    ("I13_later", "an alias of a later tensor", bad_alias(attribute(2, dims=[4]))),
    ("I13_outside", "an alias of an item that does not exist", bad_alias(attribute(2, dims=[99]))),
    ("I13_wraps", "the target is 0 only in 32 bits", bad_alias(attribute(2, dims=[1 << 32]))),
    ("I13_asset", "an alias of an asset", bad_alias(attribute(2, dims=[1]))),
    ("I13_alias", "an alias of an alias", bad_alias(attribute(3, dims=[2]))),
    ("I13_rank_0", "an alias of rank 0", bad_alias(attribute(2, dims=[]))),
    ("I13_rank_2", "an alias of rank 2", bad_alias(attribute(2, dims=[0, 0]))),
    ("I13_row_dims", "an alias with row_dims 1", bad_alias(item(2, row_dims=1))),
    ("I13_dtype", "an alias with a dtype", bad_alias(item(2, dtype=2))),
    ("I13_type", "an alias with an encoding name", bad_alias(attribute(2, type=EXACT))),
    ("I13_plane", "an alias with a plane", bad_alias(attribute(2, planes=[
        Plane(DATA, 2, 8, 0, 1, layout=0)]))),
    ("I13_source_digest", "an alias with a source digest", bad_alias(item(2, source_digest=b"\1" * 32))),
    ("I13_sum", "an alias with sum_squares", bad_alias(item(2, sum_squares=1.0))),
    ("I14_more", "entry_count is one too large", changed(item(0, entry_count=3))),
    ("I14_fewer", "entry_count is one too small", changed(item(0, entry_count=1))),
    ("I14_wraps", "the block counts sum to 2^32, entry_count is 0", wrapped_entry_count()),
    ("I15_later", "index_offset is 64 too large", changed(item(0, index_offset=192))),
    ("I15_unaligned", "index_offset is not a multiple of 64", changed(item(0, index_offset=112))),
    ("I15_2_64", "index_offset near 2^64", changed(item(0, index_offset=TOP - 64))),
    ("I15_no_entries", "index_offset without entries", changed(
        item(0, index_offset=64), base=lambda: only(counting("t", "U8", [0])))),
    ("I15_digest", "an index digest without entries", changed(
        item(0, index_digest=bytes(32)), base=lambda: only(counting("t", "U8", [0])))),
]


# ---- P: planes ----

def with_ignored(**fields):
    """A tensor with a second plane that may be ignored, and has no blocks."""
    values = dict(role=IGNORABLE | 1, dtype=2, bits=8, row_entries=0, rows_per_block=1, scope=0) | fields
    over = values.pop("over", {})
    return only(with_planes(counting("t", "U8", [4]), Plane(**values, over=over)))


def wrapped_rows():
    """2^32 rows of 2^32 bytes: a plane of 2^64 bytes, or of none."""
    plane_of = Plane(IGNORABLE | 1, 2, 8, 1 << 32, 0)
    return only(Item(b"t", TENSOR, [1 << 32, 0], [Plane(DATA, 2, 8, 0, 1, layout=0), plane_of], 1, 2, EXACT))


def rows_wrap_in_32_bits():
    """65,536 rows per block of 65,536 bytes."""
    file = only(exact("t", "U8", [1, 65536], bytes(65536), encode=zstd_encoder))
    return changed(plane(0, 0, rows_per_block=65536), base=lambda: file)


def misaligned():
    """A = 4 KiB, but the plane of 1 MiB stands at 64."""
    file = only(exact("t", "U8", [2, 1 << 19], bytes(1 << 20), encode=zstd_encoder))
    return changed(both(align_log2=12), base=lambda: file)


P_CASES = [
    ("P1_reserved_a", "reserved bytes 42 and 43", changed(plane(0, 0, reserved_a=256))),
    ("P1_reserved_b", "reserved bytes 44 to 47", changed(plane(1, 3, reserved_b=1 << 31))),
    ("P2_scope_3", "scope 3", with_ignored(scope=3)),
    ("P2_scope_255", "scope 255", changed(plane(0, 0, scope=255))),
    ("P3_bits_0", "entries of no bits", with_ignored(bits=0)),
    ("P3_bits_129", "entries of 129 bits", with_ignored(bits=129)),
    ("P3_scope_2_bits", "scope 2 with bits 32", changed(plane(1, 3, bits=32))),
    ("P3_scope_2_entries", "scope 2 with row_entries", changed(plane(1, 3, row_entries=1))),
    ("P3_scope_2_rows", "scope 2 with rows_per_block", changed(plane(1, 3, rows_per_block=1))),
    ("P3_plane_0_scope_0", "plane 0 has scope 0", changed(
        plane(0, 0, scope=0), base=lambda: only(counting("t", "U8", [4], row_dims=0)))),
    ("P3_plane_0_scope_2", "plane 0 has scope 2", only(Item(
        b"t", TENSOR, [0], [Plane(DATA, 2, 8, 0, 0, 2)], 1, 2, EXACT))),
    ("P3_plane_0_ignorable_kind", "plane 0 of an item of an unknown kind has scope 0", only(
        Item(b"i", IGNORABLE, [], [ignorable_plane(scope=0)]))),
    ("P4_row_entries", "2^60 entries per row", with_ignored(row_entries=1 << 60, rows_per_block=0)),
    ("P4_bytes", "2^63 bytes in a row", with_ignored(row_entries=1 << 59, bits=128, rows_per_block=0)),
    ("P4_rows_wrap", "2^32 rows of 2^32 bytes", wrapped_rows()),
    ("P5_more", "a block more than the rows need",
     changed(plane(0, 0, block_count=3), item(0, entry_count=3))),
    ("P5_fewer", "a block less than the rows need",
     changed(plane(0, 0, block_count=1), item(0, entry_count=1))),
    ("P5_rows_per_block", "rows_per_block does not fit the blocks", changed(plane(0, 0, rows_per_block=1))),
    ("P5_empty_with_block", "a block in a plane without bytes", only(with_planes(
        counting("t", "U8", [4]), Plane(IGNORABLE | 1, 2, 8, 0, 1, 0, blocks=[raw_block(b"")])))),
    ("P5_scope_2", "an outlier block is missing", only(small_codebook(outliers=("F32", [[(3, 9.0)]])))),
    ("P5_row_bits_wrap", "2^57 entries of 128 bits without a block", with_ignored(
        row_entries=1 << 57, bits=128, rows_per_block=0)),
    ("P6_block_size", "rows_per_block x row_bytes is 2^24 + 1", changed(
        plane(0, 0, rows_per_block=(1 << 24) + 1), base=lambda: only(counting("t", "U8", [1])))),
    ("P6_wraps", "rows_per_block x row_bytes is 0 in 32 bits", rows_wrap_in_32_bits()),
    ("P7_rows", "3 rows of scales beside blocks of 2 rows",
     only(small_codebook(scale_rows=3, outliers=None))),
    ("P7_fewer_rows", "1 row of scales beside blocks of 2 rows",
     only(small_codebook(scale_rows=1, outliers=None))),
    ("P8_scope_2", "a contiguous outlier plane", changed(plane_attribute(1, 3, layout=0))),
    ("P8_stored_length", "a contiguous plane one byte short", changed(plane(0, 0, stored_length=47))),
    ("P8_contiguous_zstd", "a contiguous plane with codec 1", changed(plane(0, 0, codecs=2))),
    ("P8_contiguous_more_codecs", "a contiguous plane with codecs 0 and 1", changed(plane(0, 0, codecs=3))),
    ("P8_codecs_0", "a packed plane without codecs", changed(plane(0, 0, codecs=0), base=packed)),
    ("P8_codecs_no_blocks", "codecs without blocks", with_ignored(over={"codecs": 1})),
    ("P8_codecs_contiguous_empty", "codecs of an empty contiguous plane", changed(
        plane(0, 0, codecs=1), base=lambda: only(counting("t", "U8", [0])))),
    ("P8_length_no_blocks", "a packed plane of 64 bytes without blocks",
     with_ignored(over={"stored_length": 64})),
    ("P9_later", "a plane 64 bytes too late", changed(plane(0, 0, offset=128))),
    ("P9_unaligned", "a plane at 72", changed(plane(0, 0, offset=72))),
    ("P9_shared", "two planes at one place", changed(
        plane(0, 1, offset=64), base=lambda: only(small_codebook()))),
    ("P9_empty", "the offset of a plane without bytes", changed(
        plane(0, 0, offset=64), base=lambda: only(counting("t", "U8", [0])))),
    ("P9_no_alignment", "a plane of 256 A that is not aligned to A", misaligned()),
    ("P9_length_2_62", "a packed plane of 2^62 bytes",
     changed(plane(0, 0, stored_length=1 << 62), base=packed)),
    ("P9_length_wraps", "offset + stored_length wraps around 2^64", changed(
        plane(0, 0, stored_length=TOP - 64), base=packed)),
    ("P9_length_2_63", "a packed plane of 2^63 bytes",
     changed(plane(0, 0, stored_length=1 << 63), base=packed)),
]


# ---- N: names; E1, E2: encodings, at open ----

def named(name, media=b"x"):
    return only(Item(name, ASSET, [0], [Plane(DATA, 2, 8, 0, 1, layout=0)], 0, 2, media))


def order(*numbers):
    return vectors(lambda parts: parts.__setitem__("order", [u32(n) for n in numbers]))


N_CASES = [
    ("N1_empty", "an empty name", named(b"")),
    ("N1_1025", "a name of 1025 bytes", named(b"n" * 1025)),
    ("N2_overlong", "an overlong form of `/`", named(b"a\xC0\xAFb")),
    ("N2_overlong_3", "an overlong form in three bytes", named(b"\xE0\x80\xAF")),
    ("N2_overlong_nul", "NUL in two bytes", named(b"\xC0\x80")),
    ("N2_surrogate", "a surrogate", named(b"\xED\xA0\x80")),
    ("N2_above_10ffff", "U+110000", named(b"\xF4\x90\x80\x80")),
    ("N2_continuation", "a lone continuation byte", named(b"a\x80")),
    ("N2_cut", "a sequence that ends early", named(b"a\xE2\x82")),
    ("N2_ff", "a byte that never occurs", named(b"\xFF")),
    ("N3_nul", "NUL", named(b"a\0")),
    ("N3_newline", "a line feed", named(b"a\nb")),
    ("N3_1f", "U+001F", named(b"\x1F")),
    ("N3_del", "U+007F", named(b"a\x7F")),
    ("N3_0080", "U+0080", named(b"\xC2\x80")),
    ("N3_009f", "U+009F", named(b"a\xC2\x9F")),
    ("N4_256", "a media type of 256 bytes", named(b"a", b"t" * 256)),
    ("N4_1f", "a control character in a media type", named(b"a", b"text\x1Fplain")),
    ("N4_7f", "DEL in a media type", named(b"a", b"text\x7F")),
    ("N4_not_ascii", "UTF-8 in a media type", named(b"a", "té".encode())),
    ("N4_encoding", "NUL at the end of an encoding name", changed(attribute(0, type=EXACT + b"\0"))),
    ("N5_not_sorted", "order swaps two tensors", changed(order(0, 1, 2, 3))),
    ("N5_twice", "order has an item twice", changed(order(1, 1, 2, 3))),
    ("N5_outside", "order has an item that does not exist", changed(order(1, 0, 2, 4))),
    ("N5_2_32", "order has 2^32 - 1", changed(order(1, 0, 2, (1 << 32) - 1))),
    ("N5_classes", "an asset before the tensors", changed(order(2, 1, 0, 3))),
    ("N5_same_name", "two tensors of one name", only(counting("t", "U8", [1]), counting("t", "U8", [2]))),
    ("N5_alias_name", "an alias with its tensor's name", only(counting("t", "U8", [1]), alias("t", 0))),
    ("N5_asset_name", "an asset and the metadata of one name", only(asset("metadata", b"x"), metadata())),
]


def two_scales():
    base = small_codebook(outliers=None)
    return only(with_planes(base, filled(ROW_SCALE, 12, 32, 1, 4, bytes(16), 4)))


def plane_order():
    base = small_codebook(outliers=None)
    base.planes[1:] = base.planes[:0:-1]
    return only(base)


def without_plane(n, base):
    del base.planes[n]
    return only(base)


def grouped(group, dtype="F32", values=None, table=None, cols=40, **rest):
    values = values or [[1.0] * -(-cols // group)] * 2
    return codebook("q", [2, cols], 3, code_noise(2 * cols, 3), SMALL_BOOK,
                    scales=Scales(group, dtype, values, table), **rest)


def table_without_u8():
    base = grouped(32)
    base.planes.append(filled(6, 12, 32, 256, 1, bytes(1024), scope=0))
    return only(base)


def ignorable_first():
    base = counting("t", "U8", [4])
    base.planes.insert(0, filled(IGNORABLE | 1, 2, 8, 0, 4, b""))
    return only(base)


def codes_of_17_bits():
    base = small_codebook(outliers=None)
    base.planes[0] = filled(2, 0, 17, 5, 4, bytes(44), 2)
    return only(base)


def integer_outliers():
    base = small_codebook()
    base.planes[3].dtype = DTYPE_ID["I32"]
    return only(base)


E_OPEN_CASES = [
    ("E1_two_data", "a second data plane", only(with_planes(
        counting("t", "U8", [2, 4]), filled(DATA, 2, 8, 4, 2, bytes(8))))),
    ("E1_dtype", "the plane has another dtype", changed(plane(0, 0, dtype=DTYPE_ID["I32"]))),
    ("E1_bits", "the plane has other bits", only(Item(
        b"t", TENSOR, [2, 4], [filled(DATA, 2, 16, 4, 2, bytes(16))], 1, 2, EXACT))),
    ("E1_row_entries", "the rows are longer than the columns", only(Item(
        b"t", TENSOR, [2, 4], [filled(DATA, 2, 8, 5, 2, bytes(10))], 1, 2, EXACT))),
    ("E1_group", "the plane has a group", changed(plane(0, 0, group=32))),
    ("E1_sum", "an exact tensor with sum_squares", changed(item(0, sum_squares=1.0))),
    ("E1_error", "an exact tensor with sum_squared_error", changed(item(0, sum_squared_error=INF))),
    ("E1_rows_not_bytes", "rows of 12 bits", only(Item(
        b"t", TENSOR, [3, 3], [filled(DATA, 22, 4, 3, 3, bytes(6))], 1, DTYPE_ID["F4"], EXACT))),
    ("E1_ignorable_first", "a plane that may be ignored before the data", ignorable_first()),
    ("E2_no_codes", "no codes", only(Item(b"q", TENSOR, [2, 4], [
        filled(ROW_SCALE, 12, 32, 1, 2, bytes(8)), filled(CODEBOOK, 10, 16, 8, 1, bytes(16), scope=0)],
        1, 12, b"cdna.codebook"))),
    ("E2_no_codebook", "no codebook", without_plane(1, small_codebook())),
    ("E2_order", "row scales before the codebook", plane_order()),
    ("E2_scales_twice", "two planes of row scales", two_scales()),
    ("E2_17_bits", "codes of 17 bits", codes_of_17_bits()),
    ("E2_codes_dtype", "codes with a dtype", changed(plane(1, 0, dtype=2))),
    ("E2_codes_group", "codes with a group", changed(plane(1, 0, group=32))),
    ("E2_codebook_short", "7 entries for 3 bits", changed(
        lambda file: file.items[0].planes.__setitem__(1, filled(CODEBOOK, 10, 16, 7, 1, bytes(14), scope=0)),
        base=lambda: only(small_codebook()))),
    ("E2_codebook_bf16", "a codebook of BF16", changed(plane(1, 1, dtype=DTYPE_ID["BF16"]))),
    ("E2_item_dtype", "a codebook tensor of dtype I32", changed(item(1, dtype=DTYPE_ID["I32"]))),
    ("E2_row_scale_scope", "row scales of scope 0", only(with_planes(
        small_codebook(row_scale=None, outliers=None), filled(ROW_SCALE, 12, 32, 1, 1, bytes(4), scope=0)))),
    ("E2_group_48", "groups of 48", only(grouped(48))),
    ("E2_group_0", "group scales with group 0",
     changed(plane(0, 2, group=0), base=lambda: only(grouped(64)))),
    ("E2_group_entries", "three group scales for two groups", changed(
        lambda file: file.items[0].planes.__setitem__(2, filled(
            GROUP_SCALE, 12, 32, 3, 2, bytes(24), group=32)), base=lambda: only(grouped(32)))),
    ("E2_group_f64", "group scales of F64", changed(
        lambda file: file.items[0].planes.__setitem__(2, filled(
            GROUP_SCALE, 13, 64, 2, 2, bytes(32), group=32)), base=lambda: only(grouped(32)))),
    ("E2_no_table", "U8 group scales without a table",
     without_plane(3, grouped(32, "U8", [[1, 2]] * 2, TABLE))),
    ("E2_table", "a table without U8 group scales", table_without_u8()),
    ("E2_outlier_dtype", "outliers of dtype I32", integer_outliers()),
]


# ---- X: index ----

def zstd_block_of(stored, decoded_length):
    """A tensor of zeros in one block of this stored length, said to be zstd."""
    return only(exact("t", "U8", [1, decoded_length], bytes(decoded_length), encode=stored_as(stored, ZSTD)))


def huge_outliers():
    """An outlier block that decodes to more than 2^24 bytes."""
    size = (1 << 24) + 8
    base = small_codebook(outliers=("F32", [[], []]))
    base.planes[3].blocks[0] = zstd_encoder(bytes(size))
    return only(base)


def layout_2(**fields):
    """A tensor in an unknown layout, with the last entry changed."""
    return changed(plane_attribute(0, 0, layout=2), entry(0, 0, 1, **fields), base=packed)


def in_planes_of(frame, dtype="BF16"):
    """A tensor of 40 elements in byte planes, the last of them in what `frame` makes of it."""
    size = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}[dtype]
    return only(in_planes("t", dtype, [1, 40], encode=byte_plane_encoder(size, frame)))


X_CASES = [
    ("X1_index_flipped", "a bit of an index", changed(flipped("index 0", 33))),
    ("X1_digest", "the item has another index digest",
     changed(item(0, index_digest=structure_hash(b"other")))),
    ("X1_entries_swapped", "two index entries are swapped", changed(patch(
        lambda out, places: swap(out, places["index 0"], places["index 0"] + 64, 64)), base=packed)),
    ("X2_reserved_a", "reserved bytes 18 and 19", changed(entry(0, 0, 0, reserved_a=1))),
    ("X2_reserved_b", "reserved bytes 24 to 31", changed(entry(0, 0, 1, reserved_b=1 << 63))),
    ("X3_decoded_more", "decoded_length is one too large", changed(
        entry(0, 0, 0, decoded_length=201), base=lambda: letters(zstd_frame(LETTERS)))),
    ("X3_decoded_huge", "decoded_length 2^32 - 1", changed(
        entry(0, 0, 0, decoded_length=(1 << 32) - 1), base=lambda: letters(zstd_frame(LETTERS)))),
    ("X3_outliers_huge", "an outlier block of more than 2^24 bytes", huge_outliers()),
    ("X4_contiguous", "the offset in a contiguous plane", changed(entry(0, 0, 1, offset=64))),
    ("X4_first", "the first block does not stand at 0", changed(entry(0, 0, 0, offset=8), base=packed)),
    ("X4_unaligned", "a packed block directly after the one before", changed(
        entry(0, 0, 1, offset=40), base=packed)),
    ("X4_shared", "two blocks at one place", changed(entry(0, 0, 1, offset=0), base=packed)),
    ("X4_2_64", "an offset near 2^64", changed(entry(0, 0, 1, offset=TOP - 64), base=packed)),
    ("X4_back", "an unknown layout in which blocks overlap", layout_2(offset=39)),
    ("X5_plane_short", "the plane ends before its last block", changed(
        plane(0, 0, stored_length=103), base=packed)),
    ("X5_plane_long", "the plane ends after its last block", changed(
        plane(0, 0, stored_length=105), base=packed)),
    ("X5_beyond", "a block reaches beyond its plane", changed(
        entry(0, 0, 0, stored_length=(1 << 32) - 1), base=lambda: letters(zstd_frame(LETTERS)))),
    ("X5_wraps", "an unknown layout in which offset + stored_length wraps", layout_2(offset=TOP - 8)),
    ("X6_codec_8", "codec 8", changed(entry(0, 0, 0, codec=8), base=packed)),
    ("X6_codec_255", "codec 255", changed(entry(0, 0, 0, codec=255), base=packed)),
    ("X6_not_in_mask", "zstd without its bit in codecs", changed(
        plane(0, 0, codecs=4), base=lambda: letters(zstd_frame(LETTERS)))),
    ("X7_raw_short", "a raw block that is stored in fewer bytes", letters(LETTERS[:-1], RAW)),
    ("X7_raw_long", "a raw block that is stored in more bytes", letters(LETTERS + b"A", RAW)),
    ("X7_zstd_as_long", "a zstd block of the decoded length", zstd_block_of(zstd_frame(bytes(10)), 10)),
    ("X7_zstd_longer", "a zstd block that is longer than decoded", zstd_block_of(zstd_frame(bytes(4)), 4)),
    ("X7_zstd_empty", "a zstd block of no bytes", letters(b"", ZSTD)),
    ("X7_brotli_as_long", "a brotli block of the decoded length", letters(
        BROTLI_LETTERS_16 + bytes(200 - len(BROTLI_LETTERS_16)), BROTLI)),
    ("X7_planes_as_long", "byte planes whose frame is as long as the plane", in_planes_of(lambda plane: plane)),
    ("X7_planes_longer", "byte planes whose frame is longer than the plane", in_planes_of(
        lambda plane: zstd_frame(plane) + bytes(40))),
    ("X7_planes_no_frame", "byte planes without a frame", in_planes_of(lambda plane: b"")),
    ("X7_planes_short", "byte planes of F64 that end within the raw ones", changed(
        lambda file: setattr(file.items[0].planes[0].blocks[0], "stored", bytes(200)),
        base=lambda: only(in_planes("t", "F64", [1, 40])))),
    ("X7_planes_empty", "byte planes of no bytes", changed(
        lambda file: setattr(file.items[0].planes[0].blocks[0], "stored", b""),
        base=lambda: only(in_planes("t", "BF16", [1, 40])))),
    ("X7_filter_contiguous", "a filter in a contiguous plane", changed(entry(0, 0, 0, filter=1))),
    ("X8_nan", "max_abs_error is NaN", changed(entry(1, 0, 0, max_abs_error=CANONICAL_NAN)), 1),
    ("X8_negative_zero", "max_abs_error is -0", changed(entry(0, 0, 0, max_abs_error=-0.0))),
    ("X8_plane_1", "max_abs_error of a codebook block", changed(entry(1, 1, 0, max_abs_error=0.125)), 1),
    ("X8_asset", "max_abs_error of an asset's block", changed(entry(2, 0, 0, max_abs_error=0.125)), 2),
    ("X9_codec_unused", "codecs has a codec that does not occur",
     changed(plane(0, 0, codecs=3), base=packed)),
    ("X9_codec_unknown_unused", "codecs has an unknown codec that does not occur", changed(
        plane(0, 0, codecs=129), base=packed)),
    ("X9_max_error", "the item's max_abs_error is above the blocks'", changed(item(1, max_abs_error=0.5)), 1),
    ("X9_max_error_infinite", "a block's max_abs_error is above the item's", changed(
        entry(1, 0, 0, max_abs_error=INF)), 1),
    ("X9_no_blocks", "max_abs_error without blocks", changed(
        item(0, max_abs_error=1.0), base=lambda: only(codebook("q", [0, 5], 3, [], SMALL_BOOK)))),
]


# ---- B, C, E at touch ----

def swap(out, a, b, size):
    out[a:a + size], out[b:b + size] = out[b:b + size], out[a:a + size]
    return out


def swapped_blocks(out, places):
    start = places["plane 0.0"]
    return swap(out, start, start + 64, 40)


def rotate_stored(block, by):
    block.stored = block.stored[by:] + block.stored[:by]


def zstd_of(header, body=zstd_blocks(LETTERS)):
    return letters(header + body)


def rle(size, last=True, byte=b"A"):
    return zstd_block(1, size, byte, last)


SKIPPABLE = bytes.fromhex("502A4D18") + u32(4) + b"skip"
WHOLE = zstd_frame(LETTERS)
BLOCK_CASES = [
    ("B1_flipped", "a bit of a block", changed(flipped("plane 0.0", 5))),
    ("B1_last_block", "the last bit of the last block", changed(flipped("plane 0.0", 47, 7))),
    ("B1_swapped", "two blocks are swapped", changed(patch(swapped_blocks), base=packed)),
    ("B1_other_file", "a block from another file",
     changed(written("plane 0.0", 0, noise(40, 77)), base=packed)),
    ("B1_codebook", "a bit of a codebook", changed(flipped("plane 1.1", 1)), 1),
    ("B1_outliers", "a bit of an outlier position", changed(flipped("plane 1.3", 9)), 1),
    ("B1_asset", "a bit of an asset", changed(flipped("plane 2.0", 0)), 2),
    ("B1_metadata", "a bit of the metadata", changed(flipped("plane 3.0", 0)), 3),
    ("B1_digest", "the index has another digest", changed(entry(0, 0, 1, digest=structure_hash(b"other")))),
    ("B1_one_level", "the digest has one level of hashing", changed(
        entry(0, 0, 0, digest=structure_hash(LETTERS)), base=lambda: letters(LETTERS, RAW))),
    ("B1_before_unknown", "a damaged block comes before an unknown encoding", changed(
        attribute(0, type=b"example.future"), flipped("plane 0.0", 0))),
    ("B1_ignorable_plane", "a damaged block of a plane that may be ignored", changed(
        flipped("plane 0.1", 0),
        base=lambda: only(with_planes(counting("t", "U8", [4]), ignorable_plane())))),
    ("B1_compressed", "a flipped bit of a zstd frame",
     changed(flipped("plane 0.0", 0), base=lambda: letters(WHOLE))),
    ("C1_magic", "another magic number", letters(b"\x27" + WHOLE[1:])),
    ("C1_no_size", "no content size", zstd_of(zstd_header(200, 0, window=0))),
    ("C1_size_less", "a content size of 199", zstd_of(zstd_header(199))),
    ("C1_size_more", "a content size of 201", zstd_of(zstd_header(201))),
    ("C1_size_2_64", "a content size of 2^64 - 1", zstd_of(zstd_header(TOP - 1, 3))),
    ("C1_size_0", "a content size of 0", zstd_of(zstd_header(0))),
    ("C1_two_frames_of_100", "two frames of 100 bytes", letters(zstd_frame(LETTERS[:100]) * 2)),
    ("C1_skippable", "a skippable frame first", letters(SKIPPABLE + WHOLE)),
    ("C1_window", "a window of 2 KiB for 200 bytes", zstd_of(zstd_header(200, 2, window=1 << 3))),
    ("C1_window_mantissa", "a window of 1 KiB and an eighth", zstd_of(zstd_header(200, 2, window=1))),
    ("C1_window_huge", "a window of 2^41 and more", zstd_of(zstd_header(200, 2, window=255))),
    ("C1_dictionary", "a dictionary id", zstd_of(zstd_header(200, flags=1, dictionary=b"\7"))),
    ("C1_dictionary_0", "a dictionary id of 0", zstd_of(zstd_header(200, flags=1, dictionary=b"\0"))),
    ("C1_checksum", "the checksum flag, with four bytes for it", zstd_of(
        zstd_header(200, flags=4), zstd_blocks(LETTERS) + bytes(4))),
    ("C1_reserved_bit", "bit 3 of the descriptor", zstd_of(zstd_header(200, flags=8))),
    ("C1_unused_bit", "bit 4 of the descriptor", zstd_of(zstd_header(200, flags=16))),
    ("C1_cut_header", "the stored bytes end within the frame header", letters(WHOLE[:5])),
    ("C2_two_frames", "the whole frame twice", letters(WHOLE * 2)),
    ("C2_skippable_after", "a skippable frame at the end", letters(WHOLE + SKIPPABLE)),
    ("C2_trailing", "a byte after the frame", letters(WHOLE + b"\0")),
    ("C2_cut", "the last byte is missing", letters(WHOLE[:-1])),
    ("C2_not_last", "no block is the last one", zstd_of(zstd_header(200), rle(200, last=False))),
    ("C2_short", "blocks of 199 bytes", zstd_of(zstd_header(200), rle(199))),
    ("C2_long", "blocks of 201 bytes", zstd_of(zstd_header(200), rle(201))),
    ("C2_reserved_block", "a block of the reserved type",
     zstd_of(zstd_header(200), zstd_block(3, 200, b"A", True))),
    ("C2_garbage", "a compressed block of noise", zstd_of(
        zstd_header(200), zstd_block(2, 60, b"\xFF" * 60, True))),
    ("C2_raw_block_cut", "a raw block that is longer than the frame", zstd_of(
        zstd_header(200), zstd_block(0, 200, b"A" * 50, True))),
    ("C1_planes_decoded_length", "the frame of byte planes has the block's decoded length as its content size",
     in_planes_of(lambda plane: zstd_header(80) + zstd_blocks(plane))),
    ("C1_planes_window", "the frame of byte planes has a window for the block, not for the plane", only(in_planes(
        "t", "BF16", [1, 1024], encode=byte_plane_encoder(
            2, lambda plane: zstd_header(1024, 1, window=1 << 3) + zstd_blocks(plane, 1024))))),
    ("C1_planes_first", "the frame of byte planes stands before the raw ones", changed(
        lambda file: rotate_stored(file.items[0].planes[0].blocks[0], 120),
        base=lambda: only(in_planes("t", "F32", [1, 40])))),
    ("C2_planes_trailing", "a byte after the frame of byte planes",
     in_planes_of(lambda plane: zstd_frame(plane) + b"\0", "F32")),
    ("C2_planes_cut", "the last byte of byte planes is missing", in_planes_of(lambda plane: zstd_frame(plane)[:-1])),
    ("C2_planes_short", "the frame of byte planes yields a byte less than the plane", in_planes_of(
        lambda plane: zstd_header(40) + zstd_blocks(plane[:-1]), "F16")),
    ("C3_window_22", "WBITS 22 for 200 bytes", letters(BROTLI_LETTERS_22, BROTLI)),
    ("C3_window_17", "WBITS 17 for 200 bytes", letters(BROTLI_LETTERS_17, BROTLI)),
    ("C3_window_18", "WBITS 18 for 2^17 bytes", only(exact(
        "t", "U8", [1, 131072], b"A" * 131072, encode=stored_as(BROTLI_128K_18, BROTLI)))),
    ("C3_large_window", "the large-window extension", letters(b"\x11\x10" + BROTLI_LETTERS_16[1:], BROTLI)),
    ("C4_trailing", "a byte after the stream", letters(BROTLI_LETTERS_16 + b"\0", BROTLI)),
    ("C4_cut", "the last byte is missing", letters(BROTLI_LETTERS_16[:-1], BROTLI)),
    ("C4_short", "a stream of 199 bytes", letters(BROTLI_199_LETTERS, BROTLI)),
    ("C4_long", "a stream of 201 bytes", letters(BROTLI_201_LETTERS, BROTLI)),
    ("C4_twice", "two streams", letters(BROTLI_LETTERS_16 * 2, BROTLI)),
    ("C4_garbage", "noise", letters(b"\0" + b"\xFF" * 60, BROTLI)),
    ("C4_empty_stream", "the stream of no bytes", letters(b"\6", BROTLI)),
]


def book_entries(values):
    return only(codebook("q", [2, 8], 3, list(range(8)) * 2, values))


def outlier_bytes(data):
    """A codebook tensor of one block of 8 codes whose outlier block is these bytes."""
    base = codebook("q", [1, 8], 3, list(range(8)), SMALL_BOOK, outliers=("F32", [[]]))
    base.planes[2].blocks[0] = raw_block(data)
    return only(base)


def outliers_at(*positions):
    return outlier_bytes(bytes(4 * len(positions)) + b"".join(map(u32, positions)))


def codes_bytes(data):
    """A codebook tensor of 2 x 5 codes of 3 bits with these bytes as its codes."""
    base = codebook("q", [2, 5], 3, [1] * 10, SMALL_BOOK, rows_per_block=2)
    base.planes[0].blocks[0].stored = data
    return only(base)


def codes_before(book=SMALL_BOOK, outliers=b""):
    """2 x 5 codes of 3 bits in two blocks, the second with a padding bit; and something wrong in a later plane."""
    base = codebook("q", [2, 5], 3, [1] * 10, book, rows_per_block=1, outliers=("F32", [[], []]))
    base.planes[0].blocks[1].stored = bytes.fromhex("A686")
    base.planes[2].blocks[0] = raw_block(outliers)
    return only(base)


E_TOUCH_CASES = [
    ("E3_descending", "the codebook descends", book_entries(SMALL_BOOK[::-1])),
    ("E3_two_swapped", "two entries of the codebook are swapped",
     book_entries([-1, -0.5, 0, -0.25, 0.25, 0.5, 1, 2])),
    ("E3_nan_last", "the last entry of the codebook is NaN", book_entries(SMALL_BOOK[:7] + [NAN])),
    ("E3_nan_first", "the first entry of the codebook is NaN", book_entries([NAN] + SMALL_BOOK[1:])),
    ("E4_codes", "the bit after the last code", codes_bytes(bytes.fromhex("C87A A686"))),
    ("E4_codes_first_row", "the bit after the last code of a row within the block", codes_bytes(
        bytes.fromhex("C8FA A606"))),
    ("E4_before_codebook", "the bit after the last code, and a codebook that descends", codes_before(SMALL_BOOK[::-1])),
    ("E4_before_outliers", "the bit after the last code of the second block, and 7 bytes of outliers for the first",
     codes_before(outliers=bytes(7))),
    ("E4_f4", "the upper half of the last byte of an F4 tensor", only(
        exact("t", "F4", [3], b"\x21\x13", row_dims=0))),
    ("E4_f6", "the last bits of an F6 tensor", only(exact("t", "F6_E2M3", [1], b"\x40", row_dims=0))),
    ("E5_ragged", "7 bytes of outliers", outlier_bytes(bytes(7))),
    ("E5_values_only", "12 bytes for pairs of 8", outlier_bytes(bytes(8) + u32(1))),
    ("E6_descending", "positions 5, 3", outliers_at(5, 3)),
    ("E6_twice", "position 5 twice", outliers_at(5, 5)),
    ("E6_outside", "position 8 of 8 codes", outliers_at(1, 8)),
    ("E6_2_32", "position 2^32 - 1", outliers_at((1 << 32) - 1)),
    ("E6_padding", "a position in the padding bits of a short block", only(with_planes(
        codebook("q", [3, 5], 3, code_noise(15, 3), SMALL_BOOK, rows_per_block=2),
        outlier_plane("F32", [[], [(5, 1.0)]])))),
    ("E6_second_block", "position 5 of 5 codes in the second block, after a good one", only(with_planes(
        codebook("q", [3, 5], 3, code_noise(15, 3), SMALL_BOOK, rows_per_block=2),
        outlier_plane("F32", [[(0, 1.0)], [(5, 1.0)]])))),
]


# ---- M: metadata ----

def meta(entries, over=None):
    return only(metadata(content=metadata_bytes(entries, over)))


def meta_at(offset, data):
    content = metadata_bytes([(b"a", 1, 1), (b"b", 5, b"text")])
    return only(metadata(content=content[:offset] + data + content[offset + len(data):]))


def large_metadata():
    """Valid metadata of 2^26 + 8 bytes: zeros in zstd RLE blocks."""
    size = (1 << 26) + 8
    value = bytes(size - len(metadata_bytes([(b"k", 6, b"")])))
    return only(metadata([(b"k", 6, value)], rows_per_block=0, encode=[zstd_encoder] * 64 + [raw_block]))


M_CASES = [
    ("M1_large", "valid metadata of 2^26 + 8 bytes", large_metadata()),
    ("M2_empty", "metadata of no bytes", only(metadata(content=b""))),
    ("M2_short", "39 bytes", only(metadata(content=metadata_bytes([])[:39]))),
    ("M2_long", "8 zero bytes more", only(metadata(content=metadata_bytes([]) + bytes(8)))),
    ("M2_root_offset", "the root table is elsewhere", meta_at(0, u32(20))),
    ("M2_identifier", "another identifier", meta_at(4, b"CDN3")),
    ("M2_vtable", "a longer vtable", meta_at(8, b"\x0A")),
    ("M2_vector", "the entries are elsewhere", meta_at(20, u32(16))),
    ("M2_vector_outside", "text lies outside", meta_at(24, u32((1 << 32) - 8))),
    ("M2_entries_large", "2^32 - 1 entries", meta_at(28, u32((1 << 32) - 1))),
    ("M2_reserved", "a reserved byte of an entry", meta([(b"a", 0, 0)], {0: {"reserved": bytes(6) + b"\1"}})),
    ("M2_padding", "a byte of the padding", only(
        metadata(content=metadata_bytes([(b"a", 1, 1)])[:-1] + b"\1"))),
    ("M3_shared", "two keys share their text", meta([(b"ab", 0, 0), (b"b", 0, 0)], {1: {"text_offset": 1}})),
    ("M3_hole", "text that is in no key", meta([(b"ax", 0, 0), (b"b", 0, 0)], {0: {"key_length": 1}})),
    ("M3_left", "text after the last value", meta([(b"a", 5, b"xy")], {0: {"value": 1}})),
    ("M3_beyond", "a value that reaches beyond the text", meta([(b"a", 5, b"xy")], {0: {"value": 3}})),
    ("M3_2_64", "a value of 2^64 - 1 bytes", meta([(b"a", 6, b""), (b"b", 0, 0)], {0: {"value": TOP - 1}})),
    ("M3_key_2_32", "a key of 2^32 - 1 bytes", meta([(b"a", 0, 0)], {0: {"key_length": (1 << 32) - 1}})),
    ("M3_unknown_pooled", "an unknown pooled type with a wrong length", meta(
        [(b"a", 9, b"xy")], {0: {"value": 1}})),
    ("M4_empty_key", "an empty key", meta([(b"", 0, 0)])),
    ("M4_utf8", "a key that is not UTF-8", meta([(b"\xC0\x80", 0, 0)])),
    ("M4_surrogate", "a surrogate in a key", meta([(b"\xED\xBF\xBF", 0, 0)])),
    ("M4_twice", "a key twice", meta([(b"a", 0, 0), (b"a", 1, 1)])),
    ("M4_descending", "keys that descend", meta([(b"b", 0, 0), (b"a", 0, 0)])),
    ("M4_prefix", "a key before its own prefix", meta([(b"ab", 0, 0), (b"a", 0, 0)])),
    ("M5_null", "a null of 1", meta([(b"a", 0, 1)])),
    ("M5_bool", "a bool of 2", meta([(b"a", 1, 2)])),
    ("M5_bool_256", "a bool of 256", meta([(b"a", 1, 256)])),
    ("M5_string", "a string that is not UTF-8", meta([(b"a", 5, b"\xFF")])),
    ("M5_json", "json that is not UTF-8", meta([(b"a", 7, b'"\xE2\x82"')])),
]


# ---- D, G, R: the deep check ----

def deep_outlier(dtype, value):
    return only(codebook("q", [1, 8], 3, list(range(8)), SMALL_BOOK, outliers=(dtype, [[(2, value)]])))


DEEP_CASES = [
    ("D1_codebook", "an infinite codebook entry", book_entries(SMALL_BOOK[:7] + [INF])),
    ("D1_codebook_unused", "an infinite codebook entry that no code uses", only(
        codebook("q", [1, 8], 3, [1] * 8, [-INF] + SMALL_BOOK[1:]))),
    ("D1_row_scale", "an infinite row scale", only(small_codebook(row_scale=[1.0, INF, 1.0, 1.0]))),
    ("D1_row_scale_nan", "a row scale that is NaN", only(small_codebook(row_scale=[1.0, 1.0, 1.0, NAN]))),
    ("D1_group_scale", "an infinite group scale", only(grouped(32, "F16", [[1.0, 1.0], [1.0, INF]]))),
    ("D1_table", "an infinite table entry that no group uses", only(
        grouped(32, "U8", [[1, 2], [3, 4]], TABLE[:255] + [INF]))),
    ("D1_outlier", "an infinite outlier", deep_outlier("F32", INF)),
    ("D1_outlier_f64", "a negative infinite outlier of dtype F64", deep_outlier("F64", -INF)),
    ("D1_outlier_nan", "an outlier that is NaN", deep_outlier("BF16", (b"\xC0\x7F", CANONICAL_NAN))),
    ("D1_before_statements", "an infinite outlier, and a pwl plane that states another codebook", only(
        with_planes(deep_outlier("F32", INF).items[0], statement(PWL, "F16", BENT)))),
    ("D2_exact", "the source digest of an exact tensor",
     changed(item(0, source_digest=structure_hash(b"other")))),
    ("D2_asset", "the source digest of an asset", changed(item(2, source_digest=structure_hash(b"other")))),
    ("D2_metadata", "the source digest of the metadata",
     changed(item(3, source_digest=structure_hash(b"other")))),
    ("D2_compressed", "the source digest is that of the stored bytes", changed(
        lambda file: file.items[0].over.update(source_digest=structure_hash(structure_hash(WHOLE))),
        base=lambda: letters(WHOLE))),
    ("D2_planes", "the source digest of a tensor in byte planes", changed(
        item(0, source_digest=structure_hash(b"other")), base=lambda: only(in_planes("t", "BF16", [2, 40])))),
    ("G1_before_index", "a byte between the last plane and the index",
     changed(written("index 0", -1, b"\1"))),
    ("G1_between_planes", "a byte between two planes", changed(written("plane 1.1", -1, b"\1"))),
    ("G1_between_blocks", "a byte between two packed blocks",
     changed(written("plane 0.0", 63, b"\1"), base=packed)),
    ("G1_after_first_block", "the first byte after a packed block", changed(
        written("plane 0.0", 40, b"\1"), base=packed)),
    ("G1_unknown_layout", "a byte between two blocks in an unknown layout", changed(
        attribute(0, status="U4"), plane_attribute(0, 0, layout=2), written("plane 0.0", 63, b"\1"),
        base=packed)),
    ("G1_before_empty_block", "a byte before an empty last block", changed(
        written("index 1", -1, b"\1"))),
    ("G1_after_footer", "the byte after the footer", changed(written("footer end", 0, b"\1"))),
    ("G1_before_tail", "the byte before the tail", changed(written("tail", -1, b"\1"))),
    ("R1_magic", "a bit of a record's magic", changed(flipped("record 0", 0))),
    ("R1_length", "a record's length", changed(record(0, length=512))),
    ("R1_number", "a record's item number", changed(record(1, number=0))),
    ("R1_offset", "a record's own offset", changed(record(2, offset=64))),
    ("R1_zero", "a record's zero bytes", changed(record(0, reserved=1))),
    ("R1_digest", "a bit of a record's digest", changed(flipped("record 0", 32))),
    ("R1_item", "a bit of a record's item", changed(flipped("record 0", 64 + 122))),
    ("R1_text", "a bit of a record's text", changed(flipped("record 3", 64 + 160 + 8 + 48))),
    ("R1_padding", "the last byte of a record", changed(written("footer", -1, b"\1"))),
]


def almost_root(file):
    root = build(file).root
    return (root[:-1] + bytes([root[-1] ^ 1])).hex()


BAD = [Case(*row) for row in T_CASES + F_CASES + I_CASES + P_CASES + N_CASES + E_OPEN_CASES + X_CASES
       + BLOCK_CASES + E_TOUCH_CASES + M_CASES + BAD_STATEMENTS + DEEP_CASES + BAD_EXTENSIONS]
BAD += [Case("T4_other_root", "the caller expects another root", standard(), expected_root="00" * 32),
        Case("T4_last_bit", "the caller expects a root that differs in the last bit", File(),
             expected_root=almost_root(File()))]


# ---- recovery ----

ROUND_TRIP_FILE = File(ROUND_TRIP)
FIRST_TWO = File(ROUND_TRIP[:2])


def cut_at(place, delta=0):
    return lambda built: built.data[:built.places[place] + delta]


def zeroed_tail(built):
    return built.data[:built.places["tail"]] + bytes(256)


def damaged_record(built):
    data = bytearray(built.data[:built.places["footer"]])
    data[built.places["record 2"] + 70] ^= 1
    return bytes(data)


RECOVER = [
    Recovery("cut_footer", "cut after the last record", "rebuilt", ROUND_TRIP_FILE, cut_at("footer")),
    Recovery("cut_tail", "the tail and the end of the footer are missing", "rebuilt", ROUND_TRIP_FILE,
             cut_at("tail", -200)),
    Recovery("cut_in_tail", "the last byte is missing", "rebuilt", ROUND_TRIP_FILE, cut_at("tail", 255)),
    Recovery("zeroed_tail", "the tail is zeros", "rebuilt", ROUND_TRIP_FILE, zeroed_tail),
    Recovery("cut_third", "cut within the third packet: two items are left", "salvaged", FIRST_TWO,
             cut_at("record 2", -10)),
    Recovery("cut_in_record", "cut within the third record", "salvaged", FIRST_TWO, cut_at("record 2", 100)),
    Recovery("bad_record", "a bit of the third record and the footer are gone: two items are left",
             "salvaged", FIRST_TWO, damaged_record),
    Recovery("cut_first", "cut within the first packet: no items are left", "salvaged", File(),
             cut_at("record 0", 1)),
]
