"""The command line tools of this installation: one program, `cdna`, that goes by the name it is started with."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PROGRAM = "cdna"


def find_tool() -> str | None:
    """The program of this package's wheel, else the one on PATH."""
    scripts = Path(sysconfig.get_path("scripts"))
    beside = Path(sys.executable).parent
    for folder in (scripts, beside):
        if os.access(folder / PROGRAM, os.X_OK):
            return str(folder / PROGRAM)
    return shutil.which(PROGRAM)


def no_tool() -> str:
    return (
        f"{PROGRAM} is not installed: this wheel was built without CLI11 and fmt. Install libcli11-dev and libfmt-dev (Debian)"
        " and build it again (pip install --no-binary cdna cdna), or build the project with meson"
    )


def run_tool(arguments: list[str]) -> int:
    """Runs `cdna ARGUMENTS...`; returns its exit code."""
    path = find_tool()
    if path is None:
        print(f"{PROGRAM}: {no_tool()}", file=sys.stderr)
        return 127
    return subprocess.run([path, *arguments], check=False).returncode


def inspect() -> int:
    """The script cdna-inspect."""
    return run_tool(["inspect", *sys.argv[1:]])


def fsck() -> int:
    """The script cdna-fsck."""
    return run_tool(["fsck", *sys.argv[1:]])
