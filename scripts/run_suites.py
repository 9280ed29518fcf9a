"""Builds three times and runs every test suite; independent steps run at the same time. What ./check calls after its set-up.

    python3 run_suites.py [--list] [--jobs N]

Prints one line for each suite as it ends, the end of the log of each that failed, and last "N passed, N failed" over all.
All output is in build/check-logs. A suite that is missing, prints no count, crashes or runs out of time has failed.
"""
import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build/check-logs"
PYTHON = "/usr/bin/python3"
VENV_PYTHON = "build/venv/bin/python"
FAILED_LINES_MAX = 40
SUITE_SECONDS_MAX = 900

# Folder, compiler, meson options, what to build (nothing: all).
# -O1: the sanitized tests are then fast enough, and compile twice as fast as with -O2.
SANITIZED = ["-Dbuildtype=debugoptimized", "-Doptimization=1", "-Db_lundef=false",
             "-Dcpp_args=-fno-sanitize-recover=all"]
BUILDS = {
    "release": ("build/check-release", "g++", ["-Dbuildtype=release"], []),
    "asan": ("build/check-asan", "clang++-14", [*SANITIZED, "-Db_sanitize=address,undefined"], []),
    "tsan": ("build/check-tsan", "clang++-14", [*SANITIZED, "-Db_sanitize=thread"], ["tests/concurrency_test"]),
}
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:allow_addr2line=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:allow_addr2line=1",
    "TSAN_OPTIONS": "halt_on_error=1:allow_addr2line=1",
}


@dataclasses.dataclass
class Suite:
    """One line of the result. `count` turns (exit code, output) into (passed, failed)."""
    name: str
    command: list
    needs: tuple = ()          # Names of the suites that have to have ended well before this one.
    count: object = None
    environment: dict = dataclasses.field(default_factory=dict)
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def log(self):
        return LOGS / (re.sub(r"[^\w.-]+", "-", self.name) + ".log")


def count_stated(code, output):
    """A script that ends with "N passed, N failed", or a run of unittest. A skipped test has not passed."""
    stated = re.findall(r"^(\d+) passed, (\d+) failed$", output, re.MULTILINE)
    if stated:
        passed, failed = map(int, stated[-1])
        return passed, failed or int(code != 0)
    ran = re.findall(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    if ran:
        bad = sum(int(number) for number in re.findall(r"(?:failures|errors|skipped|unexpected successes)=(\d+)", output))
        return max(0, int(ran[-1]) - bad), bad or int(code != 0)
    return 0, 1


def count_code(code, _):
    """A check with one outcome."""
    return int(code == 0), int(code != 0)


def count_build(code, _):
    """A build is no test, but its failure is one."""
    return 0, int(code != 0)


def count_meson(folder):
    """The test cases of Catch2 in the test programs of a build folder; another program is one test."""
    def count(code, _):
        passed = failed = 0
        path = ROOT / folder / "meson-logs/testlog.json"
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            test = json.loads(line)
            good, bad = count_catch2(test.get("stdout") or "", test["result"] == "OK")
            print(f"{test['name']}: {test['result']}, {good} passed, {bad} failed, {test['duration']:.1f} s")
            passed, failed = passed + good, failed + bad
        return passed, failed or int(code != 0 or not passed)
    return count


def count_catch2(output, succeeded):
    all_passed = re.search(r"^All tests passed \(.* in (\d+) test cases?\)", output, re.MULTILINE)
    if all_passed and succeeded:
        return int(all_passed[1]), 0
    some = re.search(r"^test cases: *(\d+)(?: \| *(\d+) passed)?(?: \| *(\d+) failed)?", output, re.MULTILINE)
    if some:
        return int(some[2] or 0), int(some[3] or 0) or int(not succeeded)
    stated = re.findall(r"^(\d+) passed, (\d+) failed$", output, re.MULTILINE)
    if stated:
        return int(stated[-1][0]), int(stated[-1][1]) or int(not succeeded)
    return int(succeeded), int(not succeeded)


def builds():
    previous = ()
    for name, (folder, compiler, options, targets) in BUILDS.items():
        yield Suite(f"build {name}", ["scripts/build.sh", folder, *options, "--", *targets], after=previous, count=count_build,
                    environment={"CXX": compiler})
        previous = (f"build {name}",)


def meson_suite(name, build, *tests):
    folder = BUILDS[build][0]
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", "--timeout-multiplier", "3", *tests]
    if build != "release":
        command = [*without_randomized_addresses(), *command]
    return Suite(name, command, needs=(f"build {build}",), count=count_meson(folder), environment=SANITIZER_OPTIONS)


def without_randomized_addresses():
    """The prefix that gives a sanitizer of LLVM 14 the address space it can work with, where it is allowed."""
    prefix = ["setarch", "-R"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else []


def run(suite):
    """Runs a suite, with its output in its log."""
    begin = time.monotonic()
    with open(suite.log, "wb") as log:
        process = subprocess.Popen(suite.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   env={**os.environ, **suite.environment}, start_new_session=True)
        RUNNING.add(process)
        try:
            code = process.wait(SUITE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            suite.note = f"stopped after {SUITE_SECONDS_MAX} s"
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        finally:
            RUNNING.discard(process)
    output = suite.log.read_text("utf-8", errors="replace")
    suite.passed, suite.failed = suite.count(code, output)
    suite.seconds = time.monotonic() - begin
