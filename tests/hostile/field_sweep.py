"""Every number of every structure, one at a time, at every boundary of its type: all digests right.

The outcome of each file is what the reference decoder says of it.
"""
import itertools
import math
import struct

from bad_cases import small_codebook
from builder import ENTRY, HEAD, ITEM, KEY_VALUE, PLANE, RECORD, TAIL, File, build, metadata_bytes
from describe import alias, asset, counting, metadata

BITS = {"B": 8, "H": 16, "I": 32, "Q": 64}
FLOATS = (math.nan, math.inf, -math.inf, -1.0, -0.0, 5e-324, 3.4028234663852886e+38)
DIMS = (0, 1, 3, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 59) - 1, 1 << 60, 1 << 63, (1 << 64) - 1)


def base():
    """Both encodings, an asset, an alias and metadata; raw blocks only."""
    return File([counting("t", "F32", [4, 3], rows_per_block=2), small_codebook(), asset("a", b"0123456789"),
                 alias("u", 0), metadata([(b"key", 5, b"value")])])


def boundaries(code):
    """What a field of this type is set to."""
    if code in "df":
        return FLOATS
    bits = BITS[code]
    edges = {0, 1, 7, 8, 63, 64, 255} | {1 << n for n in (15, 24, 31, 32, 59, 60, 63)}
    edges |= {edge - 1 for edge in set(edges) if edge} | {(1 << bits) - 1, (1 << bits) - 2}
    return sorted(edge for edge in edges if edge < 1 << bits)


def fields_of(layout):
    return [(name, code) for name, code in zip(layout.names, layout.formats) if code in BITS or code in "df"]


def targets(file):
    """(name, layout, dictionary of overrides) of every structure of the file."""
    yield "head", HEAD, file.head
    yield "tail", TAIL, file.tail
    for n, item in enumerate(file.items):
        yield f"item {n}", ITEM, item.over
        yield f"record {n}", RECORD, file.records.setdefault(n, {})
        for p, plane in enumerate(item.planes):
            yield f"item {n} plane {p}", PLANE, plane.over
            for b, block in enumerate(plane.blocks[:2]):
                yield f"item {n} plane {p} block {b}", ENTRY, block.over


def single_fields():
    names = [(n, name, layout) for n, (name, layout, _) in enumerate(targets(base()))]
    for number, name, layout in names:
        for field, code in fields_of(layout):
            for value in boundaries(code):
                file = base()
                list(targets(file))[number][2][field] = value
                yield f"{name} {field} = {value}", file


def pairs_of_dims():
    """A matrix of two boundary values, described consistently as far as its fields can."""
    for rows, cols in itertools.product(DIMS, DIMS):
        file = base()
        tensor = file.items[0]
        tensor.dims = [rows, cols]
        tensor.planes[0].over["row_entries"] = cols
        yield f"dims {rows} x {cols}", file


def metadata_fields():
    for field, code in fields_of(KEY_VALUE):
        for value in boundaries(code):
            file = base()
            content = metadata_bytes([(b"key", 5, b"value"), (b"other", 3, 7)], {0: {field: value}})
            file.items[-1] = metadata(content=content)
            yield f"metadata {field} = {value}", file


def footer_words():
    """Each of the first words of the footer: its table, its vectors' offsets, the first count."""
    for at in range(0, 56, 4):
        for value in boundaries("I"):
            file = base()
            file.footer_hooks.append(lambda old, at=at, value=value: old[:at] + struct.pack("<I", value) + old[at + 4:])
            yield f"footer word {at} = {value}", file


def files():
    """(name, bytes) of every file of the sweep."""
    for name, file in itertools.chain(single_fields(), pairs_of_dims(), metadata_fields(), footer_words()):
        yield name, build(file).data
