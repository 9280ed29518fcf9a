"""The package's core with tensors of torch: encoding, packing planes, multiplying."""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Mapping, NamedTuple

import numpy as np
import torch
from torch import Tensor

import cdna

from .. import _core, _matmul
from .._tensor import OUTLIERS
from .dtypes import ENCODABLE, bits_of, name_of, tensor_of, torch_dtype
from .planes import Planes, bits_of_codebook, group_of


class PresetShape(NamedTuple):
    """Bits per code of a preset, and columns per group scale; 0: none."""

    bits: int
    group: int


@functools.lru_cache(maxsize=None)
def preset_shape(preset: str) -> PresetShape:
    """What a preset's planes look like. Raises cdna.ArgumentError where there is no such preset, or it makes no codes.

    >>> preset_shape("cb6g64")
    PresetShape(bits=6, group=64)
    """
    sample = cdna.encode(np.ones((1, 64), np.float32), preset, threads=1)
    return PresetShape(sample.bits, sample.group)


def _own(array: Any) -> Tensor | None:
    """A tensor with a copy of an array's elements; None of none."""
    return None if array is None or array.size == 0 else torch.from_numpy(np.array(array))


# Other types that have every value of a type of outliers.
_WIDER = {"F16": ("F32", "F64"), "BF16": ("F32", "F64"), "F32": ("F64",)}


def _outlier_dtype(tensor: cdna.Tensor) -> str:
    """The type in which a tensor's outliers are stored, which need not be its own; without outliers its own."""
    found = tensor._plane(OUTLIERS)
    return tensor.dtype if found is None else str(found[1]["dtype"])


def _has_exact_outliers(tensor: cdna.Tensor) -> bool:
    """Whether all outliers that there could be are values of the tensor's type, as Planes has them."""
    stored = _outlier_dtype(tensor)
    return stored == tensor.dtype or tensor.dtype in _WIDER.get(stored, ())


def _widened(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values of a smaller type as the decoder widens them (spec/format.md, 13.2)."""
    wide = values.to(dtype)
    if values.dtype == torch.float16 and dtype == torch.float32:
        # What torch makes of the bits of a NaN depends on its version: sign and fraction stay what they are.
        bits = values.view(torch.int16).to(torch.int32)
        nans = ((bits >> 15) << 31) | 0x7F800000 | ((bits & 0x3FF) << 13)
        return torch.where(values.isnan(), nans, wide.view(torch.int32)).view(torch.float32)
    return wide


def _outliers(values: Any, positions: Any, stored: str, dtype: str) -> tuple[Tensor | None, Tensor | None]:
    """Outliers of the type `stored` as such of `dtype`, which has all of its values."""
    if values is None or values.size == 0:
        return None, None
    held = _widened(tensor_of(np.array(values), torch_dtype(stored)), torch_dtype(dtype))
    return held, torch.from_numpy(positions.astype(np.int64))


def _planes(source: Any, outlier_values: Any, outlier_positions: Any, outlier_dtype: str) -> Planes:
    codes, codebook = _own(source.codes), _own(source.codebook)
    if codes is None or codebook is None:
        raise ValueError("there are no codes")
    values, positions = _outliers(outlier_values, outlier_positions, outlier_dtype, source.dtype)
    return Planes(
        codes,
        codebook,
        _own(source.row_scales),
        _own(source.group_scales),
        _own(source.scale_table),
        values,
        positions,
    )


def encode(weight: Tensor, preset: str, threads: int = 0) -> Planes:
    """The planes of a matrix, on the CPU. Raises cdna.ArgumentError, and TypeError for other types than f16, bf16, f32
    and f64.

    >>> import torch
    >>> encode(torch.ones(2, 64), "cb8").codes.shape
    torch.Size([2, 64])
    """
    if weight.dtype not in ENCODABLE:
        raise TypeError(f"codes are made of f16, bf16, f32 and f64, not of {weight.dtype}")
    if weight.dim() != 2:
        raise ValueError(f"a weight of shape {list(weight.shape)} is no matrix")
    encoded = cdna.encode(weight.detach().cpu(), preset, threads=threads)
    return _planes(encoded, encoded.outlier_values, encoded.outlier_positions, encoded.dtype)


def has_planes(tensor: cdna.Tensor) -> bool:
    """Whether planes_of() can give those of a tensor: not where they are of other kinds than Planes has, nor where
    outliers are of a type with values that the tensor's has not. (Such tensors are decoded.)

    >>> import cdna, cdna.torch, torch
    >>> has_planes(cdna.open(cdna.torch.save({"w": torch.ones(2, 2)}))["w"])
    False
    """
    if tensor.encoding != "cdna.codebook" or tensor.ndim != 2:
        return False
    has_table = tensor.group == 0 or tensor.scale_table is not None
    return has_table and tensor._has_plain_planes() and _has_exact_outliers(tensor)


def planes_of(tensor: cdna.Tensor) -> tuple[Planes, int, torch.dtype]:
    """A copy of the planes of a file's tensor, its columns, and the type of its source, which that of the outliers
    becomes. Raises ValueError where has_planes() says no, cdna.CdnaError where the file is damaged.
    """
    if not has_planes(tensor):
        what = f"{tensor.encoding} {tensor.dtype} {list(tensor.shape)}, outliers {_outlier_dtype(tensor)}"
        raise ValueError(f"{tensor.name} is no matrix with a codebook and planes that a layer can have: {what}")
    outliers = tensor.outliers
    assert outliers is not None
    planes = _planes(tensor, outliers.values, outliers.positions, _outlier_dtype(tensor))
    return planes, tensor.cols, torch_dtype(tensor.dtype)


def _bytes(plane: Tensor | None) -> Any:
    return None if plane is None else bits_of(plane.contiguous())


def pack(planes: Planes, rows: int, cols: int, name: str) -> cdna.Tensor:
    """A tensor of a file in private memory, made of a copy of the planes, which are on the CPU with an ascending
    codebook. Raises cdna.ArgumentError.

    >>> import torch
    >>> pack(encode(torch.ones(2, 64), "cb8"), 2, 64, "w").shape
    (2, 64)
    """
    groups = planes.group_scales
    positions = _bytes(planes.outlier_positions)
    dtype = torch.float32 if planes.outlier_values is None else planes.outlier_values.dtype
    file = cdna.pack(
        name_of(dtype),
        (rows, cols),
        bits_of_codebook(planes.codebook.numel()),
        0 if groups is None else group_of(cols, groups.shape[1]),
        _bytes(planes.codebook),
        _bytes(planes.codes),
        _bytes(planes.row_scales),
        _bytes(groups),
        _bytes(planes.scale_table),
        _bytes(planes.outlier_values),
        None if positions is None else positions.view(np.uint64),
        name=name,
    )
    return file[name]


def _view(array: Any) -> Tensor | None:
    """A tensor over an array's memory, which is kept alive. Nobody may write to it, as far as torch can be told: whoever
    changes planes replaces them."""
    if array is None or array.size == 0:
        return None
    # Through an address, since torch warns of arrays that numpy takes for read-only.
    memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array
    with torch.inference_mode(False):
        return torch.from_numpy(np.frombuffer(memory, np.uint8).reshape(array.shape))


def views_of(tensor: cdna.Tensor) -> dict[str, Tensor | None]:
    """The large planes of a packed tensor, over its memory.

    >>> import torch
    >>> views_of(pack(encode(torch.ones(2, 64), "cb8"), 2, 64, "w"))["codes"].shape
    torch.Size([2, 64])
    """
    return {"codes": _view(tensor.codes), "group_scales": _view(tensor.group_scales)}


def file_bytes(tensor: cdna.Tensor) -> memoryview:
    """The file that a packed tensor is in."""
    return tensor.file.buffer


def multiply(tensor: cdna.Tensor, x: Tensor, math: str, *, transposed: bool) -> Tensor:
    """x W^T, or x W, in f32: x [m, inner] f16, bf16 or f32 on the CPU. By as many threads as torch uses. Raises
    cdna.CdnaError.

    >>> import torch
    >>> multiply(pack(encode(torch.ones(2, 64), "cb8"), 2, 64, "w"), torch.ones(1, 64), "f32", transposed=False)
    tensor([[64., 64.]])
    """
    y = torch.empty((x.shape[0], tensor.cols if transposed else tensor.rows), dtype=torch.float32)
    _matmul.multiply(tensor, x.detach(), y, transposed, math, torch.get_num_threads())
    return y


def save(path: Any, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None, policy: Any) -> Any:
    """cdna.save() of tensors that are dense and contiguous, with metadata under the keys that a converted safetensors
    file has. Raises TypeError for types that files have not.
    """
    for name, tensor in tensors.items():
        try:
            name_of(tensor.dtype)
        except TypeError as error:
            raise TypeError(f"{name!r}: {error}") from None
    held = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    notes = {f"safetensors:{key}": value for key, value in (metadata or {}).items()}
    return cdna.save(path, held, policy, metadata=notes)


class Decision(NamedTuple):
    """What becomes of a tensor."""

    preset: str
    role: str
    reason: str


def decide(preset: str, name: str, dtype: str, shape: tuple[int, ...], by_name: bool) -> Decision:
    """What becomes of a tensor for which a preset was asked: by name, or of a whole model (cdna/policy.hpp).

    >>> decide("cb8", "lm_head.weight", "F32", (1000, 512), False).preset
    'exact'
    """
    return Decision(*_core.decide(preset, name, dtype, list(shape), by_name))
