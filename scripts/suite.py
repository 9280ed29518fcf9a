"""A test suite as a command whose output states how many tests passed, and a scheduler that runs several at the same time."""
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

FAILED_LINES_MAX = 40


@dataclasses.dataclass
class Suite:
    """`count` turns (exit code, output) into (passed, failed)."""
    name: str
    command: list
    count: object
    needs: tuple = ()        # Names of the suites that have to end without failures before this one.
    after: tuple = ()        # Names of those that only have to end.
    environment: dict = dataclasses.field(default_factory=dict)
    seconds_max: float = 1500
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    note: str = ""

    def run(self, root, log, processes):
        begin = time.monotonic()
        with open(log, "wb") as file:
            # A group of its own, so that nothing that it started outlives a timeout.
            process = subprocess.Popen(self.command, cwd=root, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                       env={**os.environ, **self.environment}, start_new_session=True)
            processes.add(process.pid)
            try:
                code = process.wait(self.seconds_max)
            except subprocess.TimeoutExpired:
                self.note = f"stopped after {self.seconds_max} s"
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            processes.discard(process.pid)
        output = log.read_text("utf-8", errors="replace")
        self.passed, self.failed = self.count(code, output)
        skipped = sum(int(number) for number in re.findall(r"\bskipped=(\d+)", output))
        if skipped:
            self.note = f"{skipped} skipped"
        self.seconds = time.monotonic() - begin


def stated(code, output):
    """Counts of a script that prints "N passed, N failed", or of unittest. A skipped test has not passed, so it has failed."""
    lines = re.findall(r"^(\d+) passed, (\d+) failed$", output, re.MULTILINE)
    ran = re.findall(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
    if lines:
        passed, failed = map(int, lines[-1])
    elif ran:
        failed = sum(int(number) for number in re.findall(r"(?:failures|errors|skipped|unexpected successes)=(\d+)", output))
        passed = max(0, int(ran[-1]) - failed)
    else:
        return 0, 1
    return passed, failed or int(code != 0 or passed == 0)


def one_test(code, _):
    return int(code == 0), int(code != 0)


def no_test(code, _):
    """Counts of a step that is no test, but whose failure is one."""
    return 0, int(code != 0)


def catch2(code, output):
    """Counts of a program that was made with Catch2 (the test cases), else that states its counts, else is one test."""
    all_passed = re.search(r"^All tests passed \(.* in (\d+) test cases?\)", output, re.MULTILINE)
    some = re.search(r"^test cases: *(\d+)(?: \| *(\d+) passed)?(?: \| *(\d+) failed)?", output, re.MULTILINE)
    if all_passed:
        return int(all_passed[1]), int(code != 0)
    if some:
        return int(some[2] or 0), int(some[3] or 0) or int(code != 0)
    if re.search(r"^\d+ passed, \d+ failed$", output, re.MULTILINE):
        return stated(code, output)
    return one_test(code, output)


def meson(folder):
    """Counts of `meson test` in a build folder: the sum over its programs."""
    def count(code, _):
        log = pathlib.Path(folder, "meson-logs/testlog.json")
        tests = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
        counts = [catch2(0 if test["result"] == "OK" else 1, test.get("stdout") or "") for test in tests]
        passed, failed = sum(count[0] for count in counts), sum(count[1] for count in counts)
        return passed, failed or int(code != 0 or passed == 0)
    return count


class Runner:
    """Runs suites, at most `jobs` at a time, in their order where their needs allow it. Logs go to the folder `logs`."""

    def __init__(self, root, logs, jobs):
        self.root, self.logs, self.jobs = root, logs, jobs
        self.ended, self.processes = {}, set()

    def log_of(self, suite):
        return self.logs / (re.sub(r"[^\w.-]+", "-", suite.name) + ".log")

    def run(self, suites):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
        waiting, running = list(suites), {}
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or running:
                    planned = len(waiting)
                    for suite in self.startable(waiting):
                        if len(running) < self.jobs:
                            waiting.remove(suite)
                            running[pool.submit(suite.run, self.root, self.log_of(suite), self.processes)] = suite
                    if not running and len(waiting) == planned:
                        raise ValueError(f"{waiting[0].name} needs what is not among the suites")
                    done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        self.end(running.pop(future))
            except BaseException:
                for process in list(self.processes):
                    os.killpg(process, signal.SIGKILL)
                raise

    def startable(self, waiting):
        """The suites that can start; those whose needs failed end here."""
        result = []
        for suite in list(waiting):
            broken = [name for name in suite.needs if name in self.ended and self.ended[name].failed]
            if broken:
                waiting.remove(suite)
                suite.failed, suite.note = 1, f"not run: {broken[0]} failed"
                self.end(suite)
            elif all(name in self.ended for name in (*suite.needs, *suite.after)):
                result.append(suite)
        return result

    def end(self, suite):
        self.ended[suite.name] = suite
        counts = f"{suite.passed:6} passed {suite.failed:4} failed" if suite.passed or suite.failed else " " * 25
        note = f"  {suite.note}" if suite.note else ""
        print(f"{suite.name:44}{counts} {suite.seconds:7.1f} s{note}", flush=True)
        log = self.log_of(suite)
        if suite.failed and log.exists():
            lines = log.read_text("utf-8", errors="replace").splitlines()[-FAILED_LINES_MAX:]
            print("".join(f"    {line}\n" for line in lines) + f"    (all of it: {log.relative_to(self.root)})", flush=True)


def run_all(planned, root, logs, jobs):
    """Runs them; prints what there is to run, a line for each as it ends, and last "N passed, N failed". Returns an exit code."""
    begin = time.monotonic()
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    print(f"{len(planned)} steps, {jobs} at a time:")
    for step in planned:
        print(f"  {step.name}")
    print(flush=True)
    Runner(root, logs, jobs).run(planned)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n{time.monotonic() - begin:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU time")
    passed, failed = (sum(counts) for counts in zip(*((step.passed, step.failed) for step in planned)))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
