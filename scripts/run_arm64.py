"""Builds the kernels and their tests for arm64, runs them under QEMU, and type-checks the rest of the library.

    python3 run_arm64.py [--jobs N]

What ./check-arm64 calls after its set-up. All output is in build/check-arm64-logs.
"""
import argparse
import os
import pathlib
import sys

import suite
from suite import Suite

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
BUILD = "build/check-arm64"
NOT_COVERED = """Not covered: anything but kernels runs here. What needs libraries of arm64 (libcrypto, libzstd, libbrotli) is type-checked, not
linked: container, codecs, importers and tools are as untested on arm64 as SHA-256 (OpenSSL's there). Kernels for arm64 are the
baseline alone. QEMU shows what a program computes, not how a CPU orders its memory accesses, nor how fast anything is.
"""


def suites():
    # Release, as users get it: what is vectorised is what is tested.
    yield Suite("build arm64", ["scripts/build.sh", BUILD, "--cross-file", "scripts/arm64.ini", "-Dbuildtype=release",
                                "-Dkernels_only=true"], suite.no_test)
    yield Suite("kernels under QEMU", ["meson", "test", "-C", BUILD, "--no-rebuild", "--timeout-multiplier", "3",
                                       "--print-errorlogs"], suite.meson(ROOT / BUILD), needs=("build arm64",))
    yield Suite("tests/test_kernel_symbols.py", [PYTHON, "tests/test_kernel_symbols.py", BUILD], suite.stated,
                needs=("build arm64",))
    yield Suite("types of libcdna", [PYTHON, "scripts/type_check.py", "aarch64-linux-gnu-g++", BUILD + "/generated"],
                suite.stated, after=("build arm64",))


def main():
    parser = argparse.ArgumentParser(description="Builds and tests the kernels for arm64.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many suites may run at a time")
    options = parser.parse_args()
    print(NOT_COVERED)
    return suite.run_all(list(suites()), ROOT, ROOT / "build/check-arm64-logs", options.jobs)


if __name__ == "__main__":
    sys.exit(main())
