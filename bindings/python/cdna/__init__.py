"""CDNA files: weights of neural networks, compressed, verified, and multiplied with where they lie.

    with cdna.open("model.cdna") as f:
        t = f["encoder.layer.0.attention.self.query.weight"]
        t.shape, t.dtype, t.bits_per_weight, t.error.snr_db
        t[128:256], t.numpy("float32"), x @ t.T

cdna.numpy and cdna.torch have the functions of safetensors.numpy and safetensors.torch.
"""
from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import TYPE_CHECKING

from ._convert import ConvertedTensor, ConvertReport, convert, export, save
from ._core import version as __version__
from ._encoded import Encoded, encode, pack
from ._errors import (
    ArgumentError,
    CancelledError,
    CdnaError,
    CorruptError,
    FileError,
    FileMissingError,
    FilePresentError,
    FormatError,
    LimitError,
    OutOfMemoryError,
    TensorMissingError,
    UnsupportedError,
)
from ._file import Asset, File, Report, open
from ._metadata import Metadata
from ._tensor import LowRank, Outliers, Tensor, TensorError

__all__ = [
    "ArgumentError", "Asset", "CancelledError", "CdnaError", "ConvertReport", "ConvertedTensor", "CorruptError", "Encoded",
    "File", "FileError",
    "FileMissingError", "FilePresentError", "FormatError", "LimitError", "LowRank", "Metadata", "OutOfMemoryError", "Outliers",
    "Report", "Tensor", "TensorError", "TensorMissingError", "UnsupportedError", "__version__", "convert",
    "encode", "export", "open", "pack", "save",
]  # fmt: skip

logging.getLogger(__name__).addHandler(logging.NullHandler())  # Notes of reports: shown where the application wants them.

# Tracebacks and pickles show the public names.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
del _name


if TYPE_CHECKING:  # What is checked knows these two, and no other name.
    from . import numpy as numpy
    from . import torch as torch
else:

    def __getattr__(name: str) -> ModuleType:
        # Only when they are used: torch takes seconds.
        if name in ("numpy", "torch"):
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
