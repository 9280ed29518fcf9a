"""Files that helix-substrate writes today, imported: the values have to be those of its own readers, bit for bit.

    python3 scripts/import_fresh_helix.py BUILD [--seed N] [--version VERSION]...

Installs helix-substrate from PyPI into build/helix-VERSION (0.2.1 and 0.2.3 unless named), lets it write v1, v2 (brotli, zstd, lz4) and
v3 files, sidecars, and decode them, converts each with BUILD/tools/cdna, checks the result with cdna-fsck, and compares what
`cdna export` gives. Products of matrices (SVD terms) may differ by the order of sums. Ends with "N passed, N failed".
"""
import argparse
import array
import json
import pathlib
import struct
import sys
import tempfile

from helix.environment import ROOT, VERSIONS, python_of
from helix.results import Results, run

TOLERANCE = 1e-5  # Of the largest value, for sums in another order.


def tensors_of(path):
    """{name: bytes} of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {name: data[8 + length :][slice(*entry["data_offsets"])] for name, entry in header.items()}


def difference(found, expected):
    """The largest one, relative to the largest value."""
    a, b = array.array("f", found), array.array("f", expected)
    return max(abs(x - y) for x, y in zip(a, b)) / max(map(abs, b))


class Import:
    """One file of the original's, and what becomes of it."""

    def __init__(self, tools, folder, entry):
        self.tools, self.folder, self.entry = tools, folder, entry
        self.container, self.exported = folder / "imported.cdna", folder / "exported.safetensors"

    def convert(self, kind):
        sidecar = self.entry["sidecar"]
        options = ["--sidecar", self.folder / sidecar] if sidecar else []
        run(self.tools / "cdna", "convert", self.folder / self.entry["source"], self.container, "--force", "--from", kind, *options)
        run(self.tools / "cdna-fsck", "--deep", self.container)
        run(self.tools / "cdna", "export", self.container, self.exported, "--force", "--dtype", "f32")
        return tensors_of(self.exported)

    def problem(self):
        """What is wrong, or ""."""
        for kind in ("auto", self.entry["from"]):
            found = self.convert(kind)
            if len(found) != len(self.entry["tensors"]):
                return f"{len(found)} tensors"
            for tensor in self.entry["tensors"]:
                name = tensor["name"] or next(iter(found))
                wrong = self.compare(found.get(name, b""), tensor)
                if wrong:
                    return f"--from {kind}: {name}: {wrong}"
        return ""

    def compare(self, found, tensor):
        expected = (self.folder / tensor["decoded"]).read_bytes()
        if found == expected:
            return ""
        if tensor["exact"] or len(found) != len(expected):
            return f"other bits ({len(found)} bytes, {len(expected)} expected)"
        far = difference(found, expected)
        return "" if far <= TOLERANCE else f"differs by {far:.2g} of the largest value"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("build", type=pathlib.Path, help="where the tools are: BUILD/tools")
    parser.add_argument("--seed", type=int, default=20250611)
    parser.add_argument("--version", action="append", choices=VERSIONS)
    options = parser.parse_args()
    results = Results()
    for version in options.version or VERSIONS:
        python = python_of(version)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            run(python, "-I", ROOT / "scripts/helix/write_fresh.py", folder, str(options.seed))
            document = json.loads((folder / "files.json").read_text())
            print(f"helix-substrate {document['version']}, numpy {document['numpy']}, seed {options.seed}")
            for entry in document["files"]:
                results.check(entry["source"], Import(options.build / "tools", folder, entry).problem)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
