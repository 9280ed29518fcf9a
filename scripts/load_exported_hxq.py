"""HXQ checkpoints that `cdna export --to hxq` writes, loaded by helix-substrate itself.

    python3 scripts/load_exported_hxq.py BUILD [--seed N] [--python PYTHON]

helix-substrate 0.2.3 compresses a small Llama with random weights; the checkpoint is converted with BUILD/tools/cdna, checked with
cdna-fsck and exported again; then the original's loader (`from_pretrained` of transformers with helix_substrate.hf_quantizer) makes a
model of both checkpoints: every weight and the logits have to be the same bits. Another export, of the dense model, has to load as a
plain checkpoint. Needs torch from PyPI, several gigabytes, which it installs into build/helix-torch unless --python names an
interpreter that has helix-substrate, torch and transformers below 5. Ends with "N passed, N failed".
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from helix.environment import ROOT, python_with_torch


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


def exported(tools, source, folder, *options):
    """The checkpoint that becomes of another by way of a .cdna file."""
    folder.mkdir()
    run(tools / "cdna", "convert", source, folder / "model.cdna", *options)
    run(tools / "cdna-fsck", "--deep", folder / "model.cdna")
    run(tools / "cdna", "export", folder / "model.cdna", folder / "checkpoint", "--to", "hxq")
    return folder / "checkpoint"


def problem(compare, checkpoints, modules):
    """What is wrong, or ""."""
    answer = json.loads(run(*compare, *checkpoints))
    if answer["modules"] != modules:
        return f"{answer['modules']} compressed modules, not {modules}"
    return answer["difference"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("build", type=pathlib.Path, help="where the tools are: BUILD/tools")
    parser.add_argument("--seed", type=int, default=20250611)
    parser.add_argument("--python")
    options = parser.parse_args()
    tools = options.build / "tools"
    checkpoints = [options.python or python_with_torch(), "-I", ROOT / "scripts/helix/checkpoints.py"]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run(*checkpoints, "write", folder, str(options.seed))
        # 7 matrices in each of 2 layers.
        for what, source, conversion, modules in (("compressed", "hxq", (), 14), ("dense", "dense", ("--encoding", "exact"), 0)):
            again = exported(tools, folder / source, folder / f"again-{what}", *conversion)
            wrong = problem((*checkpoints, "compare"), (folder / source, again), modules)
            passed, failed = passed + (not wrong), failed + bool(wrong)
            print(f"  {'ok    ' if not wrong else 'FAILED'} {what}{': ' + wrong if wrong else ''}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
