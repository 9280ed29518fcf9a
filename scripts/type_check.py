"""Type-checks all of libcdna with a compiler for another machine, whose libraries need not be there.

    python3 type_check.py COMPILER FOLDER

Warnings are errors, as in every build. The folder gets the C++ that is generated from the format. Ends with
"N passed, N failed", one test for each source file.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# As in meson.build.
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion",
         "-Wno-psabi", "-Werror"]
# The headers of libraries are those of this machine: of Debian's only OpenSSL's differ between machines, by the size of a word.
SYSTEM = ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu"]


def generate_header(folder):
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["flatc", "--cpp", "--gen-mutable", "-o", folder, ROOT / "spec/cdna.fbs"], check=True)


def passes(compiler, folder, source):
    """Whether the source file compiles; prints why not."""
    ours = [ROOT, ROOT / "libcdna/include", folder]
    command = [compiler, *FLAGS, *(f"-I{path}" for path in ours), *SYSTEM, source]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"{source.relative_to(ROOT)}:\n{result.stderr}", flush=True)
    return result.returncode == 0


def main():
    compiler, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    generate_header(folder)
    sources = sorted((ROOT / "libcdna").rglob("*.cpp"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = sum(pool.map(lambda source: passes(compiler, folder, source), sources))
    print(f"{passed} passed, {len(sources) - passed} failed")
    return 0 if sources and passed == len(sources) else 1


if __name__ == "__main__":
    sys.exit(main())
