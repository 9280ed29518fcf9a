#!/usr/bin/env python3
"""Kills a writer at every system call, and fails and interrupts each: the old file or the new one must stand there.

    kill_writer.py sample WRITE_SAMPLE                   the library alone
    kill_writer.py convert CDNA [--short-write MODULE]   `cdna convert`, of a file and of a folder, exact and cb8

A first run under strace gives the list of (system call, ordinal) pairs from where the program proper begins; what
precedes is the dynamic loader's, and only counts. strace counts `when=` per name, so each pair is injected by itself,
and each injection is proven: by the death of the process by SIGKILL, or by strace's "(INJECTED)". MODULE is built from
short_write.cpp: with it each write to the file in turn takes half of its bytes, which the module reports.

The last line is "N passed, N failed"; exit code 0, 1 (failed), or 77 (skipped: no strace, it may not trace here, or a
build with sanitizers, which write to pipes of their own to probe memory and hang when that fails).
"""
import argparse
import collections
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "sample.cdna"
OLD = b"the old file"
TIMEOUT_S = 60  # A run takes some milliseconds.
SEED = 20240616
TEMPORARY = re.compile(re.escape("." + NAME) + r"\.cdna-tmp-[0-9a-f]{16}")
SYSCALL = re.compile(r"^\d+ +(\w+)\((.*)")
SHORT = re.compile(r"^short write: (\d+) of (\d+)$", re.MULTILINE)
SKIPPED = 77

# What a full disk can do to. All of the writer's calls on files are here.
DISK_CALLS = ("openat", "write", "fsync", "linkat", "renameat", "unlinkat", "fchmod", "flock", "close", "newfstatat",
              "getdents64")
# When one of these fails, that is an error; when another does, a file may be written all the same.
NOTICED = ("write", "pread64", "fsync", "linkat", "renameat")
# Linux returns no errno from these.
NEVER_FAIL = ("brk", "exit_group")
# For memory: what has failed is said in other words.
MEMORY = ("mmap", "munmap", "mremap", "madvise")
NAMING = ("linkat", "renameat", "renameat2")

ERRORS = {"EIO": "Input/output error", "ENOSPC": "No space left on device", "EINTR": "Interrupted system call"}

# `command` holds DST where the destination goes; `begin` is the first call of the program proper, and how its arguments
# begin; `sources` is what an error may name instead of the destination; `named`: the temporary file has a name.
Scenario = collections.namedtuple("Scenario", "title command begin sources exit_codes old_file named")
# A system call of the golden run. `is_named`: the new file stands under its name before it.
Point = collections.namedtuple("Point", "name ordinal arguments is_named")


class Problem(Exception):
    pass


def need(condition, message):
    if not condition:
        raise Problem(message)


def command_of(scenario, folder, *more):
    destination = os.path.join(folder, NAME)
    return [destination if word == "DST" else word for word in scenario.command] + list(more)


def run(command, **variables):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT_S,
                          env=dict(os.environ, LC_ALL="C", **variables))


def strace(scenario, folder, *injection):
    """Runs the program; returns its exit status (negative: the signal), its stderr, and the lines of the trace."""
    with tempfile.NamedTemporaryFile(mode="r", prefix="kill-writer-", suffix=".strace") as log:
        done = run(["strace", "-f", "-o", log.name, *injection, *command_of(scenario, folder)])
        return done.returncode, done.stderr.decode(errors="replace"), log.read().splitlines()


def fill(folder, scenario):
    if scenario.old_file:
        (pathlib.Path(folder) / NAME).write_bytes(OLD)


def points_of(scenario, trace):
    """The calls from the beginning on, and how many precede it."""
    counts, calls, before, begun = collections.Counter(), [], 0, False
    for match in filter(None, map(SYSCALL.match, trace)):
        name, arguments = match.groups()
        counts[name] += 1
        begins = not begun and (name, True) == (scenario.begin[0], arguments.startswith(scenario.begin[1]))
        begun = begun or begins
        if begun and not (begins and name == "write"):  # The sample's own mark is not to fail.
            calls.append((name, counts[name], arguments))
        else:
            before += 1
    need(begun, "the program never begins")
    naming = max(i for i, call in enumerate(calls) if call[0] in NAMING)
    return [Point(*call, i > naming) for i, call in enumerate(calls)], before


def golden_run(scenario):
    """The whole file, the points after the beginning, and how many calls precede it."""
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        status, errors, trace = strace(scenario, folder)
        need(status == 0, f"the golden run fails: {errors}")
        need(os.listdir(folder) == [NAME], f"the golden run leaves {os.listdir(folder)}")
        content = (pathlib.Path(folder) / NAME).read_bytes()
    return content, *points_of(scenario, trace)


def check_folder(folder, scenario, content, may_have_temporary):
    """The state of the destination, "old" or "new", and the left-over temporaries."""
    names = set(os.listdir(folder))
    path = pathlib.Path(folder) / NAME
    found = path.read_bytes() if NAME in names else None
    is_old = found == (OLD if scenario.old_file else None)
    need(is_old or found == content, "the destination is neither the old file nor the new one")
    temporaries = names - {NAME}
    need(all(TEMPORARY.fullmatch(name) for name in temporaries), f"left behind: {sorted(names)}")
    need(len(temporaries) <= (1 if may_have_temporary else 0), f"left behind: {sorted(names)}")
    return ("old" if is_old else "new"), temporaries


def check_next_run(scenario, folder, content):
    """The next writer of the name succeeds, and removes what the dead one left."""
    done = run(command_of(scenario, folder, *(() if "--force" in scenario.command else ("--force",))))
    need(done.returncode == 0, f"the next run fails: {done.stderr.decode(errors='replace')}")
    need(os.listdir(folder) == [NAME], f"the next run leaves {sorted(os.listdir(folder))}")
    need((pathlib.Path(folder) / NAME).read_bytes() == content, "the next run wrote something else")


def inject(scenario, folder, point, what):
    injection = f"inject={point.name}:{what}:when={point.ordinal}"
    return strace(scenario, folder, "-e", f"trace={point.name}", "-e", injection)


def kill_at(scenario, content, point):
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        status, errors, trace = inject(scenario, folder, point, "signal=KILL")
        need(status == -9, f"the process was not killed: exit status {status}, {errors}")
        need(any("+++ killed by SIGKILL" in line for line in trace), "strace did not see it die")
        # Without a name until link(2), the file of a new name goes with the process.
        state, temporaries = check_folder(folder, scenario, content, scenario.old_file or scenario.named)
        # strace signals when the call has been entered, and it is carried out all the same or not at all.
        need(state == ("new" if point.is_named else "old") or point.name in NAMING, f"the {state} file stands there")
        check_next_run(scenario, folder, content)
        return state, len(temporaries)


def check_failure(scenario, point, error, status, state, errors):
    """The program said that it failed: rightly, and how."""
    need(status in scenario.exit_codes, f"exit status {status}: {errors}")
    # Behind the naming the file is complete and in place, but its folder could not be synced, or the like.
    need(state == ("new" if point.is_named else "old"), f"{point.name} failed, and the {state} file stands there")
    to_stdout = point.name == "write" and point.arguments.startswith("1,")
    need(error != "EINTR" or point.name in MEMORY or to_stdout, f"{point.name} was not tried again: {errors}")
    if point.name in MEMORY:
        return need("memory" in errors, f"the message does not say that there is no memory: {errors}")
    names = ("output",) if to_stdout else ("DST", *scenario.sources)
    need(any(name in errors for name in names), f"the message does not name the file: {errors}")
    return need(ERRORS[error] in errors, f"the message does not say why: {errors}")


def fail_at(scenario, content, point, error):
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        status, errors, trace = inject(scenario, folder, point, f"error={error}")
        need(sum("(INJECTED)" in line for line in trace) == 1, "nothing was injected")
        left = point.name == "unlinkat" and error != "EINTR"
        state, temporaries = check_folder(folder, scenario, content, left)
        if status == 0:
            need(state == "new", "success, and the old file stands there")
            need(error == "EINTR" or point.name not in NOTICED, f"{point.name} failed, and nobody noticed")
        else:
            errors = errors.replace(os.path.join(folder, NAME), "DST")
            check_failure(scenario, point, error, status, state, errors)
        if temporaries:
            check_next_run(scenario, folder, content)
        return ("new" if status == 0 else "error, " + state), len(temporaries)


def shorten_at(module, scenario, content, number):
    """One write of the file takes half. Returns what happened, as the others do."""
    with tempfile.TemporaryDirectory(prefix="kill-writer-") as folder:
        fill(folder, scenario)
        done = run(command_of(scenario, folder), LD_PRELOAD=str(module), SHORT_WRITE_AT=str(number))
        errors = done.stderr.decode(errors="replace")
        need(done.returncode == 0, f"exit status {done.returncode}: {errors}")
        need(len(SHORT.findall(errors)) == 1, f"no write was short: {errors}")
        state, temporaries = check_folder(folder, scenario, content, False)
        need(state == "new", "success, and the old file stands there")
        return state, len(temporaries)


def check_content(reference, content):
    """The file that all runs must give is right by the independent reader. Returns the encodings in it."""
    sys.path.insert(0, str(reference))
    import cdna_reference  # pylint: disable=import-error,import-outside-toplevel
    document = cdna_reference.examine(content)
    need(document["open"] == "ok", f"the reference reader says {document['open']}")
    need(all(item["status"] == "ok" for item in document["items"]), f"the reference reader says {document['items']}")
    need(document["deep"] == "clean", f"the reference reader says {document['deep']}")
    return {item["encoding"] for item in document["items"]}


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


def sample_scenarios(program):
    """write_sample makes one file by all its ways."""
    for title, options, old_file, named in (
            ("new name, O_TMPFILE", (), False, False),
            ("replacing, O_TMPFILE", ("--force",), True, False),
            ("new name, named temporaries", ("--no-tmpfile",), False, True),
            ("replacing, named temporaries", ("--no-tmpfile", "--force"), True, True)):
        yield Scenario(title, (program, "DST", *options), ("write", '2, "begin\\n"'), (), (1,), old_file, named)


def write_model(folder):
    """A Hugging Face folder: a matrix that cb8 compresses, a norm, an asset. Returns both sources."""
    rng = random.Random(SEED)

    def floats(count, mean, deviation, size):  # The upper `size` bytes of f32: bf16 or f32.
        return b"".join(struct.pack("<f", rng.gauss(mean, deviation))[4 - size:] for _ in range(count))

    header, data = {}, b""
    for name, dtype, shape, part in (
            ("model.layers.0.mlp.up_proj.weight", "BF16", [48, 96], floats(48 * 96, 0, 0.02, 2)),
            ("model.norm.weight", "F32", [96], floats(96, 1, 0.1, 4))):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    model = folder / "model.safetensors"
    model.write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}\n', "utf-8")
    return model, folder


def convert_scenarios(program, folder):
    file, folder = write_model(folder)
    for encoding, source in (("exact", file), ("cb8", folder)):
        for force in (False, True):
            command = (program, "convert", "--threads", "1", "--encoding", encoding, str(source), "DST",
                       *(("--force",) if force else ()))
            title = f"convert, {encoding}, from a {'file' if source is file else 'folder'}, "
            yield Scenario(title + ("replacing" if force else "new name"), command, ("rt_sigaction", "SIGINT"),
                           (str(source),), (8,), force, False)


def can_be_short(point):
    """A write to the file of more than one byte."""
    return point.name == "write" and not re.search(r"^[12],|, 1\) += 1$", point.arguments)


class Totals:
    def __init__(self):
        self.passed = self.failed = 0
        self.hashes = collections.defaultdict(set)  # By whether the file is exact.

    def add(self, title, outcomes, failures):
        show(title, outcomes, failures)
        self.passed += sum(outcomes.values())
        self.failed += len(failures)


def examine(scenario, arguments, pool, totals):
    content, points, before = golden_run(scenario)
    encodings = check_content(arguments.reference, content)
    need(("cdna.codebook" in encodings) == ("exact" not in scenario.command), f"the file holds {encodings}")
    totals.hashes["exact" in scenario.command].add(hashlib.sha256(content).hexdigest())
    print(f"{scenario.title}: {len(points)} system calls after {before} of the loader, {len(content)} bytes")
    kill, fail = (functools.partial(function, scenario, content) for function in (kill_at, fail_at))
    totals.add("killed", *run_points(pool, kill, [(point,) for point in points]))
    can_fail = [point for point in points if point.name not in NEVER_FAIL]
    totals.add("EIO", *run_points(pool, fail, [(point, "EIO") for point in can_fail]))
    totals.add("ENOSPC", *run_points(pool, fail, [(point, "ENOSPC") for point in can_fail if point.name in DISK_CALLS]))
    totals.add("EINTR", *run_points(pool, fail, [(point, "EINTR") for point in can_fail]))
    if arguments.short_write:
        shorten = functools.partial(shorten_at, arguments.short_write.resolve(), scenario, content)
        numbers = range(sum(map(can_be_short, points)))
        totals.add("short writes", *run_points(pool, shorten, [(number,) for number in numbers]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sample", "convert"))
    parser.add_argument("program")
    parser.add_argument("--short-write", type=pathlib.Path)
    parser.add_argument("--reference", type=pathlib.Path, default=ROOT / "spec" / "reference")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    reason = reason_to_skip(program)
    if reason:
        print(f"skipped: {reason}")
        return SKIPPED
    totals = Totals()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool, \
            tempfile.TemporaryDirectory(prefix="kill-writer-model-") as folder:
        scenarios = (sample_scenarios(program) if arguments.what == "sample" else
                     convert_scenarios(program, pathlib.Path(folder)))
        for scenario in scenarios:
            examine(scenario, arguments, pool, totals)
    for hashes in totals.hashes.values():
        print(f"one file in all scenarios: sha256 {', '.join(sorted(hashes))}")
        totals.failed += len(hashes) != 1
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{usage.ru_utime + usage.ru_stime:.0f} s of CPU")
    print(f"{totals.passed} passed, {totals.failed} failed")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
