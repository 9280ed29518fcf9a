"""The library and the reference decoder, written apart from one text, find the same in mutated and repaired files.

    differential.py MUTATE_POOL [--count N] [--seed S] [--jobs J] [--keep FOLDER]

Makes N files from the vectors with the C++ program MUTATE_POOL and compares for each: accepted or refused, the rule and
class of every fault, and the SHA-256 of every decoded item. --keep writes the files on which they differ. The last line is
"N passed, N failed"; the exit code is 77 (skipped) where a codec module of the reference decoder is missing.
"""
import argparse
import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "spec/reference"))
import cdna_reference as cdna

BYTES_MAX = 16384                 # of a vector that is mutated
CHUNK = 250                       # files per task
SHOWN = 20                        # differences that are printed
MEMBERS = ("number", "shape", "decoded_sha256", "status")


def vectors():
    paths = (path for folder in ("good", "bad") for path in sorted((ROOT / "spec/vectors" / folder).glob("*.cdna")))
    return [str(path) for path in paths if path.stat().st_size <= BYTES_MAX]


def files_in(pool):
    """The files of a pool: each after its length."""
    with open(pool, "rb") as stream:
        while size := stream.read(4):
            yield stream.read(struct.unpack("<I", size)[0])


def is_over_limit(outcome):
    """The library's own limit on decoded bytes is lower here than that of the reference decoder."""
    faults = [outcome["open"], outcome["deep"], *(item["status"] for item in outcome["items"])]
    return any(isinstance(fault, dict) and fault["rule"] == "" for fault in faults)


def reference(data):
    """The document of section 19, as far as mutate_pool prints it."""
    outcome = cdna.examine(data)
    items = [{key: item[key] for key in MEMBERS} for item in outcome["items"]]
    return {"open": outcome["open"], "items": items, "deep": outcome["deep"]}


def first_fault(outcome):
    """In one word, for the statistics."""
    faults = [outcome["open"], *(item["status"] for item in outcome["items"]), outcome["deep"]]
    return next((fault["rule"] for fault in faults if isinstance(fault, dict)), "clean")


def compare(task):
    """(statistics, differences, files on which there are any) for a chunk of a pool."""
    program, seed, count, folder = task
    pool = Path(folder) / f"{seed}.pool"
    printed = subprocess.run([program, str(seed), str(count), str(pool), *vectors()], capture_output=True, text=True,
                             check=True)
    statistics, differences, odd = Counter(), [], []
    lines = printed.stdout.splitlines()
    files = list(files_in(pool))
    pool.unlink()
    if len(lines) != count or len(files) != count:
        raise RuntimeError(f"mutate_pool made {len(files)} files and {len(lines)} lines of {count}")
    for number, (line, data) in enumerate(zip(lines, files)):
        found = json.loads(line)
        if is_over_limit(found):
            statistics["over the limit"] += 1
            continue
        try:
            expected = reference(data)
        except Exception as error:  # the reference decoder must not fail in any other way than by a rule
            expected = f"{type(error).__name__}: {error}"
        if expected == found:
            statistics[first_fault(found)] += 1
        else:
            differences.append(f"seed {seed} file {number}:\n  reference {json.dumps(expected)}\n  library   {line}")
            odd.append((f"{seed}_{number}.cdna", data))
    return statistics, differences, odd


def main():
    parser = argparse.ArgumentParser(description="Compares the library with the reference decoder on mutated files.")
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=20240117)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep")
    options = parser.parse_args()
    missing = [name for name in ("zstandard", "brotli") if importlib.util.find_spec(name) is None]
    if missing:
        print("skipped: this Python has no module", " and no ".join(missing))
        return 77
    print(f"seed {options.seed}, {options.count} files from {len(vectors())} vectors")
    statistics, differences, odd = Counter(), [], []
    with tempfile.TemporaryDirectory() as folder, Pool(options.jobs) as pool:
        tasks = [(options.program, options.seed + begin, min(CHUNK, options.count - begin), folder)
                 for begin in range(0, options.count, CHUNK)]
        for part in pool.imap_unordered(compare, tasks):
            statistics.update(part[0])
            differences += part[1]
            odd += part[2]
    print(", ".join(f"{rule} {count}" for rule, count in statistics.most_common()))
    print("\n".join(sorted(differences)[:SHOWN]), end="\n" if differences else "")
    if options.keep:
        Path(options.keep).mkdir(parents=True, exist_ok=True)
        for name, data in odd:
            (Path(options.keep) / name).write_bytes(data)
    over = statistics.pop("over the limit", 0)
    print(f"{over} files were over the limit on decoded bytes and are not counted")
    passed = sum(statistics.values())
    print(f"{passed} passed, {len(differences)} failed")
    return 0 if passed and not differences else 1


if __name__ == "__main__":
    sys.exit(main())
