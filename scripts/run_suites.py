"""Builds the project three times and runs every test suite; independent steps run at the same time.

    python3 run_suites.py [--jobs N]

What ./check calls after its set-up. Prints a line for each suite as it ends, the end of the log of those that failed, and
last "N passed, N failed" over all. All output is in build/check-logs. A suite that is missing, states no count, crashes or
runs out of time has failed.
"""
import argparse
import os
import pathlib
import subprocess
import sys

import suite
from suite import Suite

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build/check-logs"
PYTHON = "/usr/bin/python3"
VENV_PYTHON = "build/venv/bin/python"
# With Debian's NumPy 1.24 and torch 1.13; the other has today's NumPy and no torch.
DEBIAN_VENV = "build/venv-debian"
EMULATED_CUDA_LIBRARY = "tests/cuda/libcdna_cuda_emulated.so"

# -O1: optimized enough for the tests, and compiled in half the time of -O2; lines are all that reports need to know. The
# tools are tested as users get them.
SANITIZED = ["-Dbuildtype=debugoptimized", "-Doptimization=1", "-Db_lundef=false", "-Dtools=false",
             "-Dcpp_args=-fno-sanitize-recover=all -gline-tables-only", "-Dcuda=disabled", "-Ddefault_library=shared"]
GCC = {"CC": "gcc", "CXX": "g++"}
# lld links a program with sanitizers in a quarter of the time.
CLANG = {"CC": "clang-14", "CXX": "clang++-14", "CC_LD": "lld", "CXX_LD": "lld"}
# Name: folder, compilers, meson options, what to build (nothing: all).
BUILDS = {
    # Kernels for GPUs are compiled by kernels/cuda/resources.py, and run on an emulated device.
    "release": ("build/check-release", GCC, ["-Dbuildtype=release", "-Dcuda=disabled", "-Ddefault_library=both"], []),
    "asan": ("build/check-asan", CLANG, [*SANITIZED, "-Db_sanitize=address,undefined", "-Dfuzz=true"], []),
    # Without asserts: what a hostile file gets is decided by checks that stay in every build.
    "tsan": ("build/check-tsan", CLANG, [*SANITIZED, "-Db_sanitize=thread", "-Db_ndebug=true"],
             ["tests/c/c_tensor_test", "tests/concurrency_test", "tests/conformance_test", "tests/hostile_test", "tests/hostile.stamp",
              "tests/matmul_determinism_test", "tests/sha256_test"]),
}
SANITIZED_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:allow_addr2line=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:allow_addr2line=1",
    "TSAN_OPTIONS": "halt_on_error=1:allow_addr2line=1",
    # The release build flips every bit; under sanitizers, which are ten times as slow, every 41st is looked at for memory errors.
    "CDNA_TEST_STRIDE": "41",
}
# Those that are found and not in this list run as well.
REQUIRED_SCRIPTS = {"tests/cli/test_tools.py", "tests/python/test_safetensors_roundtrip.py"}


def builds():
    """One after the other: each uses all cores."""
    previous = ()
    for name, (folder, compilers, options, targets) in BUILDS.items():
        yield Suite(f"build {name}", ["scripts/build.sh", folder, *options, "--", *targets], suite.no_test, after=previous,
                    environment=compilers)
        previous = (f"build {name}",)
        if name == "release":
            yield wheel()
            previous = ("Python wheel",)


def wheel():
    """The Python package out of the release build, whose objects and tools it takes: what is compiled is the extension module."""
    folder, compilers, options, _ = BUILDS["release"]
    # As the folder is configured; the package's own defaults (pyproject.toml) are others.
    kept = ["-Db_ndebug=false", "-Dwerror=true", "-Dtests=true", f"-Dpython_path={ROOT / VENV_PYTHON}"]
    command = [VENV_PYTHON, "scripts/build_wheel.py", folder, "--install", "build/venv", "--install", DEBIAN_VENV, *options, *kept]
    return Suite("Python wheel", command, suite.no_test, needs=("build release", "Python packages", "Python packages, Debian's"),
                 environment=compilers)


def package():
    """The tests of the Python package in both environments, its types, and a build with today's Meson."""
    ready = {"needs": ("Python wheel",), "environment": {
        "PYTHONDONTWRITEBYTECODE": "1", "CDNA_TEST_CUDA_LIBRARY": str(ROOT / BUILDS["release"][0] / EMULATED_CUDA_LIBRARY)}}
    for name, python, may_skip in (
            ("today's NumPy", VENV_PYTHON, "could not import 'torch'|torch is not installed"),
            ("NumPy 1.24, torch 1.13", f"{DEBIAN_VENV}/bin/python", "has no custom operators")):
        yield Suite(f"tests/python/package: {name}", [python, "scripts/run_pytest.py", "--may-skip", may_skip, "tests/python/package"],
                    suite.stated, **ready)
    # Without torch its types are unknown, and with them those of cdna.torch, which nothing else imports.
    mypy = [VENV_PYTHON, "-m", "mypy", "--strict", "-m", "cdna", "-m", "cdna.numpy", "-m", "cdna.__main__"]
    stubtest = [VENV_PYTHON, "-m", "mypy.stubtest", "--mypy-config-file", "pyproject.toml", "--allowlist",
                "tests/python/package/stubtest.allowlist", "cdna._core"]
    for name, command in (("mypy --strict", mypy), ("stubtest", stubtest)):
        yield Suite(name, command, suite.one_test, needs=("Python wheel",))
    yield Suite("scripts/todays_meson.sh", ["scripts/todays_meson.sh"], suite.one_test, needs=("Python packages",), after=("build tsan",))


def fixed_addresses():
    """The prefix that gives a sanitizer of LLVM 14 the address space that it can work with, where that is allowed."""
    prefix = ["setarch", "-R"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else []


def programs(build, *names):
    """The tests of a build folder, all or those of these names."""
    folder = BUILDS[build][0]
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--timeout-multiplier", "3", "--print-errorlogs", *names]
    prefix, environment = ([], {}) if build == "release" else (fixed_addresses(), SANITIZED_ENVIRONMENT)
    # The wheel configures the release folder again.
    after = ("Python wheel",) if build == "release" else ()
    return Suite(f"{build}: test programs", prefix + command, suite.meson(ROOT / folder), needs=(f"build {build}",),
                 after=after, environment=environment)


def script(path, *arguments, python=PYTHON, **more):
    """A Python script that states its counts."""
    name = " ".join([path, *(pathlib.Path(argument).name for argument in arguments)])
    return Suite(name, [python, path, *arguments], suite.stated, **more)


def test_scripts():
    """Scripts named test_*.py take a build folder. Any other script of the tests has to be run by a meson.build there."""
    meson_build = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("meson.build"))
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    for path in sorted(found | REQUIRED_SCRIPTS):
        if pathlib.Path(path).match("python/test_*.py"):
            yield script(path, BUILDS["release"][0], python=VENV_PYTHON, needs=("build release", "Python packages"),
                         after=("Python wheel",))
        elif pathlib.Path(path).match("test_*.py"):
            yield script(path, BUILDS["release"][0], needs=("build release",), after=("Python wheel",))
        elif "if __name__ ==" in (ROOT / path).read_text("utf-8") and f"{pathlib.Path(path).name}'" not in meson_build:
            yield Suite(path, ["false"], suite.one_test, note="nothing runs this script")


def suites():
    yield Suite("Python packages", ["scripts/install_python.sh"], suite.no_test)
    # One at a time: both ask PyPI, with one log.
    yield Suite("Python packages, Debian's", ["scripts/install_python.sh", "scripts/check-debian.requirements.txt", DEBIAN_VENV,
                                              "--system-site-packages"], suite.no_test, after=("Python packages",))
    yield from builds()
    yield script("scripts/tidy.py")
    # Behind the builds, which use all cores; without nvcc it compiles nothing and says so.
    yield script("kernels/cuda/resources.py", after=tuple(f"build {name}" for name in BUILDS))
    yield script("spec/reference/test_reference.py")
    yield script("spec/reference/conform.py", *(f"spec/vectors/{folder}" for folder in ("good", "bad", "recover")))
    yield Suite("spec/vectors/make_vectors.py --check", [PYTHON, "spec/vectors/make_vectors.py", "--check"], suite.one_test)
    yield programs("release")
    yield from test_scripts()
    yield from package()
    yield programs("asan")
    yield programs("tsan", "c_tensor", "concurrency", "conformance", "hostile", "matmul_determinism", "sha256")
    # The seeds are replayed by the test programs of both builds; this looks for new inputs, 8 s for each target.
    yield script("fuzz/run.py", BUILDS["asan"][0], "--seconds", "48", "--jobs", "1", needs=("build asan",))
    yield script("scripts/same_bytes.py", *(BUILDS[build][0] for build in ("release", "asan")),
                 needs=("build release", "build asan"))


def main():
    parser = argparse.ArgumentParser(description="Builds the project three times and runs every test suite.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many suites may run at a time")
    options = parser.parse_args()
    return suite.run_all(list(suites()), ROOT, LOGS, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
