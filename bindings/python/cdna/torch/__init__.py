"""CDNA files and PyTorch: the functions of safetensors.torch, and linear layers that multiply with compressed weights.

    from cdna.torch import load_file, save_file           # in place of safetensors.torch

    cdna.torch.replace_linears(model, "cb8")              # a model in memory
    with torch.device("meta"):
        model = Model()
    cdna.torch.load_module(model, "model.cdna")           # a model in a file, never dense
"""

from __future__ import annotations

from .cuda_library import CudaError, CudaUnavailable
from .files import load, load_file, load_model, save, save_file, save_model
from .linear import CdnaLinear
from .load_module import Loaded, load_module
from .replace import Kept, Replaced, Report, replace_linears

__all__ = [
    "CdnaLinear",
    "CudaError",
    "CudaUnavailable",
    "Kept",
    "Loaded",
    "Replaced",
    "Report",
    "load",
    "load_file",
    "load_model",
    "load_module",
    "replace_linears",
    "save",
    "save_file",
    "save_model",
]
