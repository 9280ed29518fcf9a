"""Arrays of other libraries: which dtype of the format they have, and memory that the extension module understands."""
from __future__ import annotations

import functools
import operator
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from ._errors import ArgumentError, error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray

# Names of dtypes are those of safetensors.
NUMPY_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip
ML_DTYPES = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
BITS = {"BF16": 16, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
NAMES = {**{numpy: name for name, numpy in NUMPY_DTYPES.items()}, **{ml: name for name, ml in ML_DTYPES.items()}}
# In NumPy these are float32, int64 and uint64: sizes in bytes. In capitals they are the format's, with sizes in bits.
NUMPYS_OWN = frozenset(("f4", "i8", "u8"))
FLOATS = frozenset(("F16", "BF16", "F32", "F64"))


def is_packed(name: str) -> bool:
    """Whether elements are smaller than a byte, so that arrays hold the packed bytes of rows."""
    return name in ("F4", "F6_E2M3", "F6_E3M2")


@functools.cache
def bits_dtype(name: str) -> np.dtype[Any]:
    """NumPy's own dtype of the same size: of what NumPy does not know, the bits."""
    if name in NUMPY_DTYPES:
        return np.dtype(NUMPY_DTYPES[name])
    return np.dtype("uint16" if name == "BF16" else "uint8")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of arrays: ml_dtypes' for bf16 and f8 where that package is installed, else bits_dtype()."""
    if name in ML_DTYPES:
        try:
            import ml_dtypes
        except ImportError:
            return bits_dtype(name)
        kind = getattr(ml_dtypes, ML_DTYPES[name], None)  # Old versions have fewer.
        return bits_dtype(name) if kind is None else np.dtype(kind)
    return bits_dtype(name)


def name_of_dtype(dtype: Any) -> str:
    """The format's name for what a caller calls a dtype: "F32", "float32", np.float32, ml_dtypes.bfloat16, torch.bfloat16."""
    if isinstance(dtype, np.dtype):
        return _name_of_numpy(dtype)
    if isinstance(dtype, str) and dtype not in NUMPYS_OWN:
        if dtype.upper() in NUMPY_DTYPES or dtype.upper() in ML_DTYPES or is_packed(dtype.upper()):
            return dtype.upper()
        if dtype in NAMES:
            return NAMES[dtype]
    text = str(dtype)
    if text.startswith("torch.") and text[6:] in NAMES:
        return NAMES[text[6:]]
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise error(ArgumentError, "bad_argument", f"{dtype!r} is no dtype of the format") from None
    return _name_of_numpy(found)


@functools.cache
def _name_of_numpy(found: np.dtype[Any]) -> str:
    if found.name in NAMES:
        return NAMES[found.name]
    raise error(ArgumentError, "bad_argument", f"{found} is no dtype of the format")


class Operand(NamedTuple):
    """An array as the extension module takes it: `array` has NumPy's own dtype (bits_dtype), `dtype` says what it means."""

    array: Array
    dtype: str


def is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def operand(value: Any) -> Operand:
    """Memory of a NumPy array, of anything with DLPack (torch), with a buffer, or that np.asarray() takes; not copied where
    that can be."""
    if isinstance(value, np.ndarray):
        return _numpy_operand(value)
    if hasattr(value, "__dlpack__"):
        return _dlpack_operand(value)
    return _numpy_operand(np.asarray(value))


def target(out: Any) -> Operand:
    """The memory of what a result is to be written into: an array, DLPack or a buffer; never of a copy."""
    lazily = is_torch(out) and ((out.is_complex() and out.is_conj()) or out.is_neg())
    if lazily or not (isinstance(out, np.ndarray) or hasattr(out, "__dlpack__")):
        try:
            out = np.asarray(memoryview(out))
        except (TypeError, BufferError, ValueError):
            message = f"out is {type(out).__name__} without memory to write into: it has to be an array, or a buffer"
            raise error(ArgumentError, "bad_argument", message) from None
    if isinstance(out, np.ndarray) and not out.dtype.isnative:
        raise error(ArgumentError, "bad_argument", f"out is {out.dtype.str}: its byte order has to be the machine's")
    return operand(out)


def _numpy_operand(array: Array) -> Operand:
    name = _name_of_numpy(array.dtype)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    bits = bits_dtype(name)
    return Operand(array if array.dtype == bits else array.view(bits), name)


def _dlpack_operand(value: Any) -> Operand:
    device, _ = value.__dlpack_device__()
    if device not in (1, 3):
        message = f"the array is on device type {int(device)} of DLPack, not in the memory of the CPU: copy it there first"
        raise error(ArgumentError, "bad_argument", message)
    if is_torch(value):
        value = value.detach()
        if value.dtype == sys.modules["torch"].bool:  # DLPack of older versions of torch has no bool.
            return Operand(operand(value.view(sys.modules["torch"].uint8)).array.view(np.bool_), "BOOL")
        for lazy in ("resolve_conj", "resolve_neg"):  # DLPack knows memory alone, not what torch means by it.
            value = getattr(value, lazy)() if hasattr(value, lazy) else value
    imported = _core.from_dlpack(value.__dlpack__())
    return Operand(np.asarray(imported), imported.dtype)


def contiguous(array: Array) -> Array:
    """Row-major without gaps. Unlike np.ascontiguousarray(), of rank 0 too."""
    return array if array.flags.c_contiguous else array.copy(order="C")


def integer(name: str, value: Any, largest: int = 2**64 - 1) -> int:
    """An argument that is a number from 0 on."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {type(value).__name__}: it has to be an int") from None
    if not 0 <= number <= largest:
        raise error(ArgumentError, "bad_argument", f"{name} is {number}: it has to be from 0 to {largest}")
    return number


def default_threads(threads: int) -> int:
    """Checks a number of threads; 0 is one per core."""
    return integer("threads", threads, 2**31 - 1)
