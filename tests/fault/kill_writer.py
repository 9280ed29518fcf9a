#!/usr/bin/env python3
"""Kills a writer at every system call, and fails its calls one by one: the old file or the new one must stand there.

    kill_writer.py WRITE_SAMPLE [--reference DIRECTORY] [--jobs N]

A first run under strace gives the list of (system call, ordinal) pairs from the program's "begin" on; what precedes is
the dynamic loader's, and only counts. strace counts `when=` per name, so each pair is injected by itself, and each
injection is proven: by the death of the process by SIGKILL, or by strace's "(INJECTED)". The last line is
"N passed, N failed"; exit code 0, 1 (failed), or 77 (skipped: no strace, it may not trace here, or a build with
sanitizers, which write to pipes of their own to probe memory and hang when that fails).
"""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "sample.cdna"
OLD = b"the old file"
TIMEOUT_S = 60  # A run takes some milliseconds.
TEMPORARY = re.compile(re.escape("." + NAME) + r"\.cdna-tmp-[0-9a-f]{16}")
SYSCALL = re.compile(r"^\d+ +(\w+)\(")
SKIPPED = 77

# What a failing disk or a full one can do to. All of the writer's calls on files are here.
FAILING = ("openat", "write", "fsync", "linkat", "renameat", "unlinkat", "fchmod", "flock", "close", "newfstatat",
           "getdents64")
# The last ones that matter when they fail; without the others a file is written all the same.
BEST_EFFORT = ("openat", "unlinkat", "fchmod", "flock", "close", "newfstatat", "getdents64")

ERRORS = {"EIO": "Input/output error", "ENOSPC": "No space left on device"}

Scenario = collections.namedtuple("Scenario", "title options old_file named")
SCENARIOS = (
    Scenario("new name, O_TMPFILE", (), False, False),
    Scenario("replacing, O_TMPFILE", ("--force",), True, False),
    Scenario("new name, named temporaries", ("--no-tmpfile",), False, True),
    Scenario("replacing, named temporaries", ("--no-tmpfile", "--force"), True, True),
)


class Problem(Exception):
    pass


def need(condition, message):
    if not condition:
        raise Problem(message)


def environment():
    return dict(os.environ, LC_ALL="C")


def strace(program, folder, options, *injection):
    """Runs the program; returns its exit status (negative: the signal), its stderr, and the lines of the trace."""
    with tempfile.NamedTemporaryFile(mode="r", prefix="kill-writer-", suffix=".strace") as log:
        command = ["strace", "-f", "-o", log.name, *injection, program, os.path.join(folder, NAME), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), check=False,
                              timeout=TIMEOUT_S)
        return done.returncode, done.stderr.decode(errors="replace"), log.read().splitlines()


def fill(folder, scenario):
    if scenario.old_file:
        (pathlib.Path(folder) / NAME).write_bytes(OLD)


def golden_run(program, scenario):
    """The whole file, the pairs after "begin", and how many calls precede it."""
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        status, errors, trace = strace(program, folder, scenario.options)
        need(status == 0, f"the golden run fails: {errors}")
        need(os.listdir(folder) == [NAME], f"the golden run leaves {os.listdir(folder)}")
        content = (pathlib.Path(folder) / NAME).read_bytes()
    counts = collections.Counter()
    pairs, before, begun = [], 0, False
    for line in trace:
        match = SYSCALL.match(line)
        if not match:
            continue
        name = match[1]
        counts[name] += 1
        if begun:
            pairs.append((name, counts[name]))
        else:
            before += 1
            begun = name == "write" and '"begin\\n"' in line
    need(begun, "the program never said that it begins")
    return content, pairs, before


def check_folder(folder, scenario, content, may_be_new=True, may_have_temporary=True):
    """The state of the destination, "old" or "new", and the left-over temporaries."""
    names = set(os.listdir(folder))
    path = pathlib.Path(folder) / NAME
    found = path.read_bytes() if NAME in names else None
    is_old = found == (OLD if scenario.old_file else None)
    need(is_old or (may_be_new and found == content), "the destination is neither the old file nor the new one")
    temporaries = names - {NAME}
    need(all(TEMPORARY.fullmatch(name) for name in temporaries), f"left behind: {sorted(names)}")
    need(len(temporaries) <= (1 if may_have_temporary else 0), f"left behind: {sorted(names)}")
    return ("old" if is_old else "new"), temporaries


def check_next_run(program, folder, scenario, content):
    """The next writer of the name succeeds, and removes what the dead one left."""
    options = [option for option in scenario.options if option != "--force"] + ["--force"]
    done = subprocess.run([program, os.path.join(folder, NAME), *options], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(), check=False, timeout=TIMEOUT_S)
    need(done.returncode == 0, f"the next run fails: {done.stderr.decode(errors='replace')}")
    need(os.listdir(folder) == [NAME], f"the next run leaves {sorted(os.listdir(folder))}")
    need((pathlib.Path(folder) / NAME).read_bytes() == content, "the next run wrote something else")


def kill_at(program, scenario, content, name, ordinal):
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        status, errors, trace = strace(program, folder, scenario.options, "-e", f"trace={name}", "-e",
                                       f"inject={name}:signal=KILL:when={ordinal}")
        need(status == -9, f"the process was not killed: exit status {status}, {errors}")
        need(any("+++ killed by SIGKILL" in line for line in trace), "strace did not see it die")
        # Without a name until link(2), the file of a new name goes with the process.
        may_have_temporary = scenario.old_file or scenario.named
        state, temporaries = check_folder(folder, scenario, content, may_have_temporary=may_have_temporary)
        check_next_run(program, folder, scenario, content)
        return state, len(temporaries)


def fail_at(program, scenario, content, name, ordinal, error):
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        status, errors, trace = strace(program, folder, scenario.options, "-e", f"trace={name}", "-e",
                                       f"inject={name}:error={error}:when={ordinal}")
        need(sum("(INJECTED)" in line for line in trace) == 1, "nothing was injected")
        need(status in (0, 1), f"exit status {status}: {errors}")
        state, temporaries = check_folder(folder, scenario, content, may_have_temporary=name == "unlinkat")
        if status == 0:
            need(state == "new", "success, and the old file stands there")
            need(name in BEST_EFFORT, f"{name} failed, and nobody noticed")
        else:
            # The file is complete and in place, but its directory could not be synced, or a descriptor not be closed.
            need(state == "old" or name in ("fsync", "close"), f"{name} failed, and the new file stands there")
            need(os.path.join(folder, NAME) in errors, f"the message does not name the file: {errors}")
            need(ERRORS[error] in errors, f"the message does not say why: {errors}")
        if temporaries:
            check_next_run(program, folder, scenario, content)
        return ("new" if status == 0 else "error, " + state), len(temporaries)


def check_content(reference, content):
    """The file that all runs must give is right by the independent reader."""
    sys.path.insert(0, str(reference))
    import cdna_reference  # pylint: disable=import-error,import-outside-toplevel
    document = cdna_reference.examine(content)
    need(document["open"] == "ok", f"the reference reader says {document['open']}")
    need(all(item["status"] == "ok" for item in document["items"]), f"the reference reader says {document['items']}")
    need(document["deep"] == "clean", f"the reference reader says {document['deep']}")


def reason_to_skip(program):
    if b"__asan_init" in pathlib.Path(program).read_bytes():
        return "a build with sanitizers makes system calls of its own"
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=subprocess.PIPE, check=False)
    return "" if done.returncode == 0 else "strace cannot trace here: " + done.stderr.decode(errors="replace").strip()


def run_points(pool, function, points):
    """Runs function(*point) for all points; returns outcome counts and the failures."""
    outcomes, failures = collections.Counter(), []
    futures = [(pool.submit(function, *point), point) for point in points]
    for future, point in futures:
        try:
            state, temporaries = future.result()
            outcomes[state + (" + temporary" if temporaries else "")] += 1
        except (Problem, subprocess.TimeoutExpired) as problem:
            failures.append(f"{' '.join(str(part) for part in point)}: {problem}")
    return outcomes, failures


def show(title, outcomes, failures):
    counts = ", ".join(f"{count} {state}" for state, count in sorted(outcomes.items()))
    print(f"  {title}: {counts}; {len(failures)} failed", flush=True)
    for failure in failures:
        print(f"    FAILED {failure}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--reference", type=pathlib.Path, default=ROOT / "spec" / "reference")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    reason = reason_to_skip(program)
    if reason:
        print(f"skipped: {reason}")
        return SKIPPED
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        hashes = set()
        for scenario in SCENARIOS:
            content, pairs, before = golden_run(program, scenario)
            check_content(arguments.reference, content)
            hashes.add(hashlib.sha256(content).hexdigest())
            print(f"{scenario.title}: {len(pairs)} system calls after {before} of the loader, {len(content)} bytes")

            def kill(name, ordinal, scenario=scenario, content=content):
                return kill_at(program, scenario, content, name, ordinal)

            def fail(name, ordinal, error, scenario=scenario, content=content):
                return fail_at(program, scenario, content, name, ordinal, error)

            for title, function, points in (
                    ("killed", kill, pairs),
                    ("errno", fail, [(*pair, error) for pair in pairs if pair[0] in FAILING for error in ERRORS])):
                outcomes, failures = run_points(pool, function, points)
                show(title, outcomes, failures)
                passed += sum(outcomes.values())
                failed += len(failures)
    print(f"one file in all scenarios: sha256 {', '.join(sorted(hashes))}")
    failed += len(hashes) != 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
