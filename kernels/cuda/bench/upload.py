#!/usr/bin/env python3
"""Times uploads of a file from a warm page cache, verified, against pinned copies and against hashing.

    python3 kernels/cuda/bench/upload.py --library build/libcdna_cuda/libcdna_cuda.so --file model.cdna [--fsck TOOL]

The only part of the benchmark that needs more than nvcc: libcdna_cuda (bindings/c/cdna_cuda.h) and a file. What an
upload can reach is the slower of copying from pinned memory, measured here, and hashing: cdna-fsck, which verifies all
digests of the file, if it is given, else what the library itself says of its reading and verifying. The goal is 80 %.

Exit codes: 0 measured; 1 failed; 2 wrong arguments; 77 no library, no CUDA runtime or no device that could be used.
"""
import argparse
import ctypes
import ctypes.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

SKIP = 77
GOAL = 0.80
PINNED_BYTES = 256 << 20
STAGES = ("reading and verifying", "filling pinned buffers", "copying", "bringing in order")


class Options(ctypes.Structure):
    """cdna_cuda_upload_options"""
    _fields_ = [("struct_size", ctypes.c_uint32), ("device", ctypes.c_int32), ("stream", ctypes.c_void_p),
                ("row_begin", ctypes.c_uint64), ("row_end", ctypes.c_uint64), ("shard_index", ctypes.c_uint32),
                ("shard_count", ctypes.c_uint32), ("pinned_bytes", ctypes.c_uint64), ("device_bytes_max", ctypes.c_uint64),
                ("threads", ctypes.c_uint32), ("trust", ctypes.c_uint32), ("expected_root", ctypes.c_void_p),
                ("progress", ctypes.c_void_p), ("progress_context", ctypes.c_void_p)]


class Stage(ctypes.Structure):
    """cdna_cuda_stage"""
    _fields_ = [("bytes", ctypes.c_uint64), ("seconds", ctypes.c_double), ("gigabytes_per_second", ctypes.c_double)]


class Report(ctypes.Structure):
    """cdna_cuda_upload_report"""
    _fields_ = [("struct_size", ctypes.c_uint32), ("bottleneck", ctypes.c_uint32), ("threads", ctypes.c_uint32),
                ("reserved", ctypes.c_uint32), ("seconds", ctypes.c_double), ("device_bytes", ctypes.c_uint64),
                ("device_bytes_peak", ctypes.c_uint64), ("pinned_bytes", ctypes.c_uint64), ("stages", Stage * 4)]


class Error(ctypes.Structure):
    """cdna_cuda_error"""
    _fields_ = [("code", ctypes.c_int32), ("os_errno", ctypes.c_int32), ("cuda_error", ctypes.c_int32),
                ("plane", ctypes.c_int32), ("block", ctypes.c_int64), ("offset", ctypes.c_uint64), ("rule", ctypes.c_char * 8),
                ("tensor", ctypes.c_char * 256), ("message", ctypes.c_char * 256)]

    def text(self):
        return " ".join(part.decode("utf-8", "replace") for part in (self.tensor, self.message) if part)


class Failure(Exception):
    """A call that failed, in words."""


def load_runtime():
    """The CUDA runtime as a library, or None."""
    for name in (ctypes.util.find_library("cudart"), "/usr/local/cuda/lib64/libcudart.so"):
        try:
            if name:
                return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def require(code, what):
    if code:
        raise Failure(f"{what}: CUDA error {code}")


def pinned_copy_rate(runtime):
    """Bytes per second from pinned memory to the device, the median of ten copies."""
    host, device = ctypes.c_void_p(), ctypes.c_void_p()
    require(runtime.cudaMallocHost(ctypes.byref(host), ctypes.c_size_t(PINNED_BYTES)), "pinned memory")
    require(runtime.cudaMalloc(ctypes.byref(device), ctypes.c_size_t(PINNED_BYTES)), "device memory")
    ctypes.memset(host, 0x5A, PINNED_BYTES)
    times = []
    for _ in range(11):
        begin = time.perf_counter()
        require(runtime.cudaMemcpy(device, host, ctypes.c_size_t(PINNED_BYTES), 1), "copying")
        require(runtime.cudaDeviceSynchronize(), "copying")
        times.append(time.perf_counter() - begin)
    runtime.cudaFree(device)
    runtime.cudaFreeHost(host)
    return PINNED_BYTES / statistics.median(times[1:])


def upload(library, path, options):
    """(seconds by this clock, report) of one upload, which is given back."""
    model, error, report = ctypes.c_void_p(), Error(), Report(struct_size=ctypes.sizeof(Report))
    begin = time.perf_counter()
    if library.cdna_cuda_upload(str(path).encode(), None, ctypes.byref(options), ctypes.byref(model), ctypes.byref(error)):
        raise Failure(f"upload: {error.text()}")
    seconds = time.perf_counter() - begin
    code = library.cdna_cuda_report(model, ctypes.byref(report), ctypes.byref(error))
    library.cdna_cuda_free(model)
    if code:
        raise Failure(f"report: {error.text()}")
    return seconds, report


def verify_rate(fsck, path, threads):
    """Bytes per second of cdna-fsck, which reads and hashes every block: the best of three."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([fsck, "--threads", str(threads), path], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begin)
    return path.stat().st_size / min(times)


def warm(path):
    """Brings the file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(64 << 20):
            pass


def measure(library, runtime, arguments):
    options = Options(struct_size=ctypes.sizeof(Options), threads=arguments.threads, pinned_bytes=arguments.pinned_bytes)
    warm(arguments.file)
    upload(library, arguments.file, options)  # Code is loaded at its first launch.
    runs = sorted((upload(library, arguments.file, options) for _ in range(arguments.repeats)), key=lambda run: run[0])
    seconds, report = runs[len(runs) // 2]
    stages = {name: {"bytes": stage.bytes, "seconds": stage.seconds, "gb_s": stage.gigabytes_per_second}
              for name, stage in zip(STAGES, report.stages)}
    rate = report.stages[0].bytes / seconds * 1e-9
    pinned = pinned_copy_rate(runtime) * 1e-9
    hashing = stages[STAGES[0]]["gb_s"]
    if arguments.fsck:
        hashing = verify_rate(arguments.fsck, arguments.file, arguments.threads) * 1e-9
    return {"file_bytes": arguments.file.stat().st_size, "seconds": seconds, "seconds_fastest": runs[0][0],
            "seconds_slowest": runs[-1][0], "gb_s": rate, "pinned_gb_s": pinned, "hash_gb_s": hashing, "stages": stages,
            "hash_from": "cdna-fsck" if arguments.fsck else "the upload's own reading", "threads": report.threads,
            "bottleneck": STAGES[report.bottleneck], "part": rate / min(pinned, hashing),
            "device_bytes_peak": report.device_bytes_peak, "pinned_bytes": report.pinned_bytes}


def show(result):
    print(f"{result['file_bytes'] * 1e-9:.2f} GB in {result['seconds']:.3f} s ({result['seconds_fastest']:.3f} to"
          f" {result['seconds_slowest']:.3f}): {result['gb_s']:.2f} GB/s, {result['threads']} threads")
    for name, stage in result["stages"].items():
        print(f"  {name}: {stage['bytes'] * 1e-9:.2f} GB, {stage['gb_s']:.2f} GB/s")
    print(f"  bottleneck: {result['bottleneck']}")
    print(f"pinned copies {result['pinned_gb_s']:.2f} GB/s, hashing ({result['hash_from']}) {result['hash_gb_s']:.2f} GB/s")
    print(f"{100 * result['part']:.0f} % of the slower; goal {100 * GOAL:.0f} %: {'met' if result['part'] >= GOAL else 'missed'}")


def main():
    parser = argparse.ArgumentParser(description="Times uploads from a warm page cache.")
    parser.add_argument("--library", type=pathlib.Path, required=True, help="libcdna_cuda.so")
    parser.add_argument("--file", type=pathlib.Path, required=True, help="a .cdna file, best of some gigabytes")
    parser.add_argument("--fsck", type=pathlib.Path, help="cdna-fsck, to measure hashing with")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of the host; 0: one per core")
    parser.add_argument("--pinned-bytes", type=int, default=0, help="of the ring of pinned buffers; 0: the library's choice")
    parser.add_argument("--json", type=pathlib.Path, help="where the numbers go")
    arguments = parser.parse_args()
    runtime = load_runtime()
    if not arguments.library.exists() or not runtime:
        print(f"{arguments.library if runtime else 'libcudart'} is not there: nothing was measured")
        return SKIP
    library, error = ctypes.CDLL(str(arguments.library.resolve())), Error()
    library.cdna_cuda_free.argtypes = [ctypes.c_void_p]
    library.cdna_cuda_free.restype = None
    if library.cdna_cuda_device_supported(0, ctypes.byref(error)):
        print(f"the device cannot be used: {error.text()}")
        return SKIP
    try:
        result = measure(library, runtime, arguments)
    except (Failure, OSError, subprocess.CalledProcessError) as failure:
        print(failure)
        return 1
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
