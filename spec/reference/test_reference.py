"""Tests of the reference decoder on small files that the builder below makes from the specification."""
import hashlib
import math
import random
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import cdna_reference as cdna
import conform

try:
    import brotli
    import zstandard
except ImportError:               # without the codec libraries their tests are left out
    brotli = zstandard = None
needs_codecs = unittest.skipUnless(brotli, "needs zstandard and brotli")
Z32 = bytes(32)


def sha(data):
    return hashlib.sha256(data).digest()


def bulk(data):
    return sha(b"".join(sha(data[i:i + 16384]) for i in range(0, len(data), 16384)))


def pad(data, n=64):
    return data + bytes(-len(data) % n)


def block(stored, decoded_length=None, codec=0, filter=0, error=0.0):
    return stored, len(stored) if decoded_length is None else decoded_length, codec, filter, error


def plane(role, blocks, row_entries=0, per_block=1, bits=8, dtype=0, scope=1, layout=1, group=0, vector=1):
    return dict(locals())


def item(name, encoding, dtype, dims, planes, row_dims=0, kind=0, source=Z32, errors=(0, 0, 0),
         optional=0):
    return dict(locals())


def exact(name, dtype, bits, dims, data, row_dims=0, **more):
    cols = math.prod(dims[row_dims:])
    per_block = max(1, math.prod(dims[:row_dims])) if data else 0
    data_plane = plane(1, [block(data)] if data else [], cols, per_block, bits, dtype)
    return item(name, "cdna.exact", dtype, dims, [data_plane], row_dims, source=bulk(data), **more)


def metadata(pairs):
    text, entries = b"", b""
    for key, value in sorted(pairs.items()):
        entries += struct.pack("<QIIB7x", len(value), len(text), len(key), 5)
        text += key + value
    first = struct.pack("<I4s4HiIII", 16, b"CDNM", 8, 12, 4, 8, 8, 8, 0, len(pairs)) + entries
    first += bytes((4 - len(first)) % 8)
    first = first[:24] + struct.pack("<I", len(first) - 24) + first[28:]
    data = pad(first + struct.pack("<I", len(text)) + text, 8)
    data_plane = plane(1, [block(data)], len(data), 1, 8, 2)
    return item("meta", "", 2, [len(data)], [data_plane], kind=2, source=bulk(data))


def build(items, align_log2=6):
    """A whole file; codecs masks, offsets and digests follow from the items."""
    out = bytearray(cdna.HEAD_MAGIC + struct.pack("<IBB50x", 3, align_log2, 1))
    wires, planes_at, dims_at, text_at, optional = [], 0, 0, 0, 0
    for number, it in enumerate(items):
        start, index, planes = len(out), b"", b""
        for p in it["planes"]:
            body, entries, codecs = b"", b"", 0
            for stored, length, codec, filter, error in p["blocks"]:
                if p["layout"]:
                    body = pad(body)
                entries += struct.pack("<QIIBBHfQ", len(body), len(stored), length, codec, filter, 0,
                                       error, 0)
                entries += bulk(stored)
                body += stored
                codecs |= 1 << codec
            place = 0
            if body:
                out += bytes(-len(out) % 64)
                place = len(out)
            out += body
            index += entries
            planes += struct.pack("<QQQIIHHBBBBBBHI", place, len(body), p["row_entries"], len(p["blocks"]),
                                  p["per_block"], p["role"], p["group"], p["bits"], p["dtype"], p["scope"],
                                  p["layout"], codecs, p["vector"], 0, 0)
        out += bytes(-len(out) % 64)
        index_at = len(out) if index else 0
        out += index
        name, encoding = it["name"].encode(), it["encoding"].encode()
        fixed = struct.pack("<QQ32s32sddfIIIIHHHHBBBBQQ16x", start, index_at, sha(index), it["source"],
                            *it["errors"], len(index) // 64, dims_at, planes_at, text_at, len(name),
                            len(encoding), it["kind"], 0, it["dtype"], len(it["dims"]), len(it["planes"]),
                            it["row_dims"], 0, it["optional"])
        dims = struct.pack(f"<{len(it['dims'])}Q", *it["dims"])
        wires.append((fixed, planes, dims, name + encoding))
        body = pad(fixed + dims + planes + name + encoding)
        front = cdna.RECORD_MAGIC + struct.pack("<IIQQ", 64 + len(body), number, len(out), 0)
        out += front + sha(front + body) + body
        planes_at, dims_at = planes_at + len(it["planes"]), dims_at + len(it["dims"])
        text_at, optional = text_at + len(name + encoding), optional | it["optional"]
    keys = [(it["kind"] not in (0, 3), it["name"].encode()) for it in items]
    order = sorted(range(len(items)), key=keys.__getitem__)
    vectors = [b"".join(wire[k] for wire in wires) for k in range(4)]
    vectors.insert(3, struct.pack(f"<{len(order)}I", *order))
    footer = bytearray(struct.pack("<I4s2x7Hi20x", 24, b"CDN3", 14, 24, 4, 8, 12, 16, 20, 14))
    for k, (vector, size) in enumerate(zip(vectors, (160, 48, 8, 4, 1))):
        while len(footer) % 8 != 4:
            footer.append(0)
        struct.pack_into("<I", footer, 28 + 4 * k, len(footer) - 28 - 4 * k)
        footer += struct.pack("<I", len(vector) // size) + vector
    footer = pad(bytes(footer), 8)
    place = len(out)
    out += pad(footer)
    numbers = struct.pack("<QQQQQII", 0, optional, len(out) + 256, place, len(footer), len(items), 3)
    tail = b"CDNA3 root v1\0\0\0" + numbers + sha(footer) + bytes([align_log2, 1]) + bytes(118)
    return bytes(out) + tail + sha(tail) + cdna.TAIL_MAGIC


def example(**changes):
    """The worked example of section 13.2."""
    parts = dict(book=struct.pack("<8f", -1, -.5, -.25, 0, .25, .5, 1, 1), codes=bytes.fromhex("C87AA606"),
                 scales=struct.pack("<2f", 2, .5), outliers=struct.pack("<fI", 9, 7), optional=0)
    parts.update(changes)
    inf = math.inf
    return item("example", "cdna.codebook", 12, [2, 5], [
        plane(2, [block(parts["codes"], error=inf)], 5, 2, 3),
        plane(3, [block(parts["book"])], 8, 1, 32, 12, 0),
        plane(4, [block(parts["scales"])], 1, 2, 32, 12),
        plane(7, [block(parts["outliers"])], 0, 0, 8, 12, 2)], 1, 0, Z32, (inf, inf, inf), parts["optional"])


def status(it):
    return cdna.examine(build([it]))["items"][0]["status"]


def rule(outcome):
    return outcome if isinstance(outcome, str) else outcome["rule"]


def reseal(data):
    tail = data[-256:-40]
    return data[:-40] + sha(tail) + data[-8:]


class Files(unittest.TestCase):
    small = build([example(), exact("x", 2, 8, [3, 100], bytes(range(100)) * 3, 1),
                   item("alias", "", 0, [1], [], kind=3), metadata({b"k": b"value", b"l": b""})])

    def test_smallest_file(self):
        data = build([])
        self.assertEqual(len(data), 448)
        expected = {"open": "ok", "root": data[-40:-8].hex(), "items": [], "deep": "clean"}
        self.assertEqual(cdna.examine(data), expected)

    def test_small_file(self):
        outcome = cdna.examine(self.small)
        self.assertEqual(outcome["deep"], "clean")
        self.assertEqual([i["status"] for i in outcome["items"]], ["ok"] * 4)
        file = cdna.File(self.small, self.small[-40:-8].hex())
        self.assertEqual(file.read_item(file.find("alias").number), bytes(range(100)) * 3)
        self.assertEqual(cdna.read_metadata(file.read_item(3)), {"k": (5, b"value"), "l": (5, b"")})
        self.assertEqual(rule(cdna.examine(self.small, "00" * 32)["open"]), "T4")

    def test_every_truncation(self):
        for length in range(len(self.small)):
            self.assertEqual(rule(cdna.examine(self.small[:length])["open"]), "T1" if length < 8 else "T2")
        self.assertEqual(rule(cdna.examine(self.small + b"\0")["open"]), "T2")

    def test_bit_flips(self):
        data, rules = bytearray(self.small), set()
        for bit in range(0, 8 * len(data), 9):
            data[bit // 8] ^= 1 << bit % 8
            outcome = cdna.examine(bytes(data))
            broken = [rule(i["status"]) for i in outcome["items"] if i["status"] != "ok"]
            found = {rule(outcome["open"]), *broken, rule(outcome["deep"] or "clean")} - {"ok", "clean"}
            self.assertEqual(len(found), 1, f"bit {bit}: {outcome}")
            rules |= found
            data[bit // 8] ^= 1 << bit % 8
        self.assertEqual(rules, {"T2", "T3", "F1", "H1", "X1", "B1", "G1", "R1"})

    def test_random_changes_that_are_sealed_again(self):
        """Damage below digests that were made to fit: nothing but CdnaError may come out."""
        rng, rules = random.Random(1), set()
        place, length = struct.unpack("<QQ", self.small[-216:-200])
        for _ in range(3000):
            data = bytearray(self.small)
            at = rng.randrange(len(data) - 256, len(data) - 40) if rng.random() < .2 else \
                rng.randrange(place, place + length)
            data[at] = rng.choice((0, 1, 2, 8, 127, 128, 255, data[at] ^ 1 << rng.randrange(8)))
            if at < place + length:
                data[-192:-160] = sha(data[place:place + length])
            outcome = cdna.examine(reseal(bytes(data)))
            rules |= {rule(outcome["open"]), *(rule(i["status"]) for i in outcome["items"])}
        self.assertGreater(len(rules), 30, rules)

    def test_tail_rules(self):
        for at, value, expected in ((0, 0, "T5"), (60, 4, "T6"), (97, 2, "T7"), (96, 17, "T8"), (98, 1, "T9"),
                                    (16, 1, "T10"), (32, 0, "T11"), (40, 1, "T12"), (56, 1, "F4"),
                                    (24, 1, "F6")):
            data = bytearray(build([]))
            data[-256 + at] = value
            self.assertEqual(rule(cdna.examine(reseal(bytes(data)))["open"]), expected)

    def test_rebuild(self):
        place, = struct.unpack("<Q", self.small[-216:-208])
        for damaged in (self.small, self.small[:place], self.small[:place + 99], self.small[:-1]):
            self.assertEqual(cdna.rebuild(damaged), (self.small, True))
        cut, complete = cdna.rebuild(self.small[:place - 1])
        self.assertFalse(complete)
        self.assertEqual([i["name"] for i in cdna.examine(cut)["items"]], ["example", "x", "alias"])
        self.assertEqual(cdna.rebuild(build([])[:64]), (build([]), False))

    def test_what_is_no_record(self):
        items = [exact(name, 2, 8, [5], b"12345") for name in ("a", "b")]
        data = build(items)
        place, = struct.unpack("<Q", data[-216:-208])

        def rebuilt(data):
            return len(cdna.File(cdna.rebuild(data)[0]).items)
        self.assertEqual(rebuilt(data), 2)
        second = data.rindex(cdna.RECORD_MAGIC)
        for at in (0, 8, 12, 16, 24, 32, 64, place - second - 1):              # of each field a byte
            damaged = bytearray(data)
            damaged[second + at] ^= 1
            self.assertEqual(rebuilt(bytes(damaged)), 1)
        for at in range(64):
            damaged = bytearray(data)
            damaged[at] ^= 16                                                   # 6 becomes 22
            with self.assertRaisesRegex(cdna.CdnaError, "H1"):
                cdna.rebuild(bytes(damaged))
        for change in ({"name": "n" * 1025}, {"name": ""}, {"encoding": "e" * 256}, {"encoding": "\x1f"},
                       {"errors": (0, 1, 0)}, {"kind": 9}):                     # N1, N4, E1, I2
            self.assertEqual(rebuilt(build([items[0], {**items[1], **change}])), 1)
        last = metadata({b"k": b"v"})
        self.assertEqual(rebuilt(build([last, items[0]])), 1)                   # nothing follows metadata
        moved = data[:second] + bytes(64) + data[second:]                       # it has its own offset
        self.assertEqual(rebuilt(moved), 1)

    def test_command_line(self):
        def call(*arguments, module=cdna):
            command = [sys.executable, module.__file__, *map(str, arguments)]
            return subprocess.run(command, capture_output=True)
        with tempfile.TemporaryDirectory() as folder:
            good, cut, out = Path(folder, "a.cdna"), Path(folder, "b.cdna"), Path(folder, "c.cdna")
            good.write_bytes(self.small)
            cut.write_bytes(self.small[:-1])
            self.assertEqual(call("cat", good, "x").stdout, bytes(range(100)) * 3)
            self.assertEqual(call("rebuild", cut, out).returncode, 0)
            self.assertEqual(out.read_bytes(), self.small)
            found = call("examine", good)
            self.assertEqual(found.returncode, 0)
            good.with_suffix(".json").write_bytes(found.stdout)
            text = f'{{"expect": "rebuilt", "items": 4, "output_sha256": "{sha(self.small).hex()}"}}'
            cut.with_suffix(".json").write_text(text)
            found = call(folder, module=conform)
            self.assertEqual((found.returncode, found.stdout), (0, b"2 passed, 0 failed\n"))
            cut.with_suffix(".json").write_text(text.replace("4", "5", 1))
            found = call(folder, module=conform)
            self.assertEqual(found.stdout.splitlines()[1:], [b"1 passed, 1 failed"])
            self.assertEqual(found.returncode, 1)
            for code, arguments in ((4, ("examine", cut)), (4, ("examine", good, "00" * 32)), (16, ()),
                                    (0, ("examine", good, self.small[-40:-8].hex())), (16, ("cat", good))):
                self.assertEqual(call(*arguments).returncode, code)


class Codebooks(unittest.TestCase):
    def values(self, it):
        return cdna.File(build([it])).read_item(0)

    def test_worked_example(self):
        self.assertEqual(self.values(example()), struct.pack("<10f", -2, -1, 0, 1, 2, .5, .125, 9, 0, -.5))

    def test_touch_rules(self):
        book = struct.pack("<8f", 1, 0, 1, 1, 1, 1, 1, 1)
        self.assertEqual(rule(status(example(book=book))), "E3")
        self.assertEqual(rule(status(example(book=struct.pack("<8f", *[math.nan] * 8)))), "E3")
        self.assertEqual(rule(status(example(codes=bytes.fromhex("C8FAA606")))), "E4")
        self.assertEqual(rule(status(example(outliers=bytes(9)))), "E5")
        self.assertEqual(rule(status(example(outliers=struct.pack("<fI", 0, 10)))), "E6")
        self.assertEqual(rule(status(example(outliers=struct.pack("<ffII", 0, 0, 3, 3)))), "E6")
        self.assertEqual(status(example(outliers=b"")), "ok")

    def test_finite(self):
        infinite = struct.pack("<2f", math.inf, 1)
        self.assertEqual(rule(cdna.examine(build([example(scales=infinite)]))["deep"]), "D1")
        self.assertEqual(cdna.examine(build([example(scales=infinite, optional=1)]))["deep"], "clean")
        first = struct.unpack("<5I", self.values(example(scales=infinite))[:20])
        self.assertEqual(first, (0xFF800000, 0xFF800000, 0x7FC00000, 0x7F800000, 0x7F800000))

        largest = plane(7, [block(struct.pack("<dI", 1e300, 7))], 0, 0, 8, 13, 2)
        it = example()
        outcome = cdna.examine(build([{**it, "planes": [*it["planes"][:3], largest]}]))
        self.assertEqual(outcome["deep"], "clean")                              # RN makes it infinite
        self.assertNotEqual(outcome["items"][0]["decoded_sha256"], None)

    def test_groups_scale_table_and_cut_rows(self):
        cols, group = 2**20 + 70, 128                  # one row in two blocks
        groups = -(-cols // group)
        table = [n / 7 for n in range(256)]
        it = item("t", "cdna.codebook", 10, [1, cols], [
            plane(2, [block(b"\x55" * 2**17), block(b"\x55" * 8 + b"\x15")], cols, 0, 1),
            plane(3, [block(struct.pack("<2e", -1, 3))], 2, 1, 16, 10, 0),
            plane(4, [block(struct.pack("<f", .1))], 1, 1, 32, 12),
            plane(5, [block(bytes(n % 256 for n in range(groups)))], groups, 1, 8, 2, 1, 1, group),
            plane(6, [block(struct.pack("<256f", *table))], 256, 1, 32, 12, 0)], 1)
        found = struct.unpack(f"<{cols}f", self.values(it))
        f32 = [struct.unpack("<f", struct.pack("<f", x))[0] for x in [*table, .1]]
        for column in (0, 1, 128, 2**20 - 1, 2**20, 2**20 + 69):
            scale = cdna.RN(f32[column // group % 256] * f32[256])
            self.assertEqual(found[column], cdna.RN((3, -1)[column % 2] * scale))

    def test_rounding(self):
        self.assertEqual(cdna.RN(1 + 2**-24), 1)                          # a tie goes to even
        self.assertEqual(cdna.RN(1 + 3 * 2**-24), 1 + 2**-22)
        self.assertEqual(cdna.RN(2.0**-149), 2.0**-149)                   # the smallest subnormal
        self.assertEqual(math.copysign(1, cdna.RN(-2.0**-150)), -1)
        self.assertEqual(cdna.RN(-2.0**-150), 0)
        self.assertEqual(cdna.RN(1.5 * 2**-149), 2.0**-148)
        largest = (2 - 2**-23) * 2.0**127
        self.assertEqual(cdna.RN(largest + 2.0**102), largest)
        self.assertEqual(cdna.RN(largest + 2.0**103), math.inf)
        self.assertEqual(cdna.RN(-1e300), -math.inf)
        self.assertEqual(struct.pack("<f", cdna.RN(-math.inf * 0)), bytes.fromhex("0000C07F"))

    def test_fused(self):
        near = 1 + 2**-12
        self.assertEqual(cdna.fused(near, near, -1 - 2**-11), 2**-24)      # the product is not rounded
        self.assertEqual(cdna.fused(1 + 2**-23, 1 + 2**-23, 2.0**100), 2.0**100)
        # 1 + 2^-24 + 2^-57: beyond the tie by less than f64 can say, where it would go to the even 1.
        self.assertEqual(cdna.fused(1 + 2**-11, 2.0**-24 * (1 - 2**-11 + 2**-22), 1.0), 1 + 2**-23)
        self.assertEqual(cdna.fused(-2.0**-100, 2.0**-100, 2.0**-149), 2.0**-149)
        for a, b, c, sign in ((-2.0**-100, 2.0**-100, 0.0, -1), (1.0, -1.0, 1.0, 1), (-0.0, 1.0, -0.0, -1), (0.0, 1.0, -0.0, 1)):
            self.assertEqual((cdna.fused(a, b, c), math.copysign(1, cdna.fused(a, b, c))), (0, sign))
        self.assertEqual(cdna.fused(2.0**127, 2.0, 1.0), math.inf)
        self.assertTrue(math.isnan(cdna.fused(math.inf, 0.0, 1.0)))
        self.assertTrue(math.isnan(cdna.fused(math.inf, 1.0, -math.inf)))

    def test_quotients(self):
        for a, b, wanted in ((1.0, 3.0, cdna.RN(1 / 3)), (1.0, 0.0, math.inf), (1.0, -0.0, -math.inf), (-1.0, 0.0, -math.inf),
                             (1.0, math.inf, 0), (2.0**127, 2.0**-126, math.inf), (2.0**-149, 2.0, 0)):
            self.assertEqual(cdna.divide(a, b), wanted)
        for a, b in ((0.0, 0.0), (math.nan, 0.0), (math.nan, 1.0), (math.inf, math.inf)):
            self.assertEqual(struct.pack("<f", cdna.divide(a, b)), bytes.fromhex("0000C07F"))

    def test_rounding_to_f16(self):
        for value, bits in ((1 + 2**-11, 0x3C00), (1 + 3 * 2**-11, 0x3C02), (1 + 2**-11 + 2**-40, 0x3C01), (-0.0, 0),
                            (2.0**-24, 1), (2.0**-25, 0), (1.5 * 2**-24, 2), (65519.999, 0x7BFF), (65520.0, 0x7C00),
                            (-2.0**300, 0xFC00)):
            self.assertEqual(cdna.RN16(value), struct.pack("<H", bits))

    def test_outlier_conversion(self):
        for dtype, raw, bits in ((cdna.F16, 0xFE01, 0xFFC02000), (cdna.F16, 0x0001, 0x33800000),
                                 (cdna.BF16, 0x7F81, 0x7F810000), (cdna.F32, 0x7F800001, 0x7F800001),
                                 (cdna.F64, 0xFFF0000040000001, 0xFFC00002),
                                 (cdna.F64, 0x7FEFFFFFFFFFFFFF, 0x7F800000)):
            data = raw.to_bytes(cdna.DTYPE_BITS[dtype] // 8, "little")
            self.assertEqual(cdna.outlier_to_f32(data, dtype), bits.to_bytes(4, "little"))


class Exact(unittest.TestCase):
    def test_shapes(self):
        for it in (exact("s", 12, 32, [], bytes(4)), exact("e", 12, 32, [0, 2**59], b"", 1),
                   exact("e", 12, 32, [2**59, 0], b"", 1), exact("f4", 22, 4, [3, 3], bytes(4) + b"\x0f")):
            outcome = cdna.examine(build([it]))
            self.assertEqual((outcome["items"][0]["status"], outcome["deep"]), ("ok", "clean"))
        self.assertEqual(rule(status(exact("f4", 22, 4, [3, 3], bytes(4) + b"\x10"))), "E4")
        self.assertEqual(rule(cdna.examine(build([exact("f4", 22, 4, [3, 3], bytes(6), 1)]))["open"]), "E1")

    def test_source_digest(self):
        it = exact("x", 2, 8, [5], b"12345")
        it["source"] = sha(b"")
        self.assertEqual(rule(cdna.examine(build([it]))["deep"]), "D2")

    def test_deep_order(self):
        """D1 or D2 item by item; both come before G1."""
        bad_source = {**exact("x", 2, 8, [5], b"12345"), "source": sha(b"")}
        bad_scale = example(scales=struct.pack("<2f", math.inf, 1))
        for items, expected in (([bad_source, bad_scale], "D2"), ([bad_scale, bad_source], "D1")):
            data = bytearray(build(items))
            data[127] = 1                                                       # a gap in the first packet
            self.assertEqual(rule(cdna.examine(bytes(data))["deep"]), expected)

    def test_source_digest_of_content(self):
        pairs = metadata({b"k": b"v"})
        asset = {**pairs, "name": "asset", "encoding": "text/plain", "kind": 1}
        for it in (pairs, asset):
            for source, expected in ((it["source"], "clean"), (Z32, "clean"), (sha(b""), "D2")):
                outcome = cdna.examine(build([{**it, "source": source}]))
                self.assertEqual(rule(outcome["deep"]), expected)
            for k in range(3):                                                  # the error numbers
                errors = tuple(float(n == k) for n in range(3))
                self.assertEqual(rule(cdna.examine(build([{**it, "errors": errors}]))["open"]), "I11")

    def test_unreadable_index(self):
        data = bytearray(build([exact("x", 2, 8, [5], b"12345"), exact("y", 2, 8, [5], b"12345")]))
        place, length = struct.unpack("<QQ", data[-216:-200])
        index = data[128:192]
        index[18] = 1
        data[128:192] = index
        data[place + 56 + 16:place + 56 + 48] = sha(index)
        data[-192:-160] = sha(data[place:place + length])
        outcome = cdna.examine(reseal(bytes(data)))
        self.assertEqual(outcome["items"][0]["status"], {"rule": "X2", "class": "unsupported"})
        self.assertEqual((outcome["items"][1]["status"], outcome["deep"]), ("ok", None))

    def test_dtype_names(self):
        base = exact("x", 2, 8, [5], b"12345")
        alias = item("alias", "", 0, [0], [], kind=3)
        outcome = cdna.examine(build([base, {**base, "name": "y", "dtype": 23}, alias]))
        self.assertEqual([i["dtype"] for i in outcome["items"]], ["U8", "23", "none"])
        self.assertEqual([i["alias_of"] for i in outcome["items"]], [None, None, 0])
        self.assertEqual([i["shape"] for i in outcome["items"]], [[5], [5], [0]])

    def test_limit(self):
        """A limit of the reader has a class and no rule."""
        cdna.CONTENT_LIMIT, before = 4, cdna.CONTENT_LIMIT
        try:
            outcome = cdna.examine(build([exact("x", 2, 8, [5], b"12345")]))
        finally:
            cdna.CONTENT_LIMIT = before
        self.assertEqual(outcome["items"][0]["status"], {"rule": None, "class": "limit"})
        self.assertIsNone(outcome["deep"])

    def test_bytes_without_digest(self):
        it = exact("x", 2, 8, [0], b"")
        data = bytearray(build([it]))
        place, length = struct.unpack("<QQ", data[-216:-200])
        at = place + 56 + 160 + 4 + 4                  # the plane, after the count of its vector
        self.assertEqual(data[at + 32:at + 34], b"\1\0")
        data[at:at + 16] = struct.pack("<QQ", 64, 64)
        data[-192:-160] = sha(data[place:place + length])
        self.assertEqual(rule(cdna.examine(reseal(bytes(data)))["open"]), "P8")

    def test_unsupported(self):
        base = exact("x", 2, 8, [5], b"12345")
        self.assertEqual(rule(status({**base, "encoding": "other"})), "U1")
        self.assertEqual(rule(status({**base, "dtype": 23})), "U2")
        for change, expected in (({"role": 2}, "U3"), ({"layout": 2}, "U4"), ({"vector": 2}, "U6"),
                                 ({"blocks": [block(b"12345", codec=3)]}, "U5"),
                                 ({"blocks": [block(b"1", 5, 1, 1)]}, "U7")):
            outcome = cdna.examine(build([{**base, "planes": [{**base["planes"][0], **change}]}]))
            self.assertEqual((rule(outcome["items"][0]["status"]), outcome["deep"]), (expected, "clean"))
        extra = {**base["planes"][0], "role": 0x8063}
        self.assertEqual(status({**base, "planes": [base["planes"][0], extra]}), "ok")
        self.assertEqual(status({**base, "kind": 0x8009, "encoding": "?"}), "ok")


@needs_codecs
class Codecs(unittest.TestCase):
    content = b"".join(b"%d, " % n for n in range(3000))

    def rule(self, stored, codec, length=None):
        length = len(self.content) if length is None else length
        it = exact("x", 2, 8, [length], b"?")
        it["planes"][0]["blocks"] = [block(stored, length, codec)]
        it["source"] = Z32
        return rule(status(it))

    def test_zstd(self):
        good = zstandard.ZstdCompressor(level=5, write_content_size=True).compress(self.content)
        n = len(self.content)
        self.assertEqual(self.rule(good, 1), "ok")
        for stored in (zstandard.ZstdCompressor(write_checksum=True).compress(self.content),
                       zstandard.ZstdCompressor(write_content_size=False).compress(self.content),
                       b"\0" + good[1:], good[:5]):
            self.assertEqual(self.rule(stored, 1), "C1")
        self.assertEqual(self.rule(good, 1, n + 1), "C1")
        for stored in (good + b"\0", good[:-1], good + good, good[:100] + bytes(len(good) - 100)):
            self.assertEqual(self.rule(stored, 1), "C2")
        window = b"\x28\xb5\x2f\xfd\x40\x00" + struct.pack("<H", 300 - 256)
        self.assertEqual(self.rule(window + b"\x63\x09\0x", 1, 300), "ok")               # one block of 300 x
        self.assertEqual(self.rule(window + b"\x5b\x09\0x", 1, 300), "C2")               # yields 299
        self.assertEqual(self.rule(window + b"\x6b\x09\0x", 1, 300), "C2")               # yields 301
        self.assertEqual(self.rule(window + b"\x67\x09\0x", 1, 300), "C2")               # reserved block type
        self.assertEqual(self.rule(window.replace(b"\x40\x00", b"\x40\x01") + b"\x63\x09\0x", 1, 300), "C1")
        start = b"\x28\xb5\x2f\xfd\x40\0" + struct.pack("<H", 3000 - 256)           # the window is 1024
        for blocks, expected in ((b"\x02\x1f\0x" * 2 + b"\x43\x20\0x", "C2"),        # 992 + 992 + 1032
                                 (b"\x02\x1f\0x" * 3 + b"\xc3\x00\0x", "ok"),        # 3 times 992, 24
                                 (b"\x24\0\0\x05\x7dx\0" + b"\x43\x1f\0x", "C2")):   # 2000 as literals, 1000
            self.assertEqual(self.rule(start + blocks, 1, 3000), expected)
        bomb = window + b"\x02\x20\0x" * 60
        self.assertEqual(self.rule(bomb + b"\x63\x09\0x", 1, 300), "C2")

    def test_byte_planes(self):
        import zstandard
        random_bits = random.Random(3)
        for size, form in ((2, "H"), (4, "I"), (8, "Q")):
            bits = 8 * size - 9                            # below the last plane's, which are 0 1111 111 here
            words = [0x7F << bits | random_bits.getrandbits(bits) | random_bits.getrandbits(1) << bits + 8
                     for _ in range(500)]
            planes = [bytes((word << 1 | word >> 8 * size - 1) >> 8 * k & 255 for word in words) for k in range(size)]
            stored = b"".join(planes[:-1]) + zstandard.ZstdCompressor(write_checksum=False).compress(planes[-1])
            decoded = struct.pack(f"<500{form}", *words)
            self.assertEqual(cdna.join_byte_planes(stored, len(decoded), size), decoded)
            with self.assertRaises(cdna.CdnaError) as raised:
                cdna.join_byte_planes(stored + b"\0", len(decoded), size)
            self.assertEqual(raised.exception.rule, "C2")

    def test_brotli(self):
        n = len(self.content)
        good = brotli.compress(self.content, quality=5, lgwin=16)
        self.assertEqual(self.rule(good, 2), "ok")
        for stored in (good + b"\0", good[:-1], good + good, good + b"\x3b",
                       good[:50] + bytes(len(good) - 50)):
            self.assertEqual(self.rule(stored, 2), "C4")
        compressor = brotli.Compressor(quality=5, lgwin=16)
        flushed = compressor.process(self.content) + compressor.flush() + compressor.finish()
        self.assertEqual(flushed[-1], 3)                                                 # six bits are unused
        self.assertEqual(self.rule(flushed, 2), "ok")
        for unused in range(2, 8):
            self.assertEqual(self.rule(flushed[:-1] + bytes([3 | 1 << unused]), 2), "C4")
        self.assertEqual(self.rule(good, 2, n - 1), "C4")
        self.assertEqual(self.rule(good, 2, n + 1), "C4")
        self.assertEqual(self.rule(brotli.compress(self.content, lgwin=22), 2), "C3")
        self.assertEqual(self.rule(b"\x11" + good, 2), "C3")                              # large window
        for stored in (b"\x06", b"\x06\0"):                                              # empty streams
            self.assertEqual(self.rule(stored, 2), "C4")
        bomb = brotli.compress(bytes(2**24), lgwin=16)
        self.assertEqual(self.rule(bomb, 2, 2**24), "ok")
        self.assertEqual(self.rule(bomb, 2, 2**24 - 1), "C4")

    def test_bit_flips_in_a_stream(self):
        for codec, good in ((1, zstandard.ZstdCompressor().compress(self.content)),
                            (2, brotli.compress(self.content, lgwin=16))):
            for bit in range(0, 8 * len(good), 31):
                stored = bytearray(good)
                stored[bit // 8] ^= 1 << bit % 8
                self.assertIn(self.rule(bytes(stored), codec), ("ok", "C1", "C2", "C3", "C4"))


if __name__ == "__main__":
    unittest.main()
