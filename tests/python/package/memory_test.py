"""Memory: nothing grows over ten thousand opens, a file is not held twice, and what is optional may be missing."""
from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import cdna

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def open_and_use(path, count):
    for number in range(count):
        with cdna.open(path) as f:
            t = f["layer.bias"]
            t.numpy()
            t.view()
            if number % 10 == 0:
                list(f), len(f.metadata), f["layer.half"].matmul(np.ones(128, np.float32))
        with pytest.raises(KeyError) if number % 50 == 0 else cdna.open(path) as f:
            if number % 50 == 0:
                cdna.open(path)["missing"]


@pytest.mark.parametrize("preset", ["exact", "cb8"])
def test_ten_thousand_opens_leak_nothing(tmp_path, tensors, preset):
    path = tmp_path / "m.cdna"
    cdna.save(path, tensors, preset)
    open_and_use(path, 500)
    gc.collect()
    memory, descriptors = resident(), len(os.listdir("/proc/self/fd"))
    open_and_use(path, 4750)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    # 2 * 5250 opens: a leak of 400 bytes in each would be as much.
    assert resident() - memory < 4 << 20


def test_objects_of_python_do_not_grow(exact_path):
    open_and_use(exact_path, 100)
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        open_and_use(exact_path, 1000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 64 << 10  # 32 bytes for each of 2000 opens.


PEAK = """
import resource, sys, numpy, cdna
rss = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with cdna.open(sys.argv[1], io=sys.argv[2]) as f:
    x = numpy.ones((1, f["w"].cols), "f4")
    f["w"].matmul(x, threads=1)
    before = rss()
    for _ in range(3):
        f["w"].matmul(x, threads=1)
    print(rss() - before)
"""


def test_a_product_does_not_decode_the_whole(tmp_path, rng):
    path = tmp_path / "w.cdna"
    cdna.save(path, {"w": rng.normal(size=(4096, 2048)).astype(np.float32)}, "cb4g32")
    grown = subprocess.run([sys.executable, "-c", PEAK, path, "pread"], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 8 << 20  # Decoded it is 32 MiB.


WITHOUT = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ml_dtypes", "tqdm", "torch"):
            raise ImportError(name + " is hidden")
sys.meta_path.insert(0, Blocker())
import numpy, cdna, cdna.numpy
w = numpy.arange(64 * 64, dtype="f4").reshape(64, 64)
with cdna.open(cdna.save(None, {"w": w}, "cb8", progress=True)) as f:
    assert f.verify(progress=True).valid
    assert f["w"].numpy("BF16").dtype == numpy.uint16
    assert (f["w"].numpy("BF16").astype("u4") << 16).view("f4").shape == (64, 64)
    assert (w @ f["w"].T).dtype == numpy.float32
try:
    import cdna.torch
except ImportError as error:
    print(error)
else:
    sys.exit("cdna.torch was imported without torch")
from cdna.__main__ import main
main([])
"""


def test_nothing_optional_is_needed():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not installed") >= 2
