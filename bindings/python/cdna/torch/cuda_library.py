"""The C interface of libcdna_cuda. Pointers are numbers, as Tensor.data_ptr() gives them; nothing here knows of torch.

The library is loaded at first use: the file that CDNA_CUDA_LIBRARY names, else what the loader finds as
libcdna_cuda.so.1."""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from ctypes import POINTER, byref, c_char, c_char_p, c_int32, c_int64, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any

ABI_VERSION = 0x00010000
LIBRARY = "libcdna_cuda.so.1"
# Of elements: CDNA_CUDA_F16 and so on.
TYPES = {"F16": 0, "BF16": 1, "F32": 2}
WORKSPACE_ALIGNMENT = 256


class CudaUnavailable(RuntimeError):
    """There is no libcdna_cuda, or no device that it can use: the message says which."""


class CudaError(RuntimeError):
    """What the library could not do: the reason, and the tensor."""


class _Error(ctypes.Structure):
    _fields_ = [
        ("code", c_int32),
        ("os_errno", c_int32),
        ("cuda_error", c_int32),
        ("plane", c_int32),
        ("block", c_int64),
        ("offset", c_uint64),
        ("rule", c_char * 8),
        ("tensor", c_char * 256),
        ("message", c_char * 256),
    ]


class _UploadOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device", c_int32),
        ("stream", c_void_p),
        ("row_begin", c_uint64),
        ("row_end", c_uint64),
        ("shard_index", c_uint32),
        ("shard_count", c_uint32),
        ("pinned_bytes", c_uint64),
        ("device_bytes_max", c_uint64),
        ("threads", c_uint32),
        ("trust", c_uint32),
        ("expected_root", POINTER(c_uint8)),
        ("progress", c_void_p),
        ("progress_context", c_void_p),
    ]


class _Segment(ctypes.Structure):
    _fields_ = [("tensor", c_uint64), ("bias", c_void_p), ("y_column", c_uint64)]


class _LinearCall(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("segment_count", c_uint32),
        ("segments", POINTER(_Segment)),
        ("x", c_void_p),
        ("x_stride", c_int64),
        ("y", c_void_p),
        ("y_stride", c_int64),
        ("x_type", c_uint32),
        ("y_type", c_uint32),
        ("m", c_uint32),
        ("loop", c_uint32),
        ("splits", c_uint32),
        ("reserved", c_uint32),
        ("workspace", c_void_p),
        ("workspace_bytes", c_uint64),
        ("stream", c_void_p),
    ]


class _PlanInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("loop", c_uint32),
        ("splits", c_uint32),
        ("reserved", c_uint32),
        ("blocks", c_uint64),
        ("workspace_bytes", c_uint64),
    ]


_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "cdna_cuda_abi_version": (c_uint32, []),
    "cdna_cuda_code_name": (c_char_p, [c_int32]),
    "cdna_cuda_device_supported": (c_int32, [c_int32, POINTER(_Error)]),
    "cdna_cuda_upload": (
        c_int32,
        [c_char_p, c_char_p, POINTER(_UploadOptions), POINTER(c_void_p), POINTER(_Error)],
    ),
    "cdna_cuda_free": (None, [c_void_p]),
    "cdna_cuda_find": (c_int32, [c_void_p, c_char_p, POINTER(c_uint64), POINTER(_Error)]),
    "cdna_cuda_linear_plan": (c_int32, [c_void_p, POINTER(_LinearCall), POINTER(_PlanInfo), POINTER(_Error)]),
    "cdna_cuda_linear": (c_int32, [c_void_p, POINTER(_LinearCall), POINTER(_Error)]),
    "cdna_cuda_dequantize": (
        c_int32,
        [c_void_p, c_uint64, c_uint64, c_uint64, c_void_p, c_uint32, c_int64, c_void_p, POINTER(_Error)],
    ),
}


@functools.lru_cache(maxsize=None)
def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise CudaUnavailable(f"products on CUDA devices need the library libcdna_cuda: {error}") from error
    version = library.cdna_cuda_abi_version()
    if version >> 16 != ABI_VERSION >> 16 or version < ABI_VERSION:
        raise CudaUnavailable(f"{path} has version {version:#x} of its interface, not {ABI_VERSION:#x}")
    return library


def library() -> ctypes.CDLL:
    """The library. Raises CudaUnavailable, with the reason, where it cannot be loaded.

    >>> import os
    >>> os.environ["CDNA_CUDA_LIBRARY"] = "/nowhere/libcdna_cuda.so"
    >>> try:
    ...     library()
    ... except CudaUnavailable as error:
    ...     print(str(error).split(":")[0])
    products on CUDA devices need the library libcdna_cuda
    >>> del os.environ["CDNA_CUDA_LIBRARY"]
    """
    return _load(os.environ.get("CDNA_CUDA_LIBRARY") or LIBRARY)


def _check(code: int, error: _Error) -> None:
    if code == 0:
        return
    name = library().cdna_cuda_code_name(code).decode()
    tensor = error.tensor.decode("utf-8", "replace")
    place = f" (tensor {tensor})" if tensor else ""
    rule = f" [{error.rule.decode()}]" if error.rule else ""
    raise CudaError(f"{name}: {error.message.decode('utf-8', 'replace')}{place}{rule}")


def unavailable(ordinal: int = 0) -> str | None:
    """Why products on device `ordinal` cannot be had; None: they can.

    >>> isinstance(unavailable(10000), str)
    True
    """
    try:
        error = _Error()
        _check(library().cdna_cuda_device_supported(ordinal, byref(error)), error)
    except (CudaUnavailable, CudaError) as reason:
        return str(reason)
    return None


def _memory_file(data: Any) -> int:
    descriptor = os.memfd_create("cdna", os.MFD_CLOEXEC)
    try:
        rest = memoryview(data).cast("B")
        while rest.nbytes:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class DeviceMatrix:
    """One tensor of a file in memory, on a device. Any thread may use it; freeing it waits for the device."""

    def __init__(self, data: Any, name: str, ordinal: int, stream: int) -> None:
        """Uploads tensor `name` of the file whose bytes `data` has. Raises CudaUnavailable and CudaError. Holds the
        file a second time in the host's memory for the length of the call.
        """
        self._library = library()
        reason = unavailable(ordinal)
        if reason is not None:
            raise CudaUnavailable(reason)
        options = _UploadOptions(struct_size=ctypes.sizeof(_UploadOptions), device=ordinal, stream=stream)
        model, number, error = c_void_p(), c_uint64(), _Error()
        descriptor = _memory_file(data)
        try:
            path = f"/proc/self/fd/{descriptor}".encode()
            _check(self._library.cdna_cuda_upload(path, None, byref(options), byref(model), byref(error)), error)
        finally:
            os.close(descriptor)
        self._model = model
        self._free = weakref.finalize(self, self._library.cdna_cuda_free, model)
        _check(self._library.cdna_cuda_find(model, name.encode(), byref(number), byref(error)), error)
        self._tensor = number.value

    def _call(
        self, x: int, x_stride: int, y: int, y_stride: int, kind: str, m: int, bias: int | None, stream: int
    ) -> _LinearCall:
        segment = _Segment(tensor=self._tensor, bias=bias, y_column=0)
        return _LinearCall(
            struct_size=ctypes.sizeof(_LinearCall),
            segment_count=1,
            segments=ctypes.pointer(segment),
            x=x,
            x_stride=x_stride,
            y=y,
            y_stride=y_stride,
            x_type=TYPES[kind],
            y_type=TYPES[kind],
            m=m,
            stream=stream,
        )

    def linear(
        self,
        x: int,
        y: int,
        m: int,
        strides: tuple[int, int],
        kind: str,
        bias: int | None,
        stream: int,
        workspace: Any,
    ) -> None:
        """Launches y = x W^T + bias on `stream`. x [m, cols], y [m, rows] and bias [rows] are of type `kind` and on
        the device; strides of x and y in elements. `workspace(bytes)` gives the address of so many bytes there, whose
        first 4096 were 0 when they were first given. Raises CudaError.
        """
        call = self._call(x, strides[0], y, strides[1], kind, m, bias, stream)
        plan, error = _PlanInfo(struct_size=ctypes.sizeof(_PlanInfo)), _Error()
        _check(self._library.cdna_cuda_linear_plan(self._model, byref(call), byref(plan), byref(error)), error)
        call.workspace_bytes = plan.workspace_bytes
        call.workspace = workspace(plan.workspace_bytes) if plan.workspace_bytes else None
        _check(self._library.cdna_cuda_linear(self._model, byref(call), byref(error)), error)

    def dequantize(self, rows: tuple[int, int], out: int, kind: str, stride: int, stream: int) -> None:
        """Launches the decoding of rows [begin, end) to `out` on the device: the decoder's f32 values, rounded once.
        Raises CudaError.
        """
        error = _Error()
        code = self._library.cdna_cuda_dequantize(
            self._model, self._tensor, rows[0], rows[1], out, TYPES[kind], stride, stream, byref(error)
        )
        _check(code, error)
