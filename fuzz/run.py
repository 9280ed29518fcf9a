"""Fuzzes the targets of a build folder that was made with -Dfuzz=true, each for an equal share of the time.

    run.py BUILD [--seconds N] [--jobs J] [--target T]... [--seed S] [--corpus FOLDER] [--findings FOLDER]

--seconds is wall-clock time, over all targets. --corpus keeps what was found to be interesting, FOLDER/TARGET; without it
every run begins with the seeds. Prints for each target the executions, their rate, the coverage that libFuzzer counts
(edges and features) and the size of the corpus; a target without a finding has passed. An input that is a finding is kept
in --findings; the last line is "N passed, N failed".
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Name: longest input, dictionary. The files among the seeds have up to 16 KiB.
TARGETS = {
    "open_repaired": (16640, "cdna.dict"),
    "open_raw": (16640, "cdna.dict"),
    "decode_block": (4096, "cdna.dict"),
    "outliers": (1024, None),
    "import_hxz2": (16640, None),
    "import_hxzc": (16640, None),
    "import_npy": (4096, None),
    "import_npz": (8192, None),
    "import_safetensors": (4096, "safetensors.dict"),
    "import_hxq": (4096, "safetensors.dict"),
    "import_v3": (16640, None),
    "metadata": (2048, "cdna.dict"),
}
# One allocation may be as large as what 256 KiB of codes decode to; the rest is the sanitizer's.
LIMITS = ["-rss_limit_mb=512", "-malloc_limit_mb=64", "-timeout=10"]
ENVIRONMENT = {
    "ASAN_OPTIONS": "quarantine_size_mb=64:detect_stack_use_after_return=1:allow_addr2line=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:allow_addr2line=1",
}
SHOWN = 60                        # lines of a finding's report


def fixed_addresses():
    """The prefix that gives a sanitizer of LLVM 14 the address space that it can work with, where that is allowed."""
    prefix = ["setarch", "-R"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else []


def fuzz(options, target, seed, seconds, corpus, findings):
    """Runs one target; returns (name, exit code, output)."""
    length, dictionary = TARGETS[target]
    corpus.mkdir(parents=True, exist_ok=True)
    folders = [corpus, options.build / "fuzz/seeds" / target, HERE / "corpus" / target]
    command = [*fixed_addresses(), options.build / "fuzz" / target, f"-seed={seed}", f"-max_total_time={seconds}",
               f"-max_len={length}", *LIMITS, "-print_final_stats=1", f"-artifact_prefix={findings}/{target}-",
               *([f"-dict={HERE / dictionary}"] if dictionary else []), *folders]
    done = subprocess.run(list(map(str, command)), env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, timeout=seconds + 600)
    return target, done.returncode, done.stdout.decode("utf-8", errors="replace")


def report(target, code, output):
    """Prints a line; whether the target has passed: it ran, and found nothing."""
    statistics = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", output, re.MULTILINE))
    executed = int(statistics.get("number_of_executed_units", 0))
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", output)
    edges, features, inputs = covered[-1] if covered else (0, 0, 0)
    print(f"{target:20} {executed:10} executions {statistics.get('average_exec_per_sec', 0):>7}/s  cov {edges:>5}  "
          f"ft {features:>6}  corpus {inputs:>5}{'' if code == 0 else '  FINDING'}", flush=True)
    if code == 0 and executed and covered:
        return True
    lines = [line for line in output.splitlines() if not re.match(r"#\d+\s+(NEW|REDUCE|RELOAD|pulse|INITED)", line)]
    print("\n".join(f"    {line}" for line in lines[-SHOWN:]), flush=True)
    return False


def plan(options):
    """(target, seed, seconds) of each process: where there are more jobs than targets, several work on one corpus."""
    copies = max(1, options.jobs // len(options.target))
    seconds = max(1, options.seconds * options.jobs // (len(options.target) * copies))
    return [(target, options.seed + copy, seconds) for copy in range(copies) for target in options.target]


def main():
    parser = argparse.ArgumentParser(description="Fuzzes the targets of a build folder.")
    parser.add_argument("build", type=lambda text: Path(text).resolve())
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--seed", type=int, default=20240117)
    parser.add_argument("--corpus", type=lambda text: Path(text).resolve())
    parser.add_argument("--findings", type=lambda text: Path(text).resolve())
    options = parser.parse_args()
    options.target = options.target or list(TARGETS)
    findings = options.findings or options.build / "fuzz/findings"
    findings.mkdir(parents=True, exist_ok=True)
    runs = plan(options)
    print(f"seed {options.seed}, {len(runs)} runs of {runs[0][2]} s, {options.jobs} at a time", flush=True)
    passed = 0
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        corpora = options.corpus or Path(temporary)
        futures = [pool.submit(fuzz, options, target, seed, seconds, corpora / target, findings)
                   for target, seed, seconds in runs]
        for future in concurrent.futures.as_completed(futures):
            passed += report(*future.result())
    failed = len(runs) - passed
    if failed:
        print(f"findings are in {findings}; run a target on one of them to see it again")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
