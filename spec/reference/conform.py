"""Runs the reference decoder over test vectors (section 19): conform.py DIR... compares every DIR/x.cdna with
the document DIR/x.json. The last line is "N passed, N failed"; the exit code is 0 only if all have passed."""
import hashlib
import json
import sys
from pathlib import Path

import cdna_reference as cdna

def recover(path):
    """What the rebuild of a damaged file gives, in the words of the documents in vectors/recover."""
    data, complete = cdna.rebuild(path)
    return {"expect": "rebuilt" if complete else "salvaged", "items": len(cdna.File(data).items),
            "output_sha256": hashlib.sha256(data).hexdigest()}

def differences(expected, found):
    """A line for each member that differs; the members of items one by one."""
    for key in sorted(expected.keys() | found.keys()):
        want, have = expected.get(key), found.get(key)
        if key == "items" and isinstance(want, list) and len(want) == len(have):
            for number, pair in enumerate(zip(want, have)):
                yield from (f"item {number}, {line}" for line in differences(*pair))
        elif want != have:
            yield f"{key}: expected {want}, found {have}"

def main(directories):
    passed = failed = 0
    for path in sorted(path for directory in directories for path in Path(directory).glob("*.json")):
        expected, file = json.loads(path.read_text("utf-8")), path.with_suffix(".cdna")
        expected.pop("description", None)
        root = expected.pop("expected_root", None)
        found = recover(file) if "expect" in expected else cdna.examine(file, root)
        lines = [f"{path}: {line}" for line in differences(expected, found)]
        print(*lines, sep="\n", end="\n" * bool(lines))
        passed, failed = passed + (not lines), failed + bool(lines)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
