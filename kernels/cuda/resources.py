#!/usr/bin/env python3
"""Compiles every CUDA source with warnings as errors, and tabulates what each kernel takes of the device.

    python3 kernels/cuda/resources.py [--all-targets] [--jobs N] [--file PART ...] [--table FILE]

For sm_80 and sm_90a; --all-targets: also sm_89 and PTX of compute_80, which is all that a release holds. The table
(registers, stack, spills, shared memory) goes to build/cuda/resources.md. A kernel fails if it spills, has a stack or
makes ptxas warn, a source if it does not compile without warnings. Objects whose sources and flags are the same are
not compiled again. Without nvcc (on PATH or in /usr/local/cuda/bin) says so, and compiles nothing.

Prints "N passed, N failed": one test for reading ptxas' report, one for each source and target, one for each kernel.
"""
import argparse
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

CUDA = pathlib.Path(__file__).resolve().parent
ROOT = CUDA.parent.parent
OUTPUT = ROOT / "build/cuda"
TARGETS = {"sm_80": "arch=compute_80,code=sm_80", "sm_90a": "arch=compute_90a,code=sm_90a"}
MORE_TARGETS = {"sm_89": "arch=compute_89,code=sm_89", "ptx_80": "arch=compute_80,code=compute_80"}
FLAGS = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion,-Wsign-conversion",
         "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
# ptxas states some losses as information: C7510, for one, is wgmma instructions that wait for each other.
WARNING = re.compile(r"\bwarning\b|Potential Performance Loss|\bC75\d\d\b", re.IGNORECASE)
# What this script's own reading is tested with: as ptxas 13.0 prints it.
SAMPLE = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4goodPf' for 'sm_80'
ptxas info    : Function properties for _Z4goodPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 96 registers, used 1 barriers, 49152 bytes smem, 384 bytes cmem[0]
ptxas info    : Compile time = 12.5 ms
ptxas info    : Compiling entry function '_Z3badPf' for 'sm_80'
ptxas info    : Function properties for _Z3badPf
    40 bytes stack frame, 24 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 40 bytes cumulative stack size, 384 bytes cmem[0]
"""


@dataclasses.dataclass
class Kernel:
    """What one kernel takes on one target."""
    name: str
    registers: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    shared: int = 0

    @property
    def in_registers(self):
        return self.registers > 0 and not (self.stack or self.spill_stores or self.spill_loads)


@dataclasses.dataclass
class Object:
    """One source compiled for one target."""
    source: pathlib.Path
    target: str
    code: int
    log: str
    reused: bool

    @property
    def clean(self):
        return self.code == 0 and not WARNING.search(self.log)


def find_nvcc():
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def closure(path, seen):
    """A source with what it includes of ours, directly or not."""
    if path not in seen and path.is_file():
        seen.add(path)
        for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text("utf-8"), re.MULTILINE):
            closure((path.parent / name).resolve(), seen)
            closure((ROOT / name).resolve(), seen)
    return seen


def key_of(source, command, version):
    """Equal for equal bytes of the source and its headers, flags and compiler."""
    digest = hashlib.sha256(repr((command, version)).encode())
    for path in sorted(closure(source, set())):
        digest.update(repr(str(path.relative_to(ROOT))).encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def compile_object(nvcc, version, source, target):
    name = "-".join(source.relative_to(CUDA).with_suffix("").parts)
    output = OUTPUT / f"{name}.{target}.o"
    command = [nvcc, "-c", *FLAGS, "-gencode", (TARGETS | MORE_TARGETS)[target], "-I", str(ROOT),
               str(source.relative_to(ROOT)), "-o", str(output.relative_to(ROOT))]
    key, record = key_of(source, command, version), output.with_suffix(".log")
    if output.exists() and record.exists() and record.read_text("utf-8").startswith(key):
        return Object(source, target, 0, record.read_text("utf-8").partition("\n")[2], True)
    output.unlink(missing_ok=True)
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                         check=False)
    record.write_text((key if ran.returncode == 0 else "failed") + "\n" + ran.stdout, "utf-8")
    return Object(source, target, ran.returncode, ran.stdout, False)


def parse(log):
    """The kernels of ptxas' report, in its order."""
    kernels, current = [], None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '([^']+)'", line):
            current = Kernel(match[1])
            kernels.append(current)
        elif match := re.search(r"Function properties for (\S+)", line):
            # Functions that are called, not inlined, have properties of their own.
            current = next((kernel for kernel in kernels if kernel.name == match[1]), None)
        elif current and (match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            current.stack, current.spill_stores, current.spill_loads = map(int, match.groups())
        elif current and (match := re.search(r"Used (\d+) registers", line)):
            current.registers = int(match[1])
            shared = re.search(r"(\d+) bytes smem", line)
            current.shared = int(shared[1]) if shared else 0
    return kernels


def reads_a_report():
    good, bad = parse(SAMPLE)
    return (good == Kernel("_Z4goodPf", 96, 0, 0, 0, 49152) and good.in_registers
            and bad == Kernel("_Z3badPf", 255, 40, 24, 28, 0) and not bad.in_registers
            and bool(WARNING.search("ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized"))
            and not WARNING.search(SAMPLE))


def demangled(names):
    tool = shutil.which("cu++filt", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin") or shutil.which("c++filt")
    if not tool or not names:
        return {name: name for name in names}
    ran = subprocess.run([tool], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    return {name: short(full) for name, full in zip(names, ran.stdout.splitlines())}


def short(name):
    """Without namespaces, result, the parameter list, and the types of template arguments that are numbers."""
    name = re.sub(r"\b\w+::(?=\w)", "", name.replace("(anonymous namespace)::", ""))
    name = re.sub(r"\((?:unsigned int|int|bool|unsigned long|Half|Float|Curve|ScaleType)\)(?=-?\d)", "", name)
    return re.sub(r"^void ", "", name).rpartition("(")[0] or name


def table(objects):
    kernels = [(item, kernel) for item in objects for kernel in parse(item.log)]
    names = demangled(sorted({kernel.name for _, kernel in kernels}))
    lines = ["| source | kernel | target | registers | stack | spills | static shared |", "|---|---|---|---|---|---|---|"]
    for item, kernel in sorted(kernels, key=lambda pair: (pair[0].source, names[pair[1].name], pair[0].target)):
        lines.append(f"| {item.source.relative_to(CUDA)} | `{names[kernel.name]}` | {item.target} | {kernel.registers} |"
                     f" {kernel.stack} | {kernel.spill_stores + kernel.spill_loads} | {kernel.shared} |")
    return "\n".join(lines) + "\n"


def compile_all(nvcc, sources, targets, jobs):
    OUTPUT.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(compile_object, nvcc, version, source, target) for source in sources for target in targets]
        for run in concurrent.futures.as_completed(runs):
            item = run.result()
            state = "failed" if item.code else "warns" if not item.clean else "unchanged" if item.reused else "compiled"
            print(f"{item.source.relative_to(CUDA)} for {item.target}: {state}", flush=True)
        return [run.result() for run in runs]


def judge(objects):
    """Prints what is wrong; (passed, failed)."""
    passed = failed = 0
    for item in objects:
        where = f"{item.source.relative_to(ROOT)} for {item.target}"
        passed, failed = passed + item.clean, failed + (not item.clean)
        if not item.clean:
            print(f"\n{where} does not compile without warnings:")
            report = re.compile(r"ptxas info    : |bytes stack frame")
            lines = [line for line in item.log.splitlines() if WARNING.search(line) or item.code and not report.search(line)]
            print("\n".join(f"    {line}" for line in lines))
        for kernel in parse(item.log):
            passed, failed = passed + kernel.in_registers, failed + (not kernel.in_registers)
            if not kernel.in_registers:
                print(f"\n{where}: {demangled([kernel.name])[kernel.name]} takes local memory: {kernel}")
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description="Compiles every CUDA source and tabulates what its kernels take.")
    parser.add_argument("--all-targets", action="store_true", help="also sm_89, and PTX of compute_80")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many compilers may run at a time")
    parser.add_argument("--file", action="append", help="only sources whose path holds this")
    parser.add_argument("--table", type=pathlib.Path, default=OUTPUT / "resources.md", help="where the table goes")
    options = parser.parse_args()
    targets = TARGETS | (MORE_TARGETS if options.all_targets else {})
    sources = [path for path in sorted(CUDA.rglob("*.cu"))
               if not options.file or any(part in str(path.relative_to(CUDA)) for part in options.file)]
    own = reads_a_report()
    nvcc = find_nvcc()
    if not nvcc:
        print(f"nvcc is neither on PATH nor in /usr/local/cuda/bin: nothing was compiled, skipped={len(sources) * len(targets)}")
        print(f"{int(own)} passed, {int(not own)} failed")
        return int(not own)
    objects = compile_all(nvcc, sources, targets, options.jobs)
    options.table.parent.mkdir(parents=True, exist_ok=True)
    options.table.write_text(table(objects), "utf-8")
    print("\n" + table(objects))
    passed, failed = judge(objects)
    print(f"{passed + own} passed, {failed + (not own)} failed")
    return 1 if failed or not own else 0


if __name__ == "__main__":
    sys.exit(main())
