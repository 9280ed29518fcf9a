"""safetensors.numpy for CDNA files: code moves over by one import.

    from cdna.numpy import load_file, save_file

Everything that is read is verified. Compressed tensors come decoded, in the dtype of their source; bfloat16 and float8 as
ml_dtypes where that is installed, else as their bits (uint16, uint8).
"""
from __future__ import annotations

import os
from typing import Any, Union

import numpy

from ._convert import save as _save
from ._errors import ArgumentError as _ArgumentError
from ._errors import error as _error
from ._file import File
from ._file import open as _open

def load_file(filename: Union[str, os.PathLike[str]], *, backend: str = "mmap") -> dict[str, numpy.ndarray[Any, Any]]:
    """All tensors of a file, by name, each in memory of its own. backend: "mmap" (where that can be), "pread".

    Raises FileMissingError, FileError, FormatError, CorruptError, UnsupportedError, ArgumentError.

    >>> import cdna, numpy, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "m.cdna")
    >>> cdna.numpy.save_file({"w": numpy.arange(3)}, path)
    >>> cdna.numpy.load_file(path)["w"].tolist()
    [0, 1, 2]
    """
    if backend not in ("mmap", "pread"):
        raise _error(_ArgumentError, "bad_argument", f'backend is {backend!r}: "mmap" or "pread"')
    with _open(os.fsdecode(filename), io="pread" if backend == "pread" else "auto") as file:
        return _arrays(file)


def load(data: bytes) -> dict[str, numpy.ndarray[Any, Any]]:
    """The same of a file's bytes."""
    with _open(memoryview(data)) as file:
        return _arrays(file)


def save_file(
    tensor_dict: dict[str, numpy.ndarray[Any, Any]],
    filename: Union[str, os.PathLike[str]],
    metadata: dict[str, str] | None = None,
    policy: Any = "exact",
) -> None:
    """Writes arrays as a file; an existing one is replaced. metadata comes back from an export to safetensors. policy: see
    cdna.save(). Raises ArgumentError, FileError."""
    _save(filename, tensor_dict, policy, metadata=_prefixed(metadata))


def save(
    tensor_dict: dict[str, numpy.ndarray[Any, Any]], metadata: dict[str, str] | None = None, policy: Any = "exact"
) -> bytes:
    """The bytes of such a file."""
    return _save(None, tensor_dict, policy, metadata=_prefixed(metadata))


def _arrays(file: File) -> dict[str, numpy.ndarray[Any, Any]]:
    return {name: tensor.numpy() for name, tensor in file.items()}


def _prefixed(metadata: dict[str, str] | None) -> dict[str, str]:
    """Under the keys that a converted safetensors file has."""
    for key, value in (metadata or {}).items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"metadata is str to str, not {key!r} to {value!r}")
    return {f"safetensors:{key}": value for key, value in (metadata or {}).items()}
