"""Checks what no compiler checks: who includes whom, the shape of source files, and that every rule of the format is there.

    python3 tidy.py

Prints what is wrong and ends with "N passed, N failed", one test for each check. Needs nothing but Python.
"""
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES_MAX, COLUMNS_MAX = 600, 160
TEST_LINES_MAX = 1200  # A test program is a list of cases.
CPP = {".hpp", ".cpp", ".h", ".c", ".cu", ".cuh"}
SOURCE = CPP | {".py", ".sh", ".fbs"}
SCRIPTS = ("quickstart", "check", "check-arm64", "check-long", "check-torch", ".ci/run")
LONG_ON_PURPOSE = {
    "spec/reference/cdna_reference.py": "one file, so that it can be read and copied beside the specification",
    "spec/vectors/bad_cases.py": "a table with an entry for each vector",
    "bindings/c/cdna.h": "one header is what programs include and what generators of bindings read",
}
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def text_files():
    """Every text file of the project (not what was built, nor the bytes of test vectors), as (path from the root, text)."""
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT)
        if name.parts[0] == ".git" or name.parts[0].startswith("build") or "__pycache__" in name.parts or not path.is_file():
            continue
        try:
            yield name, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


FILES = dict(text_files())


def is_source(path):
    return path.suffix in SOURCE or str(path) in SCRIPTS


def includes():
    """Yields (file, bracket, what it includes)."""
    for path, text in FILES.items():
        if path.suffix in CPP:
            for bracket, name in INCLUDE.findall(text):
                yield path, bracket, name


def first_line_says_what_for():
    for path, text in FILES.items():
        if is_source(path) and not text.startswith(("//", "#!", "# ", "#\n", '"""', "/*")):
            yield f"{path}: the first line is no comment"


def files_are_short():
    for path, text in FILES.items():
        most = TEST_LINES_MAX if path.parts[0] == "tests" else LINES_MAX
        if is_source(path) and text.count("\n") > most and str(path) not in LONG_ON_PURPOSE:
            yield f"{path}: {text.count(chr(10))} lines, at most {most}"


def lines_are_short():
    for path, text in FILES.items():
        if is_source(path) or path.name.startswith("meson"):
            for number, line in enumerate(text.splitlines(), 1):
                if len(line) > COLUMNS_MAX:
                    yield f"{path}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"


def nothing_is_left_unfinished():
    for path, text in FILES.items():
        for number, line in enumerate(text.splitlines(), 1):
            if UNFINISHED.search(line):
                yield f"{path}:{number}: {line.strip()}"


def names_are_nouns():
    for path in FILES:
        if is_source(path) and VAGUE_NAMES & set(re.split(r"[_.-]", path.name)):
            yield f"{path}: a name that says nothing"


def public_headers_stand_alone():
    """The public headers include each other, the standard library and POSIX types only."""
    for path, bracket, name in includes():
        if path.is_relative_to("libcdna/include"):
            if not (name.startswith("cdna/") if bracket == '"' else re.fullmatch(r"\w+|sys/\w+\.h", name)):
                yield f"{path} includes {name}"


def library_includes_no_tools():
    for path, _, name in includes():
        if path.is_relative_to("libcdna") and name.startswith(("tools/", "tests/", "examples/", "fuzz/", "bindings/", "../")):
            yield f"{path} includes {name}"


def importers_keep_apart():
    """Other formats yield tensors: they never see the writer or the container, and nothing else sees them or a JSON parser.
    Conversion is a client of the library's public headers, and writes GGUF by what reads it; nothing in the library sees it."""
    for path, _, name in includes():
        inside = path.is_relative_to("libcdna/import")
        converts = path.is_relative_to("libcdna/convert")
        if converts and re.match(r"libcdna/(?!convert/|import/gguf/|format/float_bits\.hpp|no_throw\.hpp|try\.hpp)", name):
            yield f"{path} includes {name}"
        if not converts and path.is_relative_to("libcdna") and name.startswith("libcdna/convert/"):
            yield f"{path} includes {name}"
        if inside and re.match(r"libcdna/(?!import/|io/|hash/sha256\.hpp|encode/planes\.hpp|format/(?:float_bits|geometry|utf8)\.hpp|"
                               r"no_throw\.hpp|try\.hpp)", name):
            yield f"{path} includes {name}"
        exports = converts and name.startswith("libcdna/import/gguf/")
        if not inside and not exports and path.is_relative_to("libcdna") and name.startswith("libcdna/import/"):
            yield f"{path} includes {name}"
        if not inside and not converts and path.is_relative_to("libcdna") and name.startswith("nlohmann/"):
            yield f"{path} includes {name}"


def clients_use_public_headers():
    """Tools, examples and bindings include cdna/*.hpp and files of their own folder. Bindings may return errors as the library does."""
    for path, bracket, name in includes():
        folder = path.parts[0]
        if folder not in ("tools", "examples", "bindings"):
            continue
        own = name.startswith(folder + "/") or (bracket == '"' and "/" not in name)
        if folder == "bindings" and name in ("libcdna/try.hpp", "libcdna/no_throw.hpp"):
            continue
        if name.startswith(("libcdna/", "kernels/", "../")) or (bracket == '"' and not own and not name.startswith("cdna/")):
            yield f"{path} includes {name}"


def kernels_stand_alone():
    """Those for CUDA include each other by paths of their own, so that the folder can be built where it is copied to."""
    for path, bracket, name in includes():
        if path.parts[0] != "kernels":
            continue
        beside = path.is_relative_to("kernels/cuda") and pathlib.Path(os.path.normpath(path.parent / name)) in FILES
        if name.startswith("cdna/") or bracket == '"' and not (beside or name.startswith("kernels/")):
            yield f"{path} includes {name}"


def rules():
    """The identifiers of the rule index of the format: "T1–T14" is fourteen."""
    index = FILES[pathlib.Path("spec/format.md")].split("Rule index\n")[-1]
    for letter, first, last in re.findall(r"([A-Z])(\d+)(?:–[A-Z](\d+))?", index):
        for number in range(int(first), int(last or first) + 1):
            yield f"{letter}{number}"


def rules_are_in_the_library():
    library = "\n".join(text for path, text in FILES.items() if path.is_relative_to("libcdna"))
    words = set(re.findall(r"\b[A-Z]\d+\b", library))
    for rule in rules():
        if rule not in words:
            yield f"{rule} does not occur in libcdna/"


def rules_are_tested():
    """A rule is the one that a vector states as its outcome, or stands in the name of a test case."""
    tested = set()
    for path, text in FILES.items():
        if path.is_relative_to("spec/vectors") and path.suffix == ".json":
            tested.update(re.findall(r'"rule":\s*"([A-Z]\d+)"', text))
        if path.is_relative_to("tests") and path.suffix == ".cpp":
            for name in re.findall(r'TEST_CASE\(\s*"([^"]*)"', text):
                tested.update(re.findall(r"\b[A-Z]\d+\b", name))
    for rule in rules():
        if rule not in tested:
            yield f"{rule} has neither a vector nor a test case with its name"


def test_programs_are_built():
    meson_build = FILES[pathlib.Path("tests/meson.build")]
    for path in FILES:
        if path.match("tests/*_test.cpp") and f"'{path.stem.removesuffix('_test')}'" not in meson_build:
            yield f"{path} is not in tests/meson.build"


CHECKS = (first_line_says_what_for, files_are_short, lines_are_short, nothing_is_left_unfinished, names_are_nouns,
          public_headers_stand_alone, library_includes_no_tools, importers_keep_apart, clients_use_public_headers,
          kernels_stand_alone, rules_are_in_the_library, rules_are_tested, test_programs_are_built)


def main():
    failed = 0
    for check in CHECKS:
        problems = list(check())
        failed += bool(problems)
        for problem in problems:
            print(f"{check.__name__}: {problem}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
