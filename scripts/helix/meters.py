"""What both sides of the comparison are measured with: time, memory of this process, errors, and single-bit flips."""
import contextlib
import json
import os
import sys
import threading
import time

import numpy as np


def status_bytes(field):
    """VmHWM, RssAnon, ... of this process, in bytes. (ru_maxrss would also count what the parent had when it forked.)"""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return 1024 * int(line.split()[1])
    raise KeyError(field)


def peak_bytes():
    return status_bytes("VmHWM")


class PrivateGrowth:
    """The most private memory (RssAnon) above what was there before, looked at about 1000 times a second."""

    def __enter__(self):
        self.before = self.most = status_bytes("RssAnon")
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.stop.is_set():
            self.most = max(self.most, status_bytes("RssAnon"))
            self.stop.wait(0.001)

    def __exit__(self, *_):
        self.most = max(self.most, status_bytes("RssAnon"))
        self.stop.set()
        self.thread.join()

    @property
    def bytes(self):
        return self.most - self.before


def median_seconds(work, rounds):
    """Of as many calls, after one that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def snr_db(original, decoded):
    """10 log10(sum w^2 / sum (w - v)^2), summed in f64 by rows."""
    signal = noise = 0.0
    for row, other in zip(original, decoded):
        wide = row.astype(np.float64)
        signal += float(wide @ wide)
        error = wide - other
        noise += float(error @ error)
    return 10 * np.log10(signal / noise)


def flips(content, parts, is_detected, count, seed):
    """{part: how many of `count` single-bit flips in its byte ranges are noticed}; is_detected(content) -> bool."""
    random = np.random.default_rng(seed)
    found = {}
    assert not is_detected(content), "what is not damaged is refused"
    for part, ranges in parts.items():
        places = np.concatenate([np.arange(begin, end) for begin, end in ranges])
        detected = 0
        for place, bit in zip(random.choice(places, count), random.integers(8, size=count)):
            changed = bytearray(content)
            changed[place] ^= 1 << int(bit)
            detected += bool(is_detected(bytes(changed)))
        found[part] = detected
    return found


def raises(work):
    """Whether it raises: any error tells the user that something is wrong."""
    with contextlib.suppress(Exception):
        work()
        return False
    return True


def answer(tasks):
    """Runs the task that the command line names with its arguments, on one core, and prints what it returns as JSON."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    json.dump(tasks[sys.argv[1]](*sys.argv[2:]), sys.stdout)
