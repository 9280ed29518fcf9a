"""Every block of Python in the documents runs as it stands."""
from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest

import cdna

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "bindings/python/README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^\s*(?:import|from) (?:cdna\.)?(torch|safetensors|ml_dtypes)\b", re.MULTILINE)


def blocks():
    for path in DOCUMENTS:
        for number, found in enumerate(BLOCK.finditer(path.read_text("utf-8")), 1):
            yield pytest.param(found[1], id=f"{path.parent.name}/{path.name}:{number}")


@pytest.fixture
def model_folder(tmp_path, rng, monkeypatch):
    """Where the examples run: with the files that they name."""
    name = "encoder.layer.0.attention.self.query.weight"
    cdna.save(tmp_path / "model.cdna", {name: rng.normal(size=(384, 384)).astype(np.float32)}, "cb8")
    cdna.convert(tmp_path / "model.cdna", tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks())
def test_examples_run(code, model_folder):
    for module in NEEDS.findall(code):
        pytest.importorskip(module)
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_there_is_an_example_of_the_package():
    assert "import cdna" in "".join(BLOCK.findall((ROOT / "README.md").read_text("utf-8")))
