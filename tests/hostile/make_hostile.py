"""Writes the hostile files of hostile_cases.py and the sweep of field_sweep.py, with their outcomes, into a folder.

    python3 make_hostile.py FOLDER [STAMP]
                                         writes FOLDER/*.cdna, hostile.json, sweep.pack and sweep.json; then STAMP
    python3 make_hostile.py --cases FOLDER
                                         the same without the sweep
    python3 make_hostile.py --reference  asks the reference decoder for the outcome of each case
    python3 make_hostile.py --readme     writes the table of README.md
"""
import importlib.util
import json
import pathlib
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
SPEC = HERE.parents[1] / "spec"
sys.path[:0] = [str(HERE), str(HERE.parent / "python"), str(SPEC / "vectors"), str(SPEC / "reference")]
import field_sweep  # noqa: E402
from hostile_cases import CASES  # noqa: E402
from make_vectors import CLASS_OF  # noqa: E402
from reference_outcome import first_fault  # noqa: E402


def write_file(path, made):
    length, parts = made if isinstance(made, tuple) else (len(made), {0: made})
    with open(path, "wb") as stream:
        for offset, data in parts.items():
            stream.seek(offset)
            stream.write(data)
        stream.truncate(length)


def case_json(case):
    rule = case.outcome.split(" ")[-1]
    return {"name": case.name, "outcome": case.outcome, "class": CLASS_OF.get(rule, "ok"),
            "expected_root": case.expected_root}


def write_cases(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        write_file(folder / f"{case.name}.cdna", case.make())
    (folder / "hostile.json").write_text(json.dumps([case_json(case) for case in CASES], indent=1))


def write_sweep(folder):
    entries = []
    with open(folder / "sweep.pack", "wb") as stream:
        for name, data in field_sweep.files():
            entries.append({"name": name, "length": len(data), "outcome": first_fault(data)})
            stream.write(data)
    (folder / "sweep.json").write_text(json.dumps(entries))
    print(len(CASES), "hostile files,", len(entries), "files of the sweep")


def ask_reference():
    missing = [name for name in ("zstandard", "brotli") if importlib.util.find_spec(name) is None]
    if missing:
        print("skipped: this Python has no module", " and no ".join(missing))
        return 77
    passed = failed = 0
    for case in CASES:
        if not case.reference:
            continue
        found = first_fault(case.make(), case.expected_root)
        passed, failed = passed + (found == case.outcome), failed + (found != case.outcome)
        if found != case.outcome:
            print(f"{case.name}: expected {case.outcome}, reference {found}")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


def write_readme():
    rows = ["| file | mirrors | attack | outcome |", "|---|---|---|---|"]
    rows += [f"| `{case.name}` | {case.mirrors} | {case.attack} | {case.outcome} |" for case in CASES]
    path, start, end = HERE / "README.md", "<!-- cases -->\n", "<!-- end of cases -->"
    before, rest = path.read_text("utf-8").split(start)
    path.write_text(before + start + "\n".join(rows) + "\n" + end + rest.split(end)[1], "utf-8")


def main(first, second=None):
    if first == "--reference":
        return ask_reference()
    if first == "--readme":
        return write_readme()
    if first == "--cases":
        return write_cases(pathlib.Path(second))
    write_cases(pathlib.Path(first))
    write_sweep(pathlib.Path(first))
    if second:
        pathlib.Path(second).write_text("")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
