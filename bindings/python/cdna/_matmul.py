"""Products of arrays with tensors: shapes, dtypes, and results of the caller's kind."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import Array, Operand, default_threads, is_torch, numpy_dtype, operand, target
from ._errors import ArgumentError, error

if TYPE_CHECKING:
    from ._tensor import Tensor

MULTIPLIED = ("F32", "F16", "BF16")


def multiply(tensor: Tensor, x: Any, out: Any, transposed: bool, math: str, threads: int) -> Any:
    """x W^T, or x W if `transposed`: [..., inner] -> [..., outer]."""
    given = _factor(x)
    inner, outer = (tensor.rows, tensor.cols) if transposed else (tensor.cols, tensor.rows)
    shape = given.array.shape
    if not shape or shape[-1] != inner:
        message = f"x has shape {list(shape)}: its last axis has to be {inner}"
        raise error(ArgumentError, "bad_argument", message, path=tensor.file.path, tensor=tensor.name)
    shape = (*shape[:-1], outer)
    result, written = _result(x, given.dtype, shape) if out is None else _given(out, shape, tensor)
    count = 1
    for size in shape[:-1]:
        count *= size
    rows = given.array.reshape(count, inner)
    target_rows = written.array.reshape(count, outer)  # Never a copy: _given() has seen to it.
    tensor.file._core.matmul(
        tensor._number, 0, tensor.rows, _whole_strides(rows), given.dtype, target_rows, written.dtype, transposed, math,
        default_threads(threads),
    )  # fmt: skip
    return result


def multiply_columns(tensor: Tensor, x: Any, transposed: bool) -> Any:
    """W x, or W^T x if `transposed`: [inner] -> [outer], [inner, n] -> [outer, n]."""
    ndim = len(x.shape) if hasattr(x, "shape") else np.ndim(x)
    if ndim == 1:
        return multiply(tensor, x, None, transposed, "f32", 0)
    if ndim != 2:
        message = f"x has {ndim} axes: a vector or a matrix is multiplied from the right"
        raise error(ArgumentError, "bad_argument", message, path=tensor.file.path, tensor=tensor.name)
    if isinstance(x, np.ndarray) or is_torch(x):
        return multiply(tensor, x.T, None, transposed, "f32", 0).T
    given = _operand(x)
    return multiply(tensor, Operand(given.array.T, given.dtype), None, transposed, "f32", 0).T


def _operand(x: Any) -> Operand:
    from ._tensor import Transposed

    if isinstance(x, Operand):
        return x
    if isinstance(x, Transposed):
        given = operand(x.T)
        return Operand(given.array.T, given.dtype)
    return operand(x)


def _factor(x: Any) -> Operand:
    """x in a dtype that products take: numbers of other kinds become float32."""
    given = _operand(x)
    if given.dtype in MULTIPLIED:
        return given
    if given.dtype not in ("BOOL", "C64") and np.issubdtype(given.array.dtype, np.number) and given.dtype[:2] != "F8":
        return Operand(given.array.astype(np.float32), "F32")
    message = f"x has elements of {given.dtype}: products take float16, bfloat16 and float32"
    raise error(ArgumentError, "bad_argument", message)


def _whole_strides(rows: Array) -> Array:
    """`rows` itself where its strides are whole elements, as those of all but odd views are."""
    item = rows.itemsize
    return rows if all(stride % item == 0 for stride in rows.strides) else rows.copy()


def _result(x: Any, dtype: str, shape: tuple[int, ...]) -> tuple[Any, Operand]:
    """A new array of the kind of `x`, and its memory."""
    if is_torch(x):
        import torch

        kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
        made = torch.empty(shape, dtype=kind)
        return made, operand(made)
    array = np.empty(shape, numpy_dtype(dtype))
    return array, operand(array)


def _given(out: Any, shape: tuple[int, ...], tensor: Tensor) -> tuple[Any, Operand]:
    if isinstance(out, type(tensor)):
        raise error(ArgumentError, "bad_argument", "out is a tensor of a file", tensor=tensor.name)
    try:
        written = target(out)
    except ArgumentError as reason:
        raise error(ArgumentError, "bad_argument", reason.message, tensor=tensor.name) from None
    if written.array.shape != shape or written.dtype not in MULTIPLIED:
        message = f"out is {written.dtype} {list(written.array.shape)}: it has to be F32, F16 or BF16 {list(shape)}"
        raise error(ArgumentError, "bad_argument", message, tensor=tensor.name)
    if not written.array.flags.writeable or (written.array.ndim != 2 and not written.array.flags.c_contiguous):
        raise error(ArgumentError, "bad_argument", "out is not writable, or has gaps", tensor=tensor.name)
    return out, written
