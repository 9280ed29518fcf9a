"""The compressor without a file, and files of planes that exist already."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _core
from ._arrays import Array, bits_dtype, contiguous, default_threads, numpy_dtype, operand
from ._errors import ArgumentError, error
from ._file import File


class Encoded:
    """A matrix as codes: made by encode(). Planes are read-only views of its memory.

    `codebook` [2**bits] float32; `codes` [rows, ceil(cols * bits / 8)] uint8, packed below 8 bits; `row_scales` [rows]
    float32; `group_scales` [rows, ceil(cols / group)] uint8, numbers of `scale_table` [256] float32 (None without groups);
    `outlier_values` in the dtype of the source and `outlier_positions` uint64, in the row-major matrix.
    """

    def __init__(self, core: Any, shape: tuple[int, ...]) -> None:
        self._core = core
        self.shape = shape
        self.dtype: str = core.dtype
        self.bits: int = core.bits
        self.group: int = core.group
        self.nbytes: int = core.payload_bytes
        self.bits_per_weight: float = core.bits_per_weight
        self.max_abs_error: float = core.max_abs_error

    def _plane(self, name: str, kind: np.dtype[Any] | type[Any]) -> Array:
        return np.frombuffer(self._core.plane(name), kind)

    @property
    def codebook(self) -> Array:
        return self._plane("codebook", np.float32)

    @property
    def codes(self) -> Array:
        return self._plane("codes", np.uint8).reshape(self._core.rows, -1)

    @property
    def row_scales(self) -> Array:
        return self._plane("row_scales", np.float32)

    @property
    def group_scales(self) -> Array | None:
        return self._plane("group_scales", np.uint8).reshape(self._core.rows, -1) if self.group else None

    @property
    def scale_table(self) -> Array | None:
        return self._plane("scale_table", np.float32) if self.group else None

    @property
    def outlier_values(self) -> Array:
        return self._plane("outlier_values", bits_dtype(self.dtype)).view(numpy_dtype(self.dtype))

    @property
    def outlier_positions(self) -> Array:
        return self._plane("outlier_positions", np.uint64)

    @property
    def snr_db(self) -> float:
        """Of the source's values to the error; infinite without error."""
        noise, signal = self._core.sum_squared_error, self._core.sum_squares
        return math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal > 0 else math.nan

    def decode(self) -> Array:
        """The values as a file's reader would give them: float32, in the shape of the source.

        >>> import cdna, numpy
        >>> float(cdna.encode(numpy.ones((4, 64), "float32"), "cb8").decode().max())
        1.0
        """
        out = np.empty(self.shape, np.float32)
        self._core.decode(out.reshape(-1))
        return out

    def __repr__(self) -> str:
        return f"<cdna.Encoded {list(self.shape)} {self.bits_per_weight:.3f} bits per weight, {self.snr_db:.2f} dB>"


def encode(array: Any, preset: str = "cb8", *, nonfinite: str = "refuse", threads: int = 0) -> Encoded:
    """Compresses a matrix as a file's writer would: [rows, ...] of float16, bfloat16, float32 or float64.

    preset: "cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", with parameters ("cb8,class=pwl16"). nonfinite: "refuse", or
    "exact", which keeps NaN and infinity as outliers. The result does not depend on threads (0: one per core). Raises
    ArgumentError.

    >>> import cdna, numpy
    >>> cdna.encode(numpy.random.default_rng(1).normal(size=(64, 256)).astype("float32"), "cb4g32").bits
    4
    """
    if nonfinite not in ("refuse", "exact"):
        raise error(ArgumentError, "bad_argument", f'nonfinite is {nonfinite!r}: "refuse" or "exact"')
    given = operand(array)
    shape = given.array.shape
    rows = shape[0] if len(shape) > 1 else 1
    cols = given.array.size // rows if rows else 0
    data = contiguous(given.array).reshape(-1).view(np.uint8)
    core = _core.encode(data, given.dtype, rows, cols, preset, nonfinite == "exact", default_threads(threads))
    return Encoded(core, tuple(shape))


def pack(
    dtype: str,
    shape: tuple[int, ...],
    bits: int,
    group: int,
    codebook: Any,
    codes: Any,
    row_scales: Any = None,
    group_scales: Any = None,
    scale_table: Any = None,
    outlier_values: Any = None,
    outlier_positions: Any = None,
    name: str = "weight",
) -> File:
    """A file in private memory with one tensor of planes that exist already: those of Encoded, or of another quantiser.

    Its planes (codes, row_scales, ...) are views of that memory, and File.buffer is the whole file. Planes are copied once.
    Raises ArgumentError (what is wrong with which plane).

    >>> import cdna, numpy
    >>> e = cdna.encode(numpy.ones((4, 64), "float32"))
    >>> f = cdna.pack("F32", (4, 64), e.bits, e.group, e.codebook, e.codes, e.row_scales)
    >>> float(f["weight"].numpy().max())
    1.0
    """

    def plane(value: Any, kind: Any) -> Any:
        if value is None:
            return None
        array = operand(value).array
        return contiguous(array if kind is None else array.astype(kind, copy=False)).reshape(-1)

    core = _core.pack(
        dtype, list(shape), bits, group, plane(codebook, np.float32), plane(codes, np.uint8), plane(row_scales, np.float32),
        plane(group_scales, np.uint8), plane(scale_table, np.float32), plane(outlier_values, None),
        plane(outlier_positions, np.uint64), name,
    )  # fmt: skip
    return File(core)
