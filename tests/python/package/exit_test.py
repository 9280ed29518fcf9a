"""The interpreter's end while daemon threads are inside calls: the process ends as if they were not there."""
from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import numpy as np
import cdna

class Source:
    def __init__(self, data):
        self.data, self.size = data, len(data)
    def read_at(self, offset, size):
        return self.data[offset:offset + size]

w = np.random.default_rng(0).normal(size=(1024, 1024)).astype("f4")
data = cdna.save(None, {"w": w}, "cb8")
f = cdna.open(data)
x = np.ones((2, 1024), "f4")
started = threading.Barrier(4)

def numpy(): f["w"].numpy()
def matmul(): f["w"].matmul(x)
def verify(): f.verify(progress=lambda done, total: None)
def source(): cdna.open(Source(data))["w"].numpy(threads=2)
def save(): cdna.save(None, {"w": w}, "cb8", progress=lambda done, total: None)

def loop(work):
    work()
    started.wait()
    while True:
        work()

for _ in range(3):
    threading.Thread(target=loop, args=(globals()[sys.argv[1]],), daemon=True).start()
started.wait()
for _ in range(20000):
    pass
"""


@pytest.mark.parametrize("work", ["numpy", "matmul", "verify", "source", "save"])
def test_threads_inside_calls_do_not_abort_the_process(work):
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", PROGRAM, work], capture_output=True, text=True, timeout=120)
        assert (ended.returncode, ended.stderr) == (0, "")


FINALIZER = """
import cdna

class Late:
    def __init__(self, source):
        self.file = cdna.open(source)
    def __del__(self):
        assert self.file["w"].numpy().tolist() == [1, 2]
        self.file.close()
        print("closed")

late = Late(cdna.save(None, {"w": [1, 2]}))
late.itself = late
"""


def test_files_can_be_used_while_the_interpreter_ends():
    ended = subprocess.run([sys.executable, "-c", FINALIZER], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "closed\n", "")
