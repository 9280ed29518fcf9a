"""Every build makes the same file from the same input, with any number of threads.

    python3 same_bytes.py BUILD_DIR...

Compares the SHA-256 of the sample files that tests/write_sample of each build writes. Ends with "N passed, N failed": each
run but the first, which the others are compared with, is a test.
"""
import pathlib
import subprocess
import sys

THREADS = (1, 2, 8)


def sha256_of_sample(build, threads):
    program = pathlib.Path(build, "tests/write_sample")
    done = subprocess.run([program, "--print-sha256", "--threads", str(threads)], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return words[0] if done.returncode == 0 and words else f"exit code {done.returncode}: {done.stderr.strip()}"


def main():
    runs = [(build, threads, sha256_of_sample(build, threads)) for build in sys.argv[1:] for threads in THREADS]
    for build, threads, digest in runs:
        print(f"{build}, {threads} threads: {digest}")
    expected = runs[0][2] if len(runs[0][2]) == 64 else None
    passed = sum(digest == expected for _, _, digest in runs[1:])
    print(f"{passed} passed, {len(runs) - 1 - passed} failed")
    return 0 if passed == len(runs) - 1 else 1


if __name__ == "__main__":
    sys.exit(main())
