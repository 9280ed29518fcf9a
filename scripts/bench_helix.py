"""helix-substrate 0.2.3 from PyPI and libcdna side by side on the same tensor: prints a table in Markdown.

    python3 scripts/bench_helix.py [--python build/venv/bin/python] [--size 4096] [--rounds 5] [--flips 1000] [--seed N]

--python has the package cdna. Installs the original into build/helix-0.2.3. Every figure comes from a process of its own on one core
(scripts/helix/measure_*.py), whose memory is its own VmHWM, or the growth of RssAnon during the call. Rates are f32 bytes of the
matrix by the median time of some rounds, files in the page cache and opened anew each time. The original's v1 encoder gets 8 GiB of
address space: at 4096 x 4096 it asks for four times as much. At that size all takes some minutes and 4 GB.
"""
import argparse
import datetime
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

from helix.environment import ROOT, python_of

VERSION = "0.2.3"
V1_LIMIT_BYTES = 8 << 30
FLIP_SIZE = 512  # Of the matrix whose files are damaged: every flip is a whole read.
MAKE_MATRIX = """import sys, numpy as np
random = np.random.default_rng(int(sys.argv[3]))
weights = random.normal(0, 0.02, (int(sys.argv[2]),) * 2).astype(np.float32)
flat = weights.reshape(-1)
flat[random.integers(flat.size, size=flat.size // 1000)] *= 10
np.save(sys.argv[1], weights)"""


class Side:
    """One of the two, whose tasks run in processes of their own."""

    def __init__(self, python, script):
        self.command = [python, "-E", "-s", ROOT / "scripts/helix" / script]

    def __call__(self, task, *arguments):
        done = subprocess.run([*self.command, task, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{task}: exit code {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)


class Comparison:
    """The files in a folder, and the rows of the table."""

    def __init__(self, original, ours, folder, options):
        self.original, self.ours, self.folder, self.options = original, ours, folder, options
        self.rows = []

    def row(self, what, theirs, ours):
        self.rows.append((what, theirs, ours))
        print(f"  {what}: {theirs} | {ours}", file=sys.stderr)

    def rate(self, measured):
        return f"{4 * self.options.size**2 / measured['seconds'] / 1e9:.3g} GB/s"

    def matrix(self, size):
        path = self.folder / f"{size}.npy"
        subprocess.run([self.options.python, "-c", MAKE_MATRIX, path, str(size), str(self.options.seed)], check=True)
        return path

    def encode(self):
        matrix = self.matrix(self.options.size)
        theirs = self.original("encode_v3", matrix, self.folder / "v3")
        # Outliers as many as the original keeps: then both have the same bits.
        share = theirs["outliers"] / self.options.size**2
        ours = self.ours("encode", matrix, self.folder / "a.cdna", f"cb8,outliers={share:.9f}")
        grouped = self.ours("encode", matrix, self.folder / "g.cdna", "cb8g64")
        self.row("encode: seconds", f"{theirs['seconds']:.1f} (v3)", f"{ours['seconds']:.2f} (cb8), {grouped['seconds']:.2f} (cb8g64)")
        self.row("encode: peak memory", megabytes(theirs["peak_bytes"]),
                 f"{megabytes(ours['peak_bytes'])}, {megabytes(grouped['peak_bytes'])}")
        self.row("bits per weight", f"{theirs['bits']:.3f}", f"{ours['bits']:.3f}, {grouped['bits']:.3f}")
        self.row("SNR", f"{theirs['snr_db']:.1f} dB", f"{ours['snr_db']:.1f} dB, {grouped['snr_db']:.1f} dB")
        old = self.original("encode_v1", matrix, self.folder / "v1.cdna", V1_LIMIT_BYTES)
        told = f"{old['error']} in 8 GiB" if "error" in old else f"{old['seconds']:.1f} s, {megabytes(old['peak_bytes'])}"
        self.row("its quick start, `encode_tensor_to_cdna` (v1)", told, "")

    def decode(self):
        rounds = self.options.rounds
        ours = self.rate(self.ours("decode", self.folder / "a.cdna", rounds))
        for codec, block_rows in (("brotli", 64), ("zstd", 64)):
            self.original("encode_v2", self.folder / "v3", self.folder / codec, codec, block_rows)
        self.row("decode to f32, v3 (checks nothing)", self.rate(self.original("decode_v3", self.folder / "v3", rounds)),
                 f"{ours}, every block verified")
        for codec in ("brotli", "zstd"):
            self.row(f"decode to f32, v2, {codec}, blocks verified",
                     self.rate(self.original("decode_v2", self.folder / codec, rounds)), ours)

    def multiply(self):
        rounds = self.options.rounds
        shipped = self.original("stream_as_shipped", self.folder / "zstd")["error"]
        self.row("`stream_xw_from_cdna` as shipped", shipped.replace("|", "/") or "works", "")
        for rows in (1, 8, 64):
            theirs = self.original("matmul", self.folder / "zstd", rows, rounds)
            ours = self.ours("matmul", self.folder / "a.cdna", rows, rounds)
            self.products(f"x W, x of {rows} row{'' if rows == 1 else 's'}: its loop over v2 blocks, zstd", theirs, ours)
        self.products("W x: `stream_cdna2_matmul`", self.original("bincount", self.folder / "zstd", rounds),
                      self.ours("linear", self.folder / "a.cdna", rounds))

    def products(self, what, theirs, ours):
        self.row(what, *(f"{self.rate(each)}, {megabytes(each['private_bytes'])} private" for each in (theirs, ours)))

    def damage(self):
        matrix = self.matrix(FLIP_SIZE)
        count, seed = self.options.flips, self.options.seed
        self.original("encode_v3", matrix, self.folder / "small")
        self.original("encode_v2", self.folder / "small", self.folder / "small.hxz", "zstd", 64)
        self.ours("encode", matrix, self.folder / "small.cdna", "cb8")
        v3 = self.original("flips_v3", self.folder / "small", count, seed)
        v2 = {**self.original("flips_v2", self.folder / "small.hxz", count, seed),
              **self.original("flips_hxzo", self.folder / "small.hxzo", count, seed)}
        ours = self.ours("flips", self.folder / "small.cdna", count, seed)
        for part in ("header", "codebook", "index", "payload", "sidecar"):
            theirs = [f"{kind}: {found[part]}" for kind, found in (("v2", v2), ("v3", v3)) if part in found]
            self.row(f"bit flips noticed in the {part}, of {count}", ", ".join(theirs), str(ours[part]))


def megabytes(size):
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def print_table(rows, options, original, ours):
    made = {**original("versions"), "its NumPy": original("versions")["numpy"], **ours("versions")}
    print(f"`python3 scripts/bench_helix.py --size {options.size}`, {datetime.date.today().isoformat()}, {cpu()}, one core; helix-substrate "
          f"{made['helix-substrate']} (NumPy {made['its NumPy']}), libcdna {made['libcdna']} (NumPy {made['numpy']}). A Gaussian "
          f"{options.size} x {options.size} matrix in f32, one value of 1000 ten times as large, seed {options.seed}: {megabytes(4 * options.size**2)}.\n")
    print(f"| | helix-substrate {made['helix-substrate']} | libcdna |\n|---|---|---|")
    for cells in rows:
        print("| " + " | ".join(cell or "–" for cell in cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--python", type=pathlib.Path, default=ROOT / "build/venv/bin/python", help="an interpreter that has cdna")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flips", type=int, default=1000, help="in each part of a file")
    parser.add_argument("--seed", type=int, default=20250611)
    options = parser.parse_args()
    original = Side(python_of(VERSION), "measure_original.py")
    ours = Side(options.python.absolute(), "measure_cdna.py")
    with tempfile.TemporaryDirectory(prefix="cdna-bench-") as name:
        comparison = Comparison(original, ours, pathlib.Path(name), options)
        comparison.encode()
        comparison.decode()
        comparison.multiply()
        comparison.damage()
    print_table(comparison.rows, options, original, ours)
    return 0


if __name__ == "__main__":
    sys.exit(main())
