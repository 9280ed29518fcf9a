"""The compressor without a file, and files of planes that exist already."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _core
from ._arrays import NUMPY_DTYPES, Array, bits_dtype, contiguous, default_threads, numpy_dtype, operand
from ._errors import ArgumentError, CdnaError, error
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

    Planes are of the dtypes that Encoded has; other integers and floats are converted where no value is changed or only
    rounded to float32. The file's planes (codes, row_scales, ...) are views of its memory, and File.buffer is the whole of it.
    Planes are copied once. Raises ArgumentError (what is wrong with which plane).

    >>> import cdna, numpy
    >>> e = cdna.encode(numpy.ones((4, 64), "float32"))
    >>> f = cdna.pack("F32", (4, 64), e.bits, e.group, e.codebook, e.codes, e.row_scales)
    >>> float(f["weight"].numpy().max())
    1.0
    """

    core = _core.pack(
        dtype, list(shape), bits, group, _given_plane("codebook", codebook, np.float32), _given_plane("codes", codes, np.uint8),
        _given_plane("row_scales", row_scales, np.float32), _given_plane("group_scales", group_scales, np.uint8),
        _given_plane("scale_table", scale_table, np.float32), _given_outliers(outlier_values, dtype),
        _given_plane("outlier_positions", outlier_positions, np.uint64), name,
    )  # fmt: skip
    return File(core)


def _given_plane(name: str, value: Any, kind: type[np.generic]) -> Array | None:
    """A plane of a caller as `kind`, flat: of integers the same numbers, of floats the nearest ones."""
    if value is None:
        return None
    given = operand(value)
    array, wanted = given.array, np.dtype(kind)
    integers = wanted.kind == "u" and array.dtype.kind == "i"
    if array.size and (given.dtype not in NUMPY_DTYPES or not (integers or np.can_cast(array.dtype, wanted, "same_kind"))):
        raise _bad_plane(name, f"are {given.dtype}: they have to be {wanted}")
    if wanted.kind == "u" and array.size and not 0 <= int(array.min()) <= int(array.max()) <= np.iinfo(wanted).max:
        raise _bad_plane(name, f"are from {array.min()} to {array.max()}: they have to be {wanted}")
    return contiguous(array.astype(wanted, copy=False)).reshape(-1)


def _given_outliers(value: Any, dtype: str) -> Array | None:
    if value is None:
        return None
    given = operand(value)
    bits = dtype not in NUMPY_DTYPES and given.array.dtype == bits_dtype(dtype) and given.dtype in ("U8", "U16")
    if given.array.size and given.dtype != dtype and not bits:
        raise _bad_plane("outlier_values", f"are {given.dtype}: they have to be {dtype}, as the tensor")
    return contiguous(given.array).reshape(-1)


def _bad_plane(name: str, message: str) -> CdnaError:
    return error(ArgumentError, "bad_argument", f"{name} {message}")
