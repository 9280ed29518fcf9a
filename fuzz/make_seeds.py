"""Writes the seed inputs of every fuzz target from the test vectors, tests/legacy and small files made here.

    make_seeds.py FOLDER     FOLDER/TARGET/NAME, and FOLDER.stamp when all are there

The same vectors give the same seeds.
"""
import io
import json
import struct
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "spec/reference"), str(ROOT / "spec/vectors")]
import builder
import cdna_reference as cdna

BYTES_MAX = 16384
LEGACY = ROOT / "tests/legacy"


def vectors():
    """(name, bytes) of the vectors that are not too large to be mutated well."""
    for folder in ("good", "bad", "recover"):
        for path in sorted((ROOT / "spec/vectors" / folder).glob("*.cdna")):
            if path.stat().st_size <= BYTES_MAX:
                yield f"{folder}_{path.stem}", path.read_bytes()


def files():
    """Whole files, each with another order of calls."""
    for number, (name, data) in enumerate(vectors()):
        yield name, data + bytes([number * 37 % 256])


def blocks():
    """Blocks with what the index says of them; and metadata as it is in a file."""
    for name, data in vectors():
        try:
            file = cdna.File(data)
            for item in file.items:
                for number, entry in enumerate(file.read_index(item)):
                    stored = file.read_stored(entry)
                    yield f"{name}_{item.number}_{number}", item, entry, stored
        except cdna.CdnaError:
            continue


def compressed():
    """What decode_block.cpp describes: codec and filter, decoded length, stored bytes."""
    for name, item, entry, stored in blocks():
        if entry.codec in (cdna.ZSTD, cdna.BROTLI) and entry.decoded_length < 1 << 18:
            size = entry.plane.bits // 8 if cdna.is_byte_planes(item, entry) else 1
            how = entry.codec % 2 | size.bit_length() - 1 << 3
            yield name, struct.pack("<I", how | entry.decoded_length // size - 1 << 8) + stored


def metadata():
    for name, item, entry, stored in blocks():
        if item.kind == cdna.METADATA and entry.codec == cdna.RAW and entry.stored_length <= BYTES_MAX:
            yield name, stored
    kinds = [(b"bool", 1, 1), (b"bytes", 6, b"\0\xFF"), (b"f64", 4, b"\0\0\0\0\0\0\xF8\x7F"), (b"i64", 2, 2**64 - 1),
             (b"json", 7, b'{"a":[1]}'), (b"null", 0, 0), (b"string", 5, "\u00e9".encode()), (b"u64", 3, 5)]
    as_number = [(key, kind, int.from_bytes(value, "little") if kind == 4 else value) for key, kind, value in kinds]
    yield "every_type", builder.metadata_bytes(as_number)
    yield "unknown", builder.metadata_bytes([(b"a", 8, b"pooled"), (b"b", 127, b""), (b"c", 128, 7), (b"d", 255, 0)])
    yield "empty", builder.metadata_bytes([])


def outliers():
    """What outliers.cpp describes: geometry, then the lengths and bytes of the outlier blocks."""
    def one(bits, dtype, rows, cols, step, blocks, order=0):
        head = struct.pack("<BBBBBB", bits - 1, dtype, rows, cols, step, order)
        return head + b"".join(struct.pack("<B", len(block)) + block for block in blocks)

    def pairs(value_bytes, positions):
        return bytes(range(1, 1 + value_bytes)) * len(positions) + struct.pack(f"<{len(positions)}I", *positions)

    yield "none", one(8, 2, 4, 5, 2, [b"", b""])
    for dtype, value_bytes in enumerate((2, 2, 4, 8)):
        yield f"first_and_last_{dtype}", one(3, dtype, 4, 5, 2, [pairs(value_bytes, [0, 9]), pairs(value_bytes, [3])])
    yield "twice", one(8, 2, 3, 4, 1, [pairs(4, [1, 1]), b"", b""])
    yield "outside", one(1, 2, 3, 4, 0, [pairs(4, [4]), b"", b""])
    yield "ragged", one(16, 0, 2, 2, 3, [b"abc"])


def safetensors():
    """Small files, good and bad."""
    def one(header, data=b"", pad=0):
        text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
        text += b" " * pad
        return struct.pack("<Q", len(text)) + text + data

    def tensor(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield "empty", one({})
    yield "one", one({"w": tensor("F32", [2, 2], 0, 16)}, bytes(range(16)), 3)
    yield "metadata", one({"__metadata__": {"format": "pt", "\u00e9": "\n"}, "b": tensor("BF16", [3], 0, 6)}, b"abcdef")
    at, entries = 0, {}
    for name, bits in zip(cdna.DTYPE_NAMES[1:], cdna.DTYPE_BITS[1:]):
        entries[f"layer.{name}"] = tensor(name, [8], at, at + bits)
        at += bits
    yield "every_dtype", one(entries, bytes(at % 251 for at in range(at)))
    yield "no_elements", one({"z": tensor("F16", [0, 5], 0, 0), "s": tensor("I8", [], 0, 1)}, b"x")
    yield "overlap", one({"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, b"abc")
    yield "gap", one({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, b"abc")
    yield "extra", one({"a": tensor("U8", [1], 0, 1) | {"x": [1, {"y": None}, True, -1.5e3]}}, b"a")
    yield "escapes", one(b'{"\\u00e9\\ud83d\\ude00\\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"a")
    yield "twice", one(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}')
    yield "huge", one({"a": tensor("U8", [2**32, 2**32, 0], 0, 0)})


def tensor_folders():
    """Tensor folders of helix-substrate, and small ones, as lists of files."""
    names = ["meta.json", "codebook.npy", "indices.bin", "sidecar.npz", "svd_U.npy", "svd_s.npy", "svd_Vt.npy",
             "channel_scales.npy", "stats.json", "morpho_config.json"]

    def one(files):
        return b"".join(struct.pack("<BH", names.index(name), len(data)) + data for name, data in files.items())

    def npy(dtype, shape, data):
        header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data

    def meta(shape, mode="codebook", **more):
        return json.dumps({"format_version": "cdna_v3", "tensor_name": "w", "shape": shape, "storage_mode": mode} | more).encode()

    for folder in sorted(LEGACY.glob("v3_dir_*/model/*.cdnav3")):
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        if sum(map(len, files.values())) <= BYTES_MAX:
            yield f"{folder.parent.parent.name}_{folder.stem}", one(files)
    small = {"meta.json": meta([2, 4]), "codebook.npy": npy("<f4", "(3,)", struct.pack("<3f", 2, -1, 5)),
             "indices.bin": bytes([0, 1, 2, 2, 1, 0, 1, 1])}
    yield "small", one(small)
    yield "wide", one(small | {"indices.bin": bytes([0, 0, 1, 0, 2, 0, 2, 0, 1, 0, 0, 0, 1, 0, 1, 0])})
    yield "vectors", one(small | {"codebook.npy": npy("<f4", "(2, 2)", struct.pack("<4f", 0, 1, 2, 3)),
                                  "indices.bin": bytes([0, 1, 1, 0])})
    yield "scales", one(small | {"channel_scales.npy": npy("<f4", "(4,)", struct.pack("<4f", 1, 2, 4, 8))})
    yield "low_rank", one(small | {"meta.json": meta([2, 4], svd_residual_rank=1),
                                   "svd_U.npy": npy("<f4", "(2, 1)", struct.pack("<2f", 1, 2)),
                                   "svd_s.npy": npy("<f4", "(1,)", struct.pack("<f", 0.5)),
                                   "svd_Vt.npy": npy("<f4", "(1, 4)", struct.pack("<4f", 1, 2, 3, 4))})
    yield "beyond", one(small | {"indices.bin": bytes([0, 1, 2, 2, 1, 0, 1, 3])})
    yield "seed", one({"meta.json": meta([2, 4], "morpho"), "morpho_config.json": b'{"format_version": "morpho_v1"}'})


def checkpoints():
    """HXQ checkpoints in each form of indices, good and bad."""
    def one(*tensors):
        header, data = {}, b""
        for name, dtype, shape, part in tensors:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
            data += part
        text = json.dumps(header, separators=(",", ":")).encode()
        return struct.pack("<Q", len(text)) + text + data

    def floats(*values):
        return struct.pack(f"<{len(values)}f", *values)

    codebook = ("m.codebook", "F32", [3], floats(2, -1, 5))
    codes = ("m.indices", "U8", [2, 3], bytes([0, 1, 2, 2, 1, 0]))
    packed = ("m.indices", "U8", [9], bytes([1, 32, 0, 1, 32, 0, 1, 32, 0]))
    positions = ("m.sidecar_positions", "I64", [2], struct.pack("<2q", 1, 5))
    values = ("m.sidecar_values", "F32", [2], floats(7, 1e30))
    yield "scalar", one(codebook, codes)
    yield "sidecar", one(codebook, codes, positions, values)
    yield "alias", one(codebook, codes, ("m.sidecar_indices", *positions[1:]), values)
    yield "words", one(codebook, ("m.indices", "U16", [1, 3], struct.pack("<3H", 0, 2, 1)))
    yield "packed", one(codebook, packed) + b""
    yield "packed_rows", one(codebook, packed, ("m.bias", "F32", [3], floats(0, 0, 0)))
    yield "vectors", one(("m.codebook", "F32", [2, 2], floats(0, 1, 2, 3)), ("m.indices", "U8", [2, 2], bytes([0, 1, 1, 0])))
    yield "low_rank", one(codebook, codes, ("m.svd_U", "F32", [2, 1], floats(1, 2)), ("m.svd_s", "F32", [1], floats(0.5)),
                          ("m.svd_Vt", "F32", [1, 3], floats(2, 4, 8)))
    yield "scales", one(codebook, codes, ("m.channel_scales", "F32", [3], floats(1, 2, 4)))
    yield "dotted", one(codebook, codes, ("a.b_c", "U8", [1], b"x"), ("a.b.c", "U8", [1], b"x"))
    yield "beyond", one(codebook, ("m.indices", "U8", [1, 2], bytes([0, 3])))
    yield "outside", one(codebook, codes, ("m.sidecar_positions", "I64", [2], struct.pack("<2q", -1, 9)), values)


def gguf():
    """Small files, good and bad; of types 36 and 37 with an odd length."""
    def text(value):
        return struct.pack("<Q", len(value)) + value

    def key(name, kind, value):
        return text(name) + struct.pack("<I", kind) + value

    def tensor(name, dims, kind, offset):
        return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)

    def one(keys, tensors, data=b"", version=3):
        head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys + tensors)
        return head + bytes(-len(head) % 32) + data

    yield "empty", one([], [])
    yield "version_2", one([], [tensor(b"w", [2, 3], 0, 0)], bytes(range(24)), 2)
    numbers = [(0, "B"), (1, "b"), (2, "H"), (3, "h"), (4, "I"), (5, "i"), (6, "f"), (7, "B"), (10, "Q"), (11, "q"), (12, "d")]
    keys = [key(f"k{kind}".encode(), kind, struct.pack("<" + form, 1)) for kind, form in numbers]
    keys.append(key(b"general.architecture", 8, text(b"llama")))
    keys.append(key(b"tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"\xff")))
    keys.append(key(b"nested", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 0, 3) + b"abc"))
    yield "keys", one(keys, [])
    yield "alignment", one([key(b"general.alignment", 4, struct.pack("<I", 64))], [tensor(b"w", [1], 24, 0)], b"x" + bytes(63))
    yield "split", one([key(b"split.count", 2, b"\2\0")], [])
    # Type, elements and bytes of a block.
    types = [(0, 1, 4), (1, 1, 2), (2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34), (10, 256, 84), (11, 256, 110),
             (12, 256, 144), (13, 256, 176), (14, 256, 210), (16, 256, 66), (20, 32, 18), (23, 256, 136), (28, 1, 8), (30, 1, 2),
             (34, 256, 54), (35, 256, 66), (39, 32, 17), (40, 64, 36), (36, 128, 132), (37, 128, 100)]
    for kind, elements, size in types:
        data = bytes(at % 23 for at in range(2 * size))
        padded = data + bytes(-len(data) % 32 + (kind in (36, 37)))
        yield f"type_{kind}", one([], [tensor(b"w.weight", [elements, 2], kind, 0)], padded)
    yield "overlap", one([], [tensor(b"a", [9], 0, 0), tensor(b"b", [1], 0, 32)], bytes(64))
    yield "huge", one([], [tensor(b"a", [2**40, 2**40], 0, 0)])


def npy_arrays():
    for path in sorted(LEGACY.rglob("*.npy")):
        if path.stat().st_size <= BYTES_MAX:
            yield "_".join(path.relative_to(LEGACY).parts), path.read_bytes()
    for name, descr, order, shape, size in (("big_endian", ">f4", False, (2, 2), 16), ("fortran", "<i2", True, (2, 3), 12),
                                            ("scalar", "|b1", False, (), 1), ("object", "|O", False, (1,), 8)):
        text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
        yield name, b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(range(size))


def npz_archives():
    for path in sorted(LEGACY.rglob("*.npz")):
        if path.stat().st_size <= BYTES_MAX:
            yield "_".join(path.relative_to(LEGACY).parts), path.read_bytes()
    members = list(npy_arrays())[-4:]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, data in members[:3]:
                archive.writestr(zipfile.ZipInfo(name + ".npy"), data, method)
        yield f"method_{method}", file.getvalue()


def helix(folder, ending):
    """Matrices, each alone and with the sidecars, of which those of other tensors do not fit."""
    sidecars = [path.read_bytes() for path in sorted((LEGACY / "hxzo").glob("*.hxzo"))]
    for path in sorted((LEGACY / folder).glob("*" + ending)):
        for number, sidecar in enumerate([b"", *sidecars]):
            if path.stat().st_size + len(sidecar) <= 4 * BYTES_MAX:
                yield f"{path.name}_{number}", path.read_bytes() + sidecar + struct.pack("<H", len(sidecar))


TARGETS = {
    "open_raw": files, "open_repaired": files, "decode_block": compressed, "metadata": metadata, "outliers": outliers,
    "import_safetensors": safetensors, "import_gguf": gguf, "import_npy": npy_arrays, "import_npz": npz_archives,
    "import_hxzc": lambda: helix("v1_cdna", ".cdna"), "import_hxz2": lambda: helix("v2_hxz", ".hxz"),
    "import_v3": tensor_folders, "import_hxq": checkpoints,
}


def main(folder):
    for target, seeds in TARGETS.items():
        place = Path(folder) / target
        place.mkdir(parents=True, exist_ok=True)
        count = 0
        for name, data in seeds():
            (place / name).write_bytes(data)
            count += 1
        print(f"{target}: {count} seeds")
        if not count:
            raise SystemExit(f"no seeds for {target}")
    Path(folder + ".stamp").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
