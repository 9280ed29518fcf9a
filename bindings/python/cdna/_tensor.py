"""Tensors of an open file: figures at once, values when they are asked for."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from . import _matmul
from ._arrays import (
    FLOATS,
    NUMPY_DTYPES,
    Array,
    bits_dtype,
    default_threads,
    integer,
    is_packed,
    name_of_dtype,
    numpy_dtype,
)
from ._core import to_dlpack
from ._errors import ArgumentError, UnsupportedError, error

if TYPE_CHECKING:
    from ._file import File

# Roles of planes (spec/format.md, 13).
DATA, CODES, CODEBOOK, ROW_SCALE, GROUP_SCALE, SCALE_TABLE, OUTLIERS, GROUP_OFFSET = range(1, 9)
LOW_RANK_LEFT, LOW_RANK_FACTORS, LOW_RANK_RIGHT, COLUMN_SCALE = range(14, 18)
CONTIGUOUS = 0  # Layout of a plane.
ITERATED_BYTES = 1 << 20


class TensorError(NamedTuple):
    """How far a tensor is from its source. Sums are over all values; infinite or NaN where they are not recorded."""

    sum_squares: float  # Of the source's values; 0 for exact tensors.
    sum_squared_error: float
    max_abs: float  # An upper bound of |source - decoded|.

    @property
    def snr_db(self) -> float:
        """10 log10(sum_squares / sum_squared_error); infinite without error."""
        if self.sum_squared_error == 0:
            return math.inf
        if not (math.isfinite(self.sum_squares) and math.isfinite(self.sum_squared_error)) or self.sum_squares == 0:
            return math.nan
        return 10 * math.log10(self.sum_squares / self.sum_squared_error)

    @property
    def relative(self) -> float:
        """sqrt(sum_squared_error / sum_squares); 0 without error."""
        if self.sum_squared_error == 0:
            return 0.0
        if not (math.isfinite(self.sum_squares) and math.isfinite(self.sum_squared_error)) or self.sum_squares == 0:
            return math.nan
        return math.sqrt(self.sum_squared_error / self.sum_squares)


class Outliers(NamedTuple):
    """Values that are kept exactly: `values` mostly in the tensor's dtype, `positions` in the row-major matrix, ascending."""

    values: Array
    positions: Array


class LowRank(NamedTuple):
    """A matrix of low rank r, (left * factors) @ right: `left` [rows, r], `factors` [r], `right` [r, cols], float32."""

    left: Array
    factors: Array
    right: Array


class HasDlpack(Protocol):
    def __dlpack__(self) -> object: ...


class _Operators:
    """What NumPy's functions and operators do: products are multiplied here, all else is done with decoded values."""

    __array_priority__ = 1000.0

    def _values(self) -> Array:
        raise NotImplementedError

    def __matmul__(self, x: Any) -> Any:
        raise NotImplementedError

    def __rmatmul__(self, x: Any) -> Any:
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc is np.matmul and method == "__call__" and not options:
            left, right = inputs
            return right.__rmatmul__(left) if isinstance(right, _Operators) else left.__matmul__(right)
        if any(isinstance(given, _Operators) for given in (*options.get("out", ()), options.get("where"))):
            raise TypeError("tensors of files are no outputs and no masks")
        values = [given._values() if isinstance(given, _Operators) else given for given in inputs]
        return getattr(ufunc, method)(*values, **options)


class Tensor(_Operators):
    """A tensor of a file. Made by File[name]; keeps the file open for as long as it lives.

    `name`, `shape`, `dtype` (of the source, as safetensors spells it: "F32", "BF16"), `encoding` ("cdna.exact",
    "cdna.codebook"), `role` ("matrix", "embedding", ...), `rows` and `cols` of the matrix that the format sees.

    >>> import cdna, numpy
    >>> t = cdna.open(cdna.numpy.save({"w": numpy.arange(6, dtype="float32").reshape(2, 3)}))["w"]
    >>> t.shape, t.dtype, t[1:].tolist()
    ((2, 3), 'F32', [[3.0, 4.0, 5.0]])
    """

    def __init__(self, file: File, name: str, number: int) -> None:
        self.file = file
        self.name = name
        self._number = number
        described = file._core.describe(number)
        self.shape: tuple[int, ...] = described["shape"]
        self.dtype: str = described["dtype"]
        self.encoding: str = described["encoding"]
        self.role: str = described["role"]
        self.rows: int = described["rows"]
        self.cols: int = described["cols"]
        self.stored_nbytes: int = described["stored_bytes"]
        self._described = described
        self._planes: list[dict[str, Any]] | None = None

    # ---- Figures ----

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a tensor of rank 0")
        return self.shape[0]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of numpy() and t[...]: NumPy's own; of bf16 and f8 that of ml_dtypes where it is installed, else uint16
        and uint8, which hold the bits; of f4 and f6 uint8, which holds the packed bytes of rows."""
        return numpy_dtype(self.dtype)

    @property
    def nbytes(self) -> int:
        """Of the source, decoded."""
        return int(self._described["source_bytes"])

    @property
    def bits_per_weight(self) -> float:
        """8 * stored_nbytes / size; NaN without elements."""
        return 8 * self.stored_nbytes / self.size if self.size else math.nan

    @property
    def error(self) -> TensorError:
        """How far the values are from the source: recorded when the file was written."""
        d = self._described
        return TensorError(d["sum_squares"], d["sum_squared_error"], d["max_abs_error"])

    @property
    def source_digest(self) -> bytes | None:
        """SHA-256 of the source's bytes (spec/format.md, 4), 32 bytes; None where it is unknown."""
        digest = bytes(self._described["source_digest"])
        return digest if any(digest) else None

    @property
    def statistics(self) -> dict[str, float]:
        """outlier_count, excess_kurtosis, code_entropy_bits; NaN: not recorded. Raises CorruptError, FileError."""
        return self.file._core.tensor_statistics(self._number)

    # ---- Values ----

    def numpy(self, dtype: Any = None, out: Any = None, threads: int = 0) -> Array:
        """All values, decoded and verified, in an array that owns its memory.

        dtype: numpy_dtype without it; tensors of floats as "float16", "bfloat16", "float32" or "float64" too. out: an array
        of that dtype (or unsigned integers of its size) and shape, or any other buffer of as many bytes, writable and
        contiguous; the array returned is over it. threads: 0 is one per core; the result does not depend on it. Raises
        CorruptError, FileError, UnsupportedError, ArgumentError.

        >>> import cdna, numpy
        >>> t = cdna.open(cdna.numpy.save({"w": numpy.ones((2, 2), "float16")}))["w"]
        >>> float(t.numpy("float32").sum())
        4.0
        """
        return self._decode(0, self.rows, self._array_shape(dtype), dtype, out, threads)

    def _array_shape(self, dtype: Any) -> tuple[int, ...]:
        if dtype is None and is_packed(self.dtype):
            return (self.rows, self.file._core.row_bytes(self._number, self.dtype))
        return self.shape

    def _decode(
        self, begin: int, end: int, shape: tuple[int, ...], dtype: Any = None, out: Any = None, threads: int = 0
    ) -> Array:
        name = self.dtype if dtype is None else name_of_dtype(dtype)
        kind = numpy_dtype(name)
        values = np.empty(shape, kind) if out is None else self._over(out, shape, kind)
        self.file._core.read_rows(self._number, begin, end, name, values.reshape(-1).view(np.uint8), default_threads(threads))
        return values

    def _over(self, out: Any, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
        """`out` as an array of that shape."""
        if isinstance(out, np.ndarray):
            if not out.flags.c_contiguous or not out.flags.writeable:
                raise error(ArgumentError, "bad_argument", "out is not contiguous and writable", tensor=self.name)
            bits = np.dtype(f"u{kind.itemsize}") if kind.kind != "c" else kind
            if out.shape != shape or out.dtype not in (kind, bits):
                message = f"out is {out.dtype.str} {list(out.shape)}: it has to be {kind} {list(shape)}, or its bits as {bits}"
                raise error(ArgumentError, "bad_argument", message, tensor=self.name)
            flat = out.reshape(-1).view(np.uint8) if out.size else np.empty(0, np.uint8)
        else:
            memory = memoryview(out)
            if memory.readonly or not memory.c_contiguous:
                raise error(ArgumentError, "bad_argument", "out is not contiguous and writable", tensor=self.name)
            flat = np.frombuffer(memory.cast("B"), np.uint8) if memory.nbytes else np.empty(0, np.uint8)
        wanted = math.prod(shape) * kind.itemsize
        if flat.nbytes != wanted:
            message = f"out has {flat.nbytes} bytes instead of {wanted}"
            raise error(ArgumentError, "bad_argument", message, tensor=self.name)
        return flat.view(kind).reshape(shape)

    def view(self) -> Array:
        """All values of an exact tensor where they lie in the file: read-only, verified, not copied. While it lives the file
        cannot be closed. Raises UnsupportedError where that cannot be (codes, compressed, strict, not in memory);
        CorruptError, FileError.

        >>> import cdna, numpy
        >>> t = cdna.open(cdna.numpy.save({"w": numpy.ones((2, 2), "float32")}))["w"]
        >>> t.view().flags.owndata
        False
        """
        view = self._place()
        if view is None:
            raise error(UnsupportedError, "unsupported", "the values do not lie in memory as they are", tensor=self.name)
        return view

    def _place(self) -> Array | None:
        if self.encoding != "cdna.exact":
            return None
        if not self.size:
            return np.empty(self._array_shape(None), self.numpy_dtype)
        place = self.file._core.plane_view(self._number, 0) if self._plane_infos()[0]["layout"] == CONTIGUOUS else None
        if place is None:
            return None
        return np.frombuffer(memoryview(place), bits_dtype(self.dtype)).view(self.numpy_dtype).reshape(self._array_shape(None))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """np.asarray(t): a decoded copy; with another dtype than numpy_dtype the values, converted. With copy=False the view(),
        or ValueError where there is none."""
        if copy is False:
            view = self._place()
            if view is None or (dtype is not None and np.dtype(dtype) != view.dtype):
                raise ValueError("the values have to be copied: they are not stored as they are asked for")
            return view
        if dtype is None:
            return self.numpy()
        wanted = np.dtype(dtype)
        if wanted == self.numpy_dtype:
            return self.numpy()
        if not self._is_float():
            return self.numpy().astype(wanted)
        try:
            name = name_of_dtype(wanted)
        except ArgumentError:
            name = ""
        if name in FLOATS and wanted.isnative:
            return self.numpy(dtype=name)
        # By way of float32, which has all values of smaller floats: their arrays may hold bits.
        return self.numpy("F64" if self.dtype == "F64" else "F32").astype(wanted)

    def _values(self) -> Array:
        """Numbers: float32 of what numpy() gives as bits."""
        bits = self._is_float() and self.dtype not in NUMPY_DTYPES and self.numpy_dtype == bits_dtype(self.dtype)
        return self.numpy("F32" if bits else None)

    def _is_float(self) -> bool:
        return self.dtype in FLOATS or self.dtype.startswith(("F8", "F6", "F4"))

    def __getitem__(self, key: Any) -> Array:
        """Values as NumPy's indexing gives them: of the first axis only the rows that are needed are decoded; with a step,
        those between its first and its last.

        Raises IndexError, and what numpy() raises. Packed dtypes (f4, f6) have bytes of rows instead of elements.
        """
        keys = key if isinstance(key, tuple) else (key,)
        shape = self._array_shape(None)
        if not shape or not keys or self.rows % shape[0] if shape and shape[0] else True:
            return self._whole(key)
        first, length = keys[0], shape[0]
        picked = range(0)
        if isinstance(first, slice):
            picked = range(*first.indices(length))
            begin, end = (min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1) if picked else (0, 0)
            stop = picked.stop - begin
            inner: Any = slice(picked.start - begin, None if stop < 0 else stop, picked.step) if picked else slice(0, 0)
        elif isinstance(first, (int, np.integer)) and not isinstance(first, (bool, np.bool_)):
            at = int(first)
            if not -length <= at < length:
                raise IndexError(f"index {at} is out of bounds for axis 0 with size {length}")
            begin = at % length
            end, inner = begin + 1, 0
        else:
            return self._whole(key)
        rows_each = self.rows // length
        part = self._decode(begin * rows_each, end * rows_each, (end - begin, *shape[1:]))
        inner_keys = (inner, *keys[1:])
        found: Array = part[inner_keys]
        # With a step, the rows between do not live on as its base.
        return found.copy() if isinstance(inner, slice) and abs(picked.step) > 1 else found

    def _whole(self, key: Any) -> Array:
        found: Array = self.numpy()[key]
        return found

    def __iter__(self) -> Iterator[Any]:
        """t[0], t[1], ...: decoded by about 1 MiB at a time."""
        if not self.shape:
            raise TypeError("iteration over a tensor of rank 0")
        return self._parts()

    def _parts(self) -> Iterator[Any]:
        length = self.shape[0]
        step = max(1, ITERATED_BYTES * length // max(1, self.nbytes))
        for begin in range(0, length, step):
            yield from self[begin : begin + step]

    # ---- Planes ----

    def _plane_infos(self) -> list[dict[str, Any]]:
        if self._planes is None:
            self._planes = self.file._core.planes(self._number)
        return self._planes

    def _plane(self, role: int) -> tuple[int, dict[str, Any]] | None:
        for number, plane in enumerate(self._plane_infos()):
            if plane["role"] == role:
                return number, plane
        return None

    def _plane_array(self, role: int, flat: bool = False) -> Array | None:
        """The elements of a plane, [rows, entries] or [rows * entries] (of smaller ones whole bytes): in place where it is raw,
        else a copy."""
        found = self._plane(role)
        if found is None:
            return None
        number, plane = found
        kind = bits_dtype(plane["dtype"]) if plane["dtype"] and plane["bits"] % 8 == 0 else np.dtype(np.uint8)
        row_bytes = -(-plane["row_entries"] * plane["bits"] // 8)
        shape: tuple[int, ...] = (plane["rows"], row_bytes // kind.itemsize)
        shape = (math.prod(shape),) if flat else shape
        place = self.file._core.plane_view(self._number, number) if plane["layout"] == CONTIGUOUS else None
        if place is not None and len(place):
            return np.frombuffer(memoryview(place), kind).reshape(shape)
        out = np.empty(shape, kind)
        self.file._core.read_plane(self._number, number, out.reshape(-1).view(np.uint8))
        out.flags.writeable = False
        return out

    @property
    def bits(self) -> int | None:
        """Bits of a code; None without codes."""
        found = self._plane(CODES)
        return found[1]["bits"] if found else None

    @property
    def group(self) -> int:
        """How many values share a group scale; 0 without group scales."""
        found = self._plane(GROUP_SCALE)
        return int(found[1]["group"]) if found else 0

    @property
    def vector(self) -> int:
        """How many values of a row a code stands for: 1, of some imported tensors 2 or 4."""
        found = self._plane(CODES)
        return int(found[1]["vector"]) if found else 1

    @property
    def codebook(self) -> Array | None:
        """[2**bits] float32, ascending; of codes for several values [2**bits, vector]. None of exact tensors. Read-only, like
        all planes; in place where it is stored as f32, else a copy (flags.owndata tells). Planes raise CorruptError, FileError, UnsupportedError."""
        found = self._plane(CODEBOOK)
        if found is None:
            return None
        if found[1]["dtype"] == "F32":
            entries = self._plane_array(CODEBOOK, flat=True)
            assert entries is not None
        else:
            entries = np.frombuffer(self.file._core.codebook(self._number), np.float32).copy()
            entries.flags.writeable = False
        return entries if self.vector == 1 else entries.reshape(-1, self.vector)

    @property
    def codes(self) -> Array | None:
        """[rows, ceil(cols / vector * bits / 8)] uint8: with 8 bits the codes, else packed, least significant bits first,
        each row in whole bytes. None of exact tensors. In place where it is raw."""
        return self._plane_array(CODES)

    @property
    def row_scales(self) -> Array | None:
        """[rows] float32; None where there are none. In place where it is raw."""
        return self._plane_array(ROW_SCALE, flat=True)

    @property
    def group_scales(self) -> Array | None:
        """[rows, ceil(cols / group)]: numbers of scale_table (uint8), or scales (float16, float32; bf16 its bits); or None."""
        return self._plane_array(GROUP_SCALE)

    @property
    def scale_table(self) -> Array | None:
        """[256] float32: what the numbers in group_scales mean; or None."""
        table = self._plane_array(SCALE_TABLE, flat=True)
        return None if table is None else table.astype(np.float32, copy=False)

    @property
    def scales(self) -> Array | None:
        """What decoded values are multiplied by, as float32: [rows, groups] with group scales, [rows, 1] without; or None."""
        rows, groups, table = self.row_scales, self.group_scales, self.scale_table
        if groups is None:
            return None if rows is None else rows.reshape(-1, 1)
        factors = table[groups] if table is not None else self._widened(GROUP_SCALE)
        assert factors is not None
        return factors if rows is None else factors * rows[:, None]

    def _widened(self, role: int) -> Array | None:
        """A plane of floats as float32."""
        found, entries = self._plane(role), self._plane_array(role)
        if found is None or entries is None:
            return None
        if found[1]["dtype"] == "BF16":
            return (entries.astype(np.uint32) << 16).view(np.float32)
        return entries.astype(np.float32, copy=False)

    def _has_plain_planes(self) -> bool:
        """Whether there is nothing but codes for one value each, scales of rows and groups of 32 or more, and outliers."""
        further = (GROUP_OFFSET, LOW_RANK_LEFT, COLUMN_SCALE)
        return self.vector == 1 and self.group != 16 and not any(map(self._plane, further))

    @property
    def group_offsets(self) -> Array | None:
        """[rows, ceil(cols / group)] float32: what is added to scaled values; or None."""
        return self._widened(GROUP_OFFSET)

    @property
    def low_rank(self) -> LowRank | None:
        """The matrix (left * factors) @ right that is added to all values, outliers too; or None. Sums are made in one chain of
        fused operations per value (spec/format.md, 13.2)."""
        left, factors = self._plane_array(LOW_RANK_LEFT), self._plane_array(LOW_RANK_FACTORS, flat=True)
        right = self._plane_array(LOW_RANK_RIGHT, flat=True)
        if left is None or factors is None or right is None:
            return None
        return LowRank(left, factors, right.reshape(factors.size, -1))

    @property
    def column_scales(self) -> Array | None:
        """[cols] float32: what all values are divided by at last; or None."""
        return self._plane_array(COLUMN_SCALE, flat=True)

    @property
    def outliers(self) -> Outliers | None:
        """Outliers(values [n], positions [n] uint64), copied: they lie by blocks. None of exact tensors."""
        if self.encoding != "cdna.codebook":
            return None
        values, positions = self.file._core.outliers(self._number)
        found = self._plane(OUTLIERS)
        dtype = str(found[1]["dtype"]) if found else self.dtype
        array = np.frombuffer(values, bits_dtype(dtype)).view(numpy_dtype(dtype))
        return Outliers(array, np.frombuffer(positions, np.uint64))

    # ---- Products ----

    def matmul(self, x: Any, out: Any = None, *, math: str = "f32", threads: int = 0) -> Any:
        """x W^T, W being this tensor as a matrix [rows, cols]: [..., cols] -> [..., rows]. W is decoded block by block.

        x: float16, bfloat16 or float32 (other numbers become float32), in NumPy or torch on the CPU; the result is of the
        same kind and dtype; gradients are not recorded (cdna.torch has modules that do). out: an array, or a buffer, in the
        machine's byte order, for the result. math: "f32", "bf16" or "int8" (cdna/matmul.hpp says what these cost in
        accuracy). threads: 0 is one per core. Ctrl-C waits for the end. Raises ArgumentError, UnsupportedError, CorruptError,
        FileError.

        >>> import cdna, numpy
        >>> w = numpy.arange(6, dtype="float32").reshape(2, 3)
        >>> cdna.open(cdna.numpy.save({"w": w}))["w"].matmul(numpy.ones(3, "float32"))
        array([ 3., 12.], dtype=float32)
        """
        return _matmul.multiply(self, x, out, False, math, threads)

    def __rmatmul__(self, x: Any) -> Any:
        """x @ t: x W."""
        self._need_matrix()
        return _matmul.multiply(self, x, None, True, "f32", 0)

    def __matmul__(self, x: Any) -> Any:
        """t @ x: W x, for x [cols] or [cols, n]."""
        self._need_matrix()
        return _matmul.multiply_columns(self, x, False)

    @property
    def T(self) -> Transposed:  # noqa: N802
        """The transpose, for products: x @ t.T is t.matmul(x). np.asarray(t.T) decodes."""
        self._need_matrix()
        return Transposed(self)

    def _need_matrix(self) -> None:
        if self.ndim != 2:
            message = f"a product with a tensor of rank {self.ndim}: matmul() takes it as a matrix [{self.rows}, {self.cols}]"
            raise error(ArgumentError, "bad_argument", message, tensor=self.name)

    # ---- The rest ----

    def verify(self) -> None:
        """Checks the digest of every block. Raises CorruptError, FileError."""
        self.file.verify([self.name])

    def prefetch(self, begin: int = 0, end: int | None = None) -> None:
        """Has the system read rows [begin, end) of the matrix ahead; returns at once."""
        self.file._core.prefetch(self._number, *self._range(begin, end))

    def evict(self, begin: int = 0, end: int | None = None) -> None:
        """Gives the memory of rows [begin, end) of the matrix back; they are read again when they are needed."""
        self.file._core.evict(self._number, *self._range(begin, end))

    def _range(self, begin: int, end: int | None) -> tuple[int, int]:
        return integer("begin", begin), self.rows if end is None else integer("end", end)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """The values as a DLPack capsule: a decoded copy; with copy=False the view(), read-only, or BufferError."""
        if dl_device is not None and tuple(dl_device) != (1, 0):
            raise BufferError("the values are in the memory of the CPU")
        versioned = max_version is not None and max_version[0] >= 1
        if copy is False:
            place = self._place() if versioned else None
            if place is None:
                raise BufferError("the values have to be copied")
            return to_dlpack(place.view(bits_dtype(self.dtype)), self.dtype, list(self.shape), True, 1)
        if is_packed(self.dtype):
            raise BufferError(f"DLPack has no packed rows of {self.dtype}")
        values = self.numpy().view(bits_dtype(self.dtype))
        return to_dlpack(values, self.dtype, list(self.shape), versioned, 2)

    def __reduce__(self) -> tuple[Any, ...]:
        return _tensor_of, (self.file, self.name)

    def __repr__(self) -> str:
        return f"<cdna.Tensor {self.name!r} {self.dtype} {list(self.shape)} {self.encoding}>"


def _tensor_of(file: File, name: str) -> Tensor:
    return file[name]


class Transposed(_Operators):
    """The transpose of a tensor, for products; NumPy's functions decode it."""

    def __init__(self, tensor: Tensor) -> None:
        self.T = tensor
        self.shape = tensor.shape[::-1]
        self.dtype = tensor.dtype
        self.ndim = 2

    def __rmatmul__(self, x: Any) -> Any:
        """x @ t.T: x W^T."""
        return _matmul.multiply(self.T, x, None, False, "f32", 0)

    def __matmul__(self, x: Any) -> Any:
        """t.T @ x: W^T x, for x [rows] or [rows, n]."""
        return _matmul.multiply_columns(self.T, x, True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """np.asarray(t.T): that of t, transposed."""
        return self.T.__array__(dtype, copy).T

    def _values(self) -> Array:
        return self.T._values().T

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{self.T!r}.T"
