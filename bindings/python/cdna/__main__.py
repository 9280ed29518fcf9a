"""python -m cdna: what this installation is; with arguments, the command line tools."""
from __future__ import annotations

import ctypes
import os
import platform
import sys
import sysconfig
from pathlib import Path

from ._tools import find_tool, no_tool, run_tool

TOOLS = ("convert", "export", "diff", "matmul", "bench", "inspect", "fsck")
CUDA_LIBRARY = "libcdna_cuda.so.1"
USAGE = f"""usage: python -m cdna                    what this installation is
       python -m cdna TOOL ARGUMENTS...  TOOL: {", ".join(TOOLS)} (each with --help)"""


def cuda_state() -> str:
    """Whether the CUDA library can be loaded and finds a device, or why not."""
    name = os.environ.get("CDNA_CUDA_LIBRARY") or CUDA_LIBRARY
    try:
        library = ctypes.CDLL(name)
    except OSError as reason:
        return f"no: {reason}"
    try:
        version = library.cdna_cuda_abi_version
        version.restype = ctypes.c_uint32
        abi = version()
    except AttributeError:
        return f"no: {name} is no libcdna_cuda"
    return f"{name}, ABI {abi >> 16}.{abi & 0xFFFF}"


def version_of(module: str) -> str:
    try:
        return str(__import__(module).__version__)
    except ImportError:
        return "not installed"


def print_environment() -> None:
    import numpy

    from . import _core

    found = _core.environment()
    rows: list[tuple[str, str]] = [
        ("cdna", f"{found['version']} ({Path(_core.__file__ or '').parent})"),
        ("module", f"{sysconfig.get_config_var('SOABI')}, {found['compiler']}"),
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs"),
        ("CPU", f"{found['instruction_set']} in use, of {', '.join(found['instruction_sets'])} (CDNA_CPU chooses)"),
        ("SHA-256", f"{found['sha256']} (CDNA_SHA256 chooses)"),
        ("CUDA", cuda_state()),
        ("numpy", numpy.__version__),
        ("ml_dtypes", version_of("ml_dtypes")),
        ("tqdm", version_of("tqdm")),
        ("presets", ", ".join(_core.presets())),
    ]
    rows.append(("tools", find_tool() or no_tool()))
    for name, value in rows:
        print(f"{name:14}{value}")


def main(arguments: list[str]) -> int:
    if not arguments:
        print_environment()
        return 0
    if arguments[0] in TOOLS:
        return run_tool(arguments)
    wants_help = arguments[0] in ("-h", "--help")
    print(USAGE, file=sys.stdout if wants_help else sys.stderr)
    return 0 if wants_help else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
