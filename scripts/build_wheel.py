"""Makes the wheel of the Python package out of a build folder, and installs it into virtual environments.

    VENV/bin/python build_wheel.py FOLDER [--install VENV]... [MESON_OPTION...]

The interpreter's environment has what builds wheels (meson-python, nanobind); Meson and ninja are those on PATH. With the options
that the folder was configured with, what it holds is compiled no second time. The wheel is put into FOLDER/wheel, and its size is
printed.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys

import mesonpy

ROOT = pathlib.Path(__file__).resolve().parent.parent


def build(folder, setup_args):
    """Calls the hook that pip calls (PEP 517): pip of Debian 12 passes on no more than one of several options. Returns the path."""
    wheels = folder / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    settings = {"build-dir": str(folder), "setup-args": setup_args}
    return wheels / mesonpy.build_wheel(str(wheels), settings)


def install(wheel, environment):
    subprocess.run([f"{environment}/bin/python", "-I", "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index",
                    "--force-reinstall", wheel], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--install", action="append", default=[], type=pathlib.Path, metavar="VENV")
    options, setup_args = parser.parse_known_args()
    environments = [path.absolute() for path in options.install]
    folder = options.folder.absolute()
    os.chdir(ROOT)
    wheel = build(folder, setup_args)
    for environment in environments:
        install(wheel, environment)
    print(f"{wheel.name}: {wheel.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
