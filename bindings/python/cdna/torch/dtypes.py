"""Element types: names of the format, torch's types, and numpy's types of the same size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# spec/format.md, 7.3. Types that this torch has not are absent.
_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
TORCH_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, attribute) for name, attribute in _TORCH_NAMES.items() if hasattr(torch, attribute)
}
_NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in TORCH_DTYPES.items()}

# Those that become codes: cdna.encode() takes them.
ENCODABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Integers of a type's size, for types that numpy has not; torch views one as the other.
_INTEGERS = {1: (torch.uint8, np.uint8), 2: (torch.int16, np.uint16)}


def name_of(dtype: torch.dtype) -> str:
    """The format's name of a type; TypeError for those that it has not.

    >>> import torch
    >>> name_of(torch.bfloat16)
    'BF16'
    """
    name = _NAMES.get(dtype)
    if name is None:
        raise TypeError(f"CDNA files have no elements of {dtype}")
    return name


def torch_dtype(name: str) -> torch.dtype:
    """torch's type of that name; NotImplementedError where this torch has none.

    >>> torch_dtype("F16")
    torch.float16
    """
    dtype = TORCH_DTYPES.get(name.upper())
    if dtype is None:
        raise NotImplementedError(f"torch {torch.__version__} has no elements of type {name}")
    return dtype


def element_size(dtype: torch.dtype) -> int:
    """Bytes of an element.

    >>> import torch
    >>> element_size(torch.bfloat16)
    2
    """
    return torch.empty((), dtype=dtype).element_size()


def numpy_dtype(dtype: torch.dtype) -> Any | None:
    """numpy's type of the same elements; None where numpy has none.

    >>> import torch
    >>> numpy_dtype(torch.float16), numpy_dtype(torch.bfloat16)
    (dtype('float16'), None)
    """
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except (TypeError, RuntimeError):
        return None


def bits_of(tensor: torch.Tensor) -> Any:
    """A contiguous CPU tensor as an array of the same memory: of its own type, or of unsigned integers of that size
    where numpy has no such type.

    >>> import torch
    >>> bits_of(torch.ones(2, dtype=torch.bfloat16))
    array([16256, 16256], dtype=uint16)
    """
    tensor = tensor.detach()
    if numpy_dtype(tensor.dtype) is not None:
        return tensor.numpy()
    integer, unsigned = _INTEGERS[tensor.element_size()]
    return tensor.view(integer).numpy().view(unsigned)


def tensor_of(array: Any, dtype: torch.dtype) -> torch.Tensor:
    """The inverse of bits_of(): a tensor of `dtype` over the array's memory, which must be writable and contiguous.

    >>> import numpy, torch
    >>> tensor_of(numpy.array([16256, 16256], numpy.uint16), torch.bfloat16)
    tensor([1., 1.], dtype=torch.bfloat16)
    """
    wanted = numpy_dtype(dtype)
    if wanted is not None:
        return torch.from_numpy(array.view(wanted))
    integer, _ = _INTEGERS[array.dtype.itemsize]
    return torch.from_numpy(array.view(torch.empty(0, dtype=integer).numpy().dtype)).view(dtype)
