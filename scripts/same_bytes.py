"""Every build makes the same file from the same input, with any number of threads and every instruction set.

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


@functools.cache
def run(build, cpu, threads):
    program = pathlib.Path(build, "tests/write_sample")
    return subprocess.run([program, "--print-sha256", "--threads", str(threads)], capture_output=True, text=True, check=False,
                          env={**os.environ, "CDNA_CPU": cpu})


def sha256_of_sample(build, cpu, threads):
    done = run(build, cpu, threads)
    words = done.stdout.split()
    return words[0] if done.returncode == 0 and words else f"exit code {done.returncode}: {done.stderr.strip()}"


def has(build, cpu):
    available = f"CDNA_CPU={cpu} is not available" not in run(build, cpu, THREADS[0]).stderr
    if not available:
        print(f"{build}: no {cpu} here")
    return available


def main():
    runs = [(build, cpu, threads) for build in sys.argv[1:] for cpu in INSTRUCTION_SETS if has(build, cpu) for threads in THREADS]
    digests = [sha256_of_sample(*each) for each in runs]
    for (build, cpu, threads), digest in zip(runs, digests):
        print(f"{build}, {cpu}, {threads} threads: {digest}")
    expected = digests[0] if len(digests[0]) == 64 else None
    passed = sum(digest == expected for digest in digests[1:])
    print(f"{passed} passed, {len(digests) - 1 - passed} failed")
    return 0 if passed == len(digests) - 1 else 1


if __name__ == "__main__":
    sys.exit(main())
