"""FlatBuffers that a verifier of the library accepts or walks for long, and that no CDNA reader may walk at all."""
import struct


def header(identifier, root):
    return struct.pack("<I4s", root, identifier)


def vector_of_offsets(start, target, count):
    """A vector at `start` whose elements are all offsets to one target."""
    places = range(start + 4, start + 4 + 4 * count, 4)
    return struct.pack(f"<I{count}I", count, *(target - place for place in places))


def shared_vectors(identifier, outer, inner):
    """`outer` offsets to one table, whose vector has `inner` offsets to one string.

    Every offset is valid. A verifier that follows offsets looks at outer * inner strings in 4 * (outer + inner) bytes.
    """
    root, table_of_root, outer_at = 16, 16, 24
    inner_vtable = outer_at + 4 + 4 * outer
    inner_table = inner_vtable + 8
    inner_at = inner_table + 8
    string_at = inner_at + 4 + 4 * inner
    out = header(identifier, root) + struct.pack("<3HH", 6, 8, 4, 0)
    out += struct.pack("<iI", table_of_root - 8, outer_at - (root + 4))
    out += vector_of_offsets(outer_at, inner_table, outer)
    out += struct.pack("<3HH", 6, 8, 4, 0) + struct.pack("<iI", inner_table - inner_vtable, inner_at - (inner_table + 4))
    out += vector_of_offsets(inner_at, string_at, inner) + struct.pack("<I4s", 1, b"x")
    return padded(out)


def nested(identifier, depth):
    """A table in a table in a table …"""
    first = 16
    tables = b"".join(struct.pack("<iI", first + 8 * i - 8, 4) for i in range(depth))
    return padded(header(identifier, first) + struct.pack("<3HH", 6, 8, 4, 0) + tables)


def cyclic(identifier):
    """A table whose field leads back to itself, by an offset that wraps."""
    return padded(header(identifier, 16) + struct.pack("<3HH", 6, 8, 4, 0) + struct.pack("<iI", 8, (1 << 32) - 4))


def huge_vtable(identifier):
    """A vtable of 65,534 bytes whose 32,765 fields share one place."""
    vtable = struct.pack("<32767H", 65534, 8, *[4] * 32765)
    root = 8 + len(vtable) + 2
    return padded(header(identifier, root) + vtable + bytes(2) + struct.pack("<iI", root - 8, 0))


def padded(data):
    """At least the 88 bytes of an empty footer, and a multiple of 8."""
    return data + bytes(max(88 - len(data), -len(data) % 8))
