"""Both decoders, written apart from one text, find the same rule first in every one-bit damage of the small sample.

    flip_differential.py EXAMINE_FLIPS [STRIDE]

EXAMINE_FLIPS is the C++ program of that name. The last line is "N passed, N failed"; the exit code is 0 only if
all have passed, and 77 (skipped) where a codec module of the reference decoder is missing.
"""
import importlib.util
import subprocess
import os
import sys
import tempfile
from multiprocessing import Pool
from pathlib import Path

from reference_outcome import first_fault

PROCESSES = 2
CHUNK = 2048                      # bits per task
SHOWN = 20                        # differences that are printed

def compare(task):
    """(lines compared, the differences) for a range of bits."""
    program, path, begin, end, stride = task
    printed = subprocess.run([program, path, str(begin), str(end)], capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in printed.stdout.splitlines())
    data, compared, differences = bytearray(Path(path).read_bytes()), 0, []
    for bit in range(begin + -begin % stride, end, stride):
        data[bit // 8] ^= 1 << bit % 8
        expected = first_fault(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
        compared += 1
        if found.get(str(bit)) != expected:
            differences.append(f"bit {bit % 8} of byte {bit // 8}: reference {expected}, library {found.get(str(bit))}")
    return compared, differences

def main(program, stride=os.environ.get("CDNA_TEST_STRIDE", "1")):
    missing = [name for name in ("zstandard", "brotli") if importlib.util.find_spec(name) is None]
    if missing:
        print("skipped: this Python has no module", " and no ".join(missing))
        return 77
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "small.cdna")
        subprocess.run([program, "write", path], check=True)
        data = Path(path).read_bytes()
        if first_fault(data) != "clean":
            print("the sample itself is refused:", first_fault(data))
            return 1
        tasks = [(program, path, begin, min(begin + CHUNK, 8 * len(data)), int(stride))
                 for begin in range(0, 8 * len(data), CHUNK)]
        with Pool(PROCESSES) as pool:
            results = pool.map(compare, tasks, chunksize=1)
    compared = sum(count for count, _ in results)
    differences = [line for _, lines in results for line in lines]
    print("\n".join(differences[:SHOWN]), end="\n" if differences else "")
    print(f"{compared - len(differences)} passed, {len(differences)} failed")
    return 0 if compared and not differences else 1

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
