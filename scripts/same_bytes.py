"""Every build makes the same file from the same input; the first with any number of threads and every instruction set.

    python3 same_bytes.py BUILD_DIR...

Compares the SHA-256 of the sample files that tests/write_sample of each build writes: tensors of all presets. Ends with
"N passed, N failed": each run but the first, which the others are compared with, is a test. What the CPU does not have
(CDNA_CPU is refused with these words) is left out, and said.
"""
import functools
import os
import pathlib
import subprocess
import sys

THREADS = (1, 2, 8)
INSTRUCTION_SETS = ("baseline", "avx2", "avx512")


def combinations(builds):
    """All of the first build; of the others, which may be ten times as slow, each instruction set and number of threads once."""
    for number, build in enumerate(builds):
        for cpu, one_number in zip(INSTRUCTION_SETS, THREADS):
            for threads in THREADS if number == 0 else (one_number,):
                yield build, cpu, threads


@functools.cache
def run(build, cpu, threads):
    program = pathlib.Path(build, "tests/write_sample")
    return subprocess.run([program, "--print-sha256", "--threads", str(threads)], capture_output=True, text=True, check=False,
                          env={**os.environ, "CDNA_CPU": cpu})


def sha256_of_sample(build, cpu, threads):
    done = run(build, cpu, threads)
    words = done.stdout.split()
    return words[0] if done.returncode == 0 and words else f"exit code {done.returncode}: {done.stderr.strip()}"


def is_possible(build, cpu, threads):
    available = f"CDNA_CPU={cpu} is not available" not in run(build, cpu, threads).stderr
    if not available:
        print(f"{build}, {threads} threads: no {cpu} here")
    return available


def main():
    runs = [each for each in combinations(sys.argv[1:]) if is_possible(*each)]
    digests = [sha256_of_sample(*each) for each in runs]
    for (build, cpu, threads), digest in zip(runs, digests):
        print(f"{build}, {cpu}, {threads} threads: {digest}")
    expected = digests[0] if len(digests[0]) == 64 else None
    passed = sum(digest == expected for digest in digests[1:])
    print(f"{passed} passed, {len(digests) - 1 - passed} failed")
    return 0 if passed == len(digests) - 1 else 1


if __name__ == "__main__":
    sys.exit(main())
