"""What the tests of the package share: random matrices, files of them, and the reference decoder."""
from __future__ import annotations

import os
import pathlib
import sys

import numpy as np
import pytest

import cdna

ROOT = pathlib.Path(__file__).resolve().parents[3]
VECTORS = ROOT / "spec/vectors"
SEED = 20240611

# Where hypothesis keeps what it found in sources: not beside them.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build/hypothesis"))
sys.path[:0] = [str(ROOT / "spec/reference"), str(VECTORS)]  # The reference decoder; the vectors' own writer.


def pytest_report_header() -> str:
    return f"cdna {cdna.__version__} in {pathlib.Path(cdna.__file__).parent}, seed {SEED}"


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)


@pytest.fixture
def weights(rng):
    """A matrix with rows of different sizes, and a few values far out."""
    matrix = rng.normal(size=(200, 384)).astype(np.float32) * rng.uniform(0.5, 2, size=(200, 1)).astype(np.float32)
    matrix[rng.integers(200, size=20), rng.integers(384, size=20)] *= 20
    return matrix


@pytest.fixture
def tensors(weights, rng):
    """Arrays of several dtypes and ranks."""
    return {
        "layer.weight": weights,
        "layer.half": rng.normal(size=(96, 128)).astype(np.float16),
        "layer.bias": rng.normal(size=96).astype(np.float32),
        "conv": rng.normal(size=(8, 4, 3, 3)).astype(np.float32),
        "scalar": np.float64(2.5),
        "ints": rng.integers(-100, 100, size=(5, 7, 3)),
        "flags": rng.integers(2, size=11).astype(bool),
        "empty": np.zeros((0, 4), np.float32),
        "complex": (rng.normal(size=6) + 1j * rng.normal(size=6)).astype(np.complex64),
    }


@pytest.fixture
def exact_path(tmp_path, tensors):
    path = tmp_path / "exact.cdna"
    cdna.save(path, tensors)
    return path


@pytest.fixture
def coded_path(tmp_path, tensors):
    """Every matrix as codes of 8 bits."""
    path = tmp_path / "coded.cdna"
    cdna.save(path, tensors, "cb8")
    return path
