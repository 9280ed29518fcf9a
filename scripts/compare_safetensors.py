"""Compares an exported safetensors file with its source, with nothing but Python: no code of the project takes part.

    python3 compare_safetensors.py SOURCE EXPORT                    every byte of every tensor and the metadata are equal
    python3 compare_safetensors.py SOURCE EXPORT --errors INSPECT   the errors are those that `cdna-inspect --json` stated

Exits with 1 and names the tensors if that is not so.
"""
import argparse
import array
import json
import math
import mmap
import operator
import struct
import sys

# How far a stated figure may be from the one measured here: sums are taken in another order, and figures are printed rounded.
SNR_TOLERANCE_DB = 0.01
MAX_ABS_TOLERANCE = 1e-3
CHUNK = 1 << 18


class SafeTensors:
    """A safetensors file, mapped: `tensors` is name -> {dtype, shape, data_offsets}."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length, = struct.unpack_from("<Q", self.map)
        self.tensors = json.loads(self.map[8:8 + length])
        self.metadata = self.tensors.pop("__metadata__", {})
        self.data = 8 + length

    def bytes_of(self, name):
        begin, end = self.tensors[name]["data_offsets"]
        return memoryview(self.map)[self.data + begin:self.data + end]

    def type_of(self, name):
        tensor = self.tensors[name]
        return tensor["dtype"], tensor["shape"]


def numbers(data, dtype):
    """The values of bytes as floats that hold them exactly."""
    if dtype == "BF16":
        words = bytearray(2 * len(data))
        words[2::4], words[3::4] = data[0::2], data[1::2]
        return array.array("f", words)
    if dtype == "F16":
        return array.array("f", struct.unpack(f"<{len(data) // 2}e", data))
    return array.array({"F32": "f", "F64": "d"}[dtype], bytes(data))


def error_of(source, source_dtype, export, export_dtype):
    """(SNR in dB, largest absolute error) of two buffers with the same number of values."""
    signal = noise = largest = 0.0
    wide, other = (8 if dtype == "F64" else 4 if dtype == "F32" else 2 for dtype in (source_dtype, export_dtype))
    for first in range(0, len(source) // wide, CHUNK):
        a = numbers(source[first * wide:(first + CHUNK) * wide], source_dtype)
        b = numbers(export[first * other:(first + CHUNK) * other], export_dtype)
        difference = list(map(operator.sub, a, b))
        signal += math.fsum(map(operator.mul, a, a))
        noise += math.fsum(map(operator.mul, difference, difference))
        largest = max(largest, max(difference), -min(difference))
    if noise == 0:
        return math.inf, 0.0
    return 10 * math.log10(signal / noise) if signal else -math.inf, largest


def compare_exact(source, export):
    """Yields what differs."""
    if source.metadata != export.metadata:
        yield "__metadata__ differs"
    for name in source.tensors:
        if source.type_of(name) != export.type_of(name):
            yield f"{name}: {export.type_of(name)} instead of {source.type_of(name)}"
        elif source.bytes_of(name) != export.bytes_of(name):
            yield f"{name}: the bytes differ"


def compare_errors(source, export, stated):
    """Yields what differs from the stated errors; prints a summary."""
    measured, equal = {}, 0
    for name in source.tensors:
        if source.type_of(name) == export.type_of(name) and source.bytes_of(name) == export.bytes_of(name):
            equal += 1
            continue
        if source.tensors[name]["shape"] != export.tensors[name]["shape"]:
            yield f"{name}: {export.type_of(name)} instead of {source.type_of(name)}"
            continue
        measured[name] = error_of(source.bytes_of(name), source.tensors[name]["dtype"],
                                  export.bytes_of(name), export.tensors[name]["dtype"])
    for name, (snr_db, max_abs) in measured.items():
        error = stated[name]["error"] or {}
        if abs(error.get("snr_db", math.inf) - snr_db) > SNR_TOLERANCE_DB:
            yield f"{name}: the stated SNR is {error.get('snr_db')}, the measured one {snr_db:.3f} dB"
        if abs(error.get("max_abs", math.inf) - max_abs) > MAX_ABS_TOLERANCE * max_abs:
            yield f"{name}: the stated error is {error.get('max_abs')}, the measured one {max_abs:.6g}"
    print(f"  {equal} tensors equal the source, byte for byte; {len(measured)} are approximations")
    if measured:
        ranked = sorted(measured, key=lambda name: measured[name][0])
        for label, name in ("worst", ranked[0]), ("median", ranked[len(ranked) // 2]), ("best", ranked[-1]):
            print(f"  {label:6} SNR {measured[name][0]:6.2f} dB, largest error {measured[name][1]:.3g}: {name}")


def main():
    parser = argparse.ArgumentParser(description="Compares an exported safetensors file with its source.")
    parser.add_argument("source")
    parser.add_argument("export")
    parser.add_argument("--errors", metavar="INSPECT", help="JSON of cdna-inspect, whose errors have to be true")
    options = parser.parse_args()
    source, export = SafeTensors(options.source), SafeTensors(options.export)
    if source.tensors.keys() != export.tensors.keys():
        sys.exit(f"The tensors differ: {sorted(source.tensors.keys() ^ export.tensors.keys())}")
    if options.errors:
        with open(options.errors, encoding="utf-8") as file:
            stated = {tensor["name"]: tensor for tensor in json.load(file)["tensors"]}
        problems = list(compare_errors(source, export, stated))
    else:
        problems = list(compare_exact(source, export))
    if problems:
        sys.exit("\n".join(problems))
    size = sum(len(source.bytes_of(name)) for name in source.tensors)
    what = "every stated error is the measured one" if options.errors else "all bytes and the metadata are equal"
    print(f"  {len(source.tensors)} tensors, {size:,} bytes: {what}")


if __name__ == "__main__":
    main()
