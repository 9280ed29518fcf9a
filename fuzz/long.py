"""Fuzzes for long and tells what the inputs found reach: what ./check-long calls after its set-up.

    long.py [--seconds N] [--jobs J] [--target T]... [--seed S]

Builds the fuzz targets as ./check does, fuzzes (by default one hour on all cores) with a corpus that is kept in
build/fuzz-corpus, compares 200,000 mutated files with the reference decoder, and replays the corpus in a build that counts
covered lines. Ends with "N passed, N failed"; findings are in build/fuzz-findings.
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "fuzz")]
import run
import run_suites

CORPUS, FINDINGS = ROOT / "build/fuzz-corpus", ROOT / "build/fuzz-findings"
COVERAGE = ROOT / "build/check-coverage"
COVERAGE_OPTIONS = ["-Dbuildtype=debugoptimized", "-Doptimization=0", "-Dtools=false",
                    "-Dcpp_args=-fprofile-instr-generate -fcoverage-mapping",
                    "-Dcpp_link_args=-fprofile-instr-generate"]
DIFFERENTIAL_COUNT = 200_000
LLVM = "-14"


def build(folder, compiler, options, targets):
    command = [ROOT / "scripts/build.sh", folder, *options, "--", *targets]
    log = ROOT / "build/check-long.log"
    with open(log, "ab") as stream:
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env={**os.environ, "CXX": compiler}, stdout=stream,
                              stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{folder} does not build, see {log}\n0 passed, 1 failed")


def counted(command):
    """Runs a script that ends with "N passed, N failed"; returns the two numbers."""
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    counts = (0, 1)
    for line in process.stdout:
        found = re.fullmatch(r"(\d+) passed, (\d+) failed\s*", line)
        if found:
            counts = tuple(map(int, found.groups()))
        else:
            print(line, end="", flush=True)
    if process.wait() != 0 and counts[1] == 0:
        counts = (counts[0], 1)
    return counts


def replay(target):
    """The profile of a target on its seeds, its corpus and what once was a finding."""
    profile = COVERAGE / f"{target}.profraw"
    folders = [COVERAGE / "fuzz/seeds" / target, CORPUS / target, ROOT / "fuzz/corpus" / target]
    command = [COVERAGE / "fuzz" / target, *(folder for folder in folders if folder.is_dir())]
    done = subprocess.run(list(map(str, command)), env={**os.environ, "LLVM_PROFILE_FILE": str(profile)},
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{target} ended with {done.returncode} on its corpus\n0 passed, 1 failed")
    return profile


def print_coverage(targets):
    build(COVERAGE, "clang++" + LLVM, COVERAGE_OPTIONS, [*(f"fuzz/{target}" for target in targets), "fuzz/seeds.stamp"])
    merged = COVERAGE / "all.profdata"
    subprocess.run(["llvm-profdata" + LLVM, "merge", "-sparse", "-o", merged, *map(replay, targets)], check=True)
    programs = [str(COVERAGE / "fuzz" / target) for target in targets]
    objects = [programs[0], *(f"-object={program}" for program in programs[1:])]
    report = subprocess.run(["llvm-cov" + LLVM, "report", *objects, f"-instr-profile={merged}",
                             "-show-region-summary=false", "-show-branch-summary=false", str(ROOT / "libcdna")],
                            capture_output=True, text=True, check=True).stdout
    for line in report.splitlines():
        columns = line.split()
        if len(columns) == 7 and columns[0] != "Filename":
            print(f"{columns[0].removeprefix('../../'):44} {columns[4]:>6} lines {columns[6]:>8}")


def main():
    parser = argparse.ArgumentParser(description="Fuzzes for long and prints executions and line coverage.")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--target", action="append", choices=run.TARGETS)
    parser.add_argument("--seed", type=int, default=20240117)
    options = parser.parse_args()
    targets = options.target or list(run.TARGETS)
    folder, compiler, meson_options, _ = run_suites.BUILDS["asan"]
    build(folder, compiler, meson_options, [*(f"fuzz/{target}" for target in targets), "fuzz/seeds.stamp"])
    folder_release, compiler, meson_options, _ = run_suites.BUILDS["release"]
    build(folder_release, compiler, meson_options, ["fuzz/mutate_pool"])
    chosen = [word for target in targets for word in ("--target", target)]
    results = [counted([run_suites.PYTHON, "fuzz/run.py", folder, "--seconds", options.seconds, "--jobs", options.jobs,
                        "--seed", options.seed, "--corpus", CORPUS, "--findings", FINDINGS, *chosen]),
               counted([run_suites.PYTHON, "fuzz/differential.py", f"{folder_release}/fuzz/mutate_pool", "--count",
                        DIFFERENTIAL_COUNT, "--jobs", options.jobs, "--seed", options.seed + 10**6, "--keep", FINDINGS])]
    print_coverage(targets)
    passed, failed = map(sum, zip(*results))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
