"""Writes the conformance vectors, their expected outcomes and the table of rules in README.md.

    python3 make_vectors.py           writes the files
    python3 make_vectors.py --check   exits with 1 if a file differs from what would be written
"""
import argparse
import hashlib
import json
import pathlib
import re
import sys

sys.dont_write_bytecode = True
from bad_cases import BAD, RECOVER, RULES_WITHOUT_FILE  # noqa: E402
from builder import ALIAS, DTYPES, build  # noqa: E402
from good_cases import GOOD  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
FOLDERS = ("good", "bad", "recover")
CLASSES = {
    "not_cdna": "T1", "truncated": "T2 T11", "root_mismatch": "T4",
    "corrupt": "T3 F1 H1 X1 B1 G1 R1 D2",
    "unsupported": "T5 T6 T7 T9 T10 I1 I2 P1 P2 X2 U1 U2 U3 U4 U5 U6 U7",
    "limit": "T13 T14 I5 I6 I8 P4 P6 E7 M1",
    "malformed": "T8 T12 F2 F3 F4 F5 F6 I3 I7 I9 I10 I11 I12 I13 I14 I15 P3 P5 P7 P8 P9 N1 N2 N3 N4 N5 "
                 "X3 X4 X5 X6 X7 X8 X9 C1 C2 C3 C4 E1 E2 E3 E4 E5 E6 M2 M3 M4 M5 D1 "
                 "D3 D4",
}
CLASS_OF = {rule: name for name, rules in CLASSES.items() for rule in rules.split()}
AT_TOUCH = {"B1", "E3", "E4", "E5", "E6"}
DEEP = {"D1", "D2", "D3", "D4", "G1", "R1"}


def finding(rule):
    return rule if rule == "ok" else {"rule": rule, "class": CLASS_OF[rule]}


def stage(rule):
    if rule in DEEP:
        return "deep"
    return "item" if rule in AT_TOUCH or rule[0] in "XCMU" else "open"


def dtype_name(number):
    return DTYPES[number][0] if number < len(DTYPES) else str(number)


def item_outcome(number, item, broken):
    status = broken or item.status
    return {"number": number, "name": item.name.decode(), "kind": item.kind, "dtype": dtype_name(item.dtype),
            "shape": item.dims, "encoding": item.type.decode(),
            "alias_of": item.dims[0] if item.kind == ALIAS else None, "status": finding(status),
            "decoded_sha256": item.decoded_sha256 if status == "ok" else None}


def good_outcome(description, file, built, rule=None, hit=None):
    """The outcome of a file that opens: clean, or with `rule` broken in item `hit`, or in the deep check."""
    in_item = rule is not None and stage(rule) == "item"
    items = [item_outcome(n, item, rule if in_item and n == hit else None)
             for n, item in enumerate(file.items)]
    deep = None if in_item else finding(rule) if rule else "clean"
    return {"description": description, "open": "ok", "root": built.root.hex(), "items": items, "deep": deep}


def bad_outcome(case, built):
    rule = case.rule
    if stage(rule) != "open":
        return good_outcome(case.description, case.file, built, rule, case.hit)
    expected = {"expected_root": case.expected_root} if case.expected_root else {}
    return {"description": case.description} | expected | {"open": finding(rule), "items": [], "deep": None}


def to_json(document):
    """Readable JSON: one line for each item."""
    text = json.dumps(document, indent=1, ensure_ascii=True)
    return re.sub(r"\n {3,}|\n {2}(?=[}\]])", " ", text).encode() + b"\n"


def good_files():
    for name, description, file in GOOD:
        built = build(file)
        yield f"good/{name}.cdna", built.data
        yield f"good/{name}.json", to_json(good_outcome(description, file, built))


def bad_files():
    for case in BAD:
        built = build(case.file)
        yield f"bad/{case.name}.cdna", built.data
        yield f"bad/{case.name}.json", to_json(bad_outcome(case, built))


def recover_files():
    for case in RECOVER:
        output = build(case.output).data
        outcome = {"description": case.description, "expect": case.expect,
                   "output_sha256": hashlib.sha256(output).hexdigest(), "items": len(case.output.items)}
        yield f"recover/{case.name}.cdna", case.damaged()
        yield f"recover/{case.name}.json", to_json(outcome)


def rule_table():
    """A Markdown table: rule, class, files."""
    files = {rule: [] for rule in CLASS_OF}
    for case in BAD:
        files[case.rule].append(f"`{case.name}`")
    for name, _, file in GOOD:
        for rule in sorted({item.status for item in file.items} - {"ok"}):
            files[rule].append(f"`good/{name}`")
    rows = ["| rule | class | files |", "|---|---|---|"]
    for rule in sorted(files, key=lambda rule: (rule[0], int(rule[1:]))):
        listed = " ".join(files[rule]) or "none: " + RULES_WITHOUT_FILE[rule]
        rows.append(f"| {rule} | {CLASS_OF[rule]} | {listed} |")
    return "\n".join(rows)


def readme():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    start, end = "<!-- rules -->\n", "<!-- end of rules -->"
    before, rest = text.split(start)
    return (before + start + rule_table() + "\n" + end + rest.split(end)[1]).encode()


def all_files():
    files = {}
    for source in (good_files(), bad_files(), recover_files()):
        for name, data in source:
            if name in files:
                raise ValueError(f"two vectors are named {name}")
            files[name] = data
    files["README.md"] = readme()
    return files


def present():
    return {path.relative_to(HERE).as_posix() for folder in FOLDERS for path in (HERE / folder).glob("*")}


def check(files):
    """Prints the files that are missing, stray or different; returns whether there are none."""
    wrong = sorted(present() - set(files))
    wrong += [name for name, data in files.items()
              if not (HERE / name).is_file() or (HERE / name).read_bytes() != data]
    for name in wrong:
        print("differs:", name)
    return not wrong


def write(files):
    for folder in FOLDERS:
        (HERE / folder).mkdir(exist_ok=True)
    for name in present() - set(files):
        (HERE / name).unlink()
    for name, data in files.items():
        (HERE / name).write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description="Write or check the conformance vectors.")
    parser.add_argument("--check", action="store_true", help="compare with the files that are there")
    arguments = parser.parse_args()
    files = all_files()
    if arguments.check:
        sys.exit(0 if check(files) else 1)
    write(files)
    counts = [f"{sum(name.startswith(folder) and name.endswith('.cdna') for name in files)} {folder}"
              for folder in FOLDERS]
    print(", ".join(counts), "files,", sum(map(len, files.values())), "bytes")


if __name__ == "__main__":
    main()
