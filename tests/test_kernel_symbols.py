"""Tests that kernels leave nothing to the linker: what the objects of a build export and use.

    python3 test_kernel_symbols.py BUILD

A function of a header that is compiled for a newer instruction set could be the copy that the linker keeps for everyone
(kernels/README.md). So every object of a kernel exports tables that a header in kernels/cpu declares for its instruction
set, nothing that another object may replace, and uses nothing but copies and fills of memory. Prints what is wrong and
ends with "N passed, N failed", one test for each library of kernels.
"""
import pathlib
import re
import subprocess
import sys

HEADERS = pathlib.Path(__file__).resolve().parent.parent / "kernels/cpu"
# What compilers make of loops, and what they need for code that can be loaded anywhere.
USED = {"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_"}
# Letters of nm(1). Lower case is local, but for these: unique, weak.
LOCAL = re.compile(r"[a-z]")
REPLACEABLE = re.compile(r"[uvwVWC]")


def symbols_of(library):
    """(name, letter) of every symbol. Works for other machines' objects too."""
    text = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^[\da-f ]{16} (\S) (\S+)$", text, re.MULTILINE)


def declared():
    """Every word in the headers that may be a symbol of a kernel."""
    return {word for header in HEADERS.glob("*.h") for word in re.findall(r"\bcdna_\w+\b", header.read_text("utf-8"))}


def problems_of(library, tables):
    """`library` is libkernel_OPERATION_SET.a."""
    instruction_set = library.stem.rpartition("_")[2]
    exported = []
    for letter, name in symbols_of(library):
        if REPLACEABLE.match(letter):
            yield f"{name} may be replaced by another object's"
        elif letter == "U":
            if name not in USED and name not in tables:
                yield f"{name} is used"
        elif not LOCAL.match(letter):
            exported.append(name)
    for name in exported:
        if name not in tables or not name.endswith("_" + instruction_set):
            yield f"{name} is exported"
    if not exported:
        yield "exports nothing"


def main():
    tables = declared()
    passed = failed = 0
    for library in sorted(pathlib.Path(sys.argv[1], "kernels/cpu").glob("libkernel_*.a")):
        problems = list(problems_of(library, tables))
        for problem in problems:
            print(f"{library.name}: {problem}")
        failed += bool(problems)
        passed += not problems
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
