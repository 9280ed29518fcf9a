"""Virtual environments with helix-substrate from PyPI, build/helix-VERSION: nothing of it is in our own."""
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VERSIONS = ("0.2.1", "0.2.3")


def python_of(version):
    """The interpreter of the environment, which is made if it is not there. Raises CalledProcessError without PyPI."""
    folder = f"build/helix-{version}"
    (ROOT / "build").mkdir(exist_ok=True)
    subprocess.run([ROOT / "scripts/install_python.sh", f"scripts/helix-{version}.requirements.txt", folder], cwd=ROOT, check=True)
    return ROOT / folder / "bin/python"


def python_with_torch():
    """The interpreter of an environment that also has torch and transformers, whatever versions PyPI has for it."""
    folder = ROOT / "build/helix-torch"
    if not (folder / "bin/pip").exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/python", "-I", "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
                    "--only-binary", ":all:", f"helix-substrate[hf]=={VERSIONS[-1]}", "torch"], check=True)
    return folder / "bin/python"
