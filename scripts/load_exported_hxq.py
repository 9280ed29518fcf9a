"""HXQ checkpoints that `cdna export --to hxq` writes, loaded by helix-substrate itself.

    python3 scripts/load_exported_hxq.py BUILD [--seed N] [--python PYTHON]

helix-substrate 0.2.3 compresses a small Llama with random weights; the checkpoint is converted with BUILD/tools/cdna, checked with
cdna-fsck and exported again; then the original's loader (`from_pretrained` of transformers with helix_substrate.hf_quantizer) makes a
model of both checkpoints: every weight and the logits have to be the same bits. Another export, of the dense model, has to load as a
plain checkpoint. Needs torch from PyPI, several gigabytes, which it installs into build/helix-torch unless --python names an
interpreter that has helix-substrate, torch and transformers below 5. Ends with "N passed, N failed".
"""
import argparse
import functools
import json
import pathlib
import sys
import tempfile

from helix.environment import ROOT, python_with_torch
from helix.results import Results, run


def exported(tools, source, folder, *options):
    """The checkpoint that becomes of another by way of a .cdna file."""
    folder.mkdir()
    run(tools / "cdna", "convert", source, folder / "model.cdna", *options)
    run(tools / "cdna-fsck", "--deep", folder / "model.cdna")
    run(tools / "cdna", "export", folder / "model.cdna", folder / "checkpoint", "--to", "hxq")
    return folder / "checkpoint"


def problem(tools, checkpoints, source, folder, conversion, modules):
    """What is wrong with the checkpoint that comes back, or ""."""
    again = exported(tools, source, folder, *conversion)
    answer = json.loads(run(*checkpoints, "compare", source, again))
    if answer["modules"] != modules:
        return f"{answer['modules']} compressed modules, not {modules}"
    return answer["difference"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("build", type=pathlib.Path, help="where the tools are: BUILD/tools")
    parser.add_argument("--seed", type=int, default=20250611)
    parser.add_argument("--python")
    options = parser.parse_args()
    checkpoints = (options.python or python_with_torch(), "-I", ROOT / "scripts/helix/checkpoints.py")
    results = Results()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run(*checkpoints, "write", folder, str(options.seed))
        # 7 matrices in each of 2 layers.
        for source, conversion, modules in (("hxq", (), 14), ("dense", ("--encoding", "exact"), 0)):
            results.check(source, functools.partial(problem, options.build / "tools", checkpoints, folder / source,
                                                    folder / f"again-{source}", conversion, modules))
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
