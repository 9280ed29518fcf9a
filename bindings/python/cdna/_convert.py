"""Making files: of arrays, and of models in other formats."""
from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, overload

import numpy as np

from . import _core
from ._arrays import contiguous, default_threads, is_packed, name_of_dtype, operand
from ._errors import ArgumentError, error
from ._file import File, path_bytes
from ._file import open as open_file
from ._progress import ProgressOption, shown
from ._tensor import Tensor

# A preset ("cb8", "exact"), a policy as JSON text or as the object it means, or the path of a policy file.
Policy = Any


class ConvertedTensor(NamedTuple):
    """What became of a tensor, and why."""

    name: str
    preset: str
    role: str
    reason: str
    alias_of: str | None  # Stored once, under that name.
    source_nbytes: int
    stored_nbytes: int
    snr_db: float  # Infinite: exact.


class ConvertReport(NamedTuple):
    """What became of a model. Sums are over tensors that are stored: aliases are not counted."""

    root: bytes
    file_nbytes: int
    source_nbytes: int
    stored_nbytes: int
    bits_per_weight: float
    tensors: list[ConvertedTensor]
    notes: list[str]


@overload
def save(
    path: None,
    tensors: Mapping[str, Any],
    policy: Policy = ...,
    *,
    metadata: Mapping[str, Any] | None = ...,
    assets: Mapping[str, Any] | None = ...,
    embeddings: str | None = ...,
    keep_exact: Iterable[str] = ...,
    bits_per_weight: float | None = ...,
    target_nbytes: int | None = ...,
    candidates: Iterable[str] = ...,
    codec: str = ...,
    nonfinite: str = ...,
    threads: int = ...,
    force: bool = ...,
    progress: ProgressOption = ...,
) -> bytes: ...


@overload
def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    policy: Policy = ...,
    *,
    metadata: Mapping[str, Any] | None = ...,
    assets: Mapping[str, Any] | None = ...,
    embeddings: str | None = ...,
    keep_exact: Iterable[str] = ...,
    bits_per_weight: float | None = ...,
    target_nbytes: int | None = ...,
    candidates: Iterable[str] = ...,
    codec: str = ...,
    nonfinite: str = ...,
    threads: int = ...,
    force: bool = ...,
    progress: ProgressOption = ...,
) -> ConvertReport: ...


def save(
    path: str | os.PathLike[str] | None,
    tensors: Mapping[str, Any],
    policy: Policy = "exact",
    *,
    metadata: Mapping[str, Any] | None = None,
    assets: Mapping[str, Any] | None = None,
    embeddings: str | None = None,
    keep_exact: Iterable[str] = (),
    bits_per_weight: float | None = None,
    target_nbytes: int | None = None,
    candidates: Iterable[str] = (),
    codec: str = "raw",
    nonfinite: str = "refuse",
    threads: int = 0,
    force: bool = True,
    progress: ProgressOption = None,
) -> ConvertReport | bytes:
    """Writes arrays as a file: whole or not at all. Returns a ConvertReport; with path None the bytes of the file.

    tensors: name to array of NumPy, torch (through DLPack), ml_dtypes, or anything np.asarray() takes; a cdna.Tensor too.
    policy: a preset ("exact", "exact-z", "cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", with parameters as in
    "cb8,class=pwl16"), rules ({"rules": [{"glob": "*.q_proj.weight", "preset": "cb8g64"}, ...]}, as dict or JSON text), or the
    path of such a file. Norms, biases and small tensors stay exact, and so do embeddings unless `embeddings` names a preset.
    metadata: str to None, bool, int, float, str, bytes; lists and dicts become JSON. assets: name to bytes.
    bits_per_weight, target_nbytes: choose presets (from `candidates`) that fit; instead of a policy. force: replaces a file.
    The bytes do not depend on threads (0: one per core). Ctrl-C stops it and leaves no file. Raises ArgumentError,
    FormatError (policy), FilePresentError, FileError.

    >>> import cdna, numpy
    >>> data = cdna.save(None, {"w": numpy.ones((64, 64), "float32")}, "cb8", metadata={"origin": "here"})
    >>> cdna.open(data)["w"].encoding
    'cdna.codebook'
    """
    options = _options(
        policy, embeddings, keep_exact, bits_per_weight, target_nbytes, candidates, codec, nonfinite, metadata, threads
    )
    entries = [_tensor_entry(name, value) for name, value in _by_bytes(tensors)]
    files = [(name, media_type(name), memoryview(_bytes_of(value))) for name, value in _by_bytes(assets or {})]
    with shown(progress, "save") as callback:
        fields, content = _core.save(entries, files, None if path is None else path_bytes(path), force, options, callback)
    if path is None:
        assert content is not None
        return content
    return _report(fields)


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    policy: Policy = "exact",
    *,
    metadata: Mapping[str, Any] | None = None,
    embeddings: str | None = None,
    keep_exact: Iterable[str] = (),
    bits_per_weight: float | None = None,
    target_nbytes: int | None = None,
    candidates: Iterable[str] = (),
    codec: str = "raw",
    nonfinite: str = "refuse",
    dtype: Any = None,
    source_format: str = "auto",
    sidecar: str | os.PathLike[str] | None = None,
    skip: Iterable[str] = (),
    shapes: Mapping[str, tuple[int | None, int | None]] | None = None,
    threads: int = 0,
    force: bool = False,
    progress: ProgressOption = None,
) -> ConvertReport | None:
    """Converts a model in another format, as `cdna convert` does, in memory that does not grow with it.

    The source: a .safetensors, GGUF, .npy or .npz file, a Hugging Face directory, or what helix-substrate wrote. Its content
    says which, or source_format: "safetensors", "hxq", "hxzc", "hxz2", "helix-v2", "helix-v3", "gguf", "gguf-hxq" (never
    found by content), "npy", "npz". sidecar: an HXZO file with the outliers of an hxzc or hxz2 file; else the one beside it.
    skip: shell patterns of tensors that are left out unread, of "helix-v3" and "hxq". shapes: of "hxq", pattern to (rows,
    columns), None being open, of matrices with 12-bit indices whose shape nothing tells.
    Tensors that the source holds as codes keep them (preset "source") unless a rule of the policy names them.

    A destination that ends in .safetensors, .gguf or .npz is what export() makes of a .cdna file (parameters: dtype, force,
    threads and progress); it returns None. Other parameters: those of save(); an existing destination is replaced with
    force only. Raises
    FileMissingError, FilePresentError, FileError, FormatError, UnsupportedError, ArgumentError, LimitError.

    >>> import cdna, numpy, os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> a, b = (os.path.join(folder.name, name) for name in ("a.cdna", "b.safetensors"))
    >>> report = cdna.save(a, {"w": numpy.ones(3, "float32")})
    >>> cdna.convert(a, b)
    >>> os.path.exists(b)
    True
    """
    target = path_bytes(destination)
    if _core.export_format(target) is not None:
        _refuse_for_export(
            policy=policy != "exact", metadata=metadata, embeddings=embeddings is not None, keep_exact=keep_exact,
            bits_per_weight=bits_per_weight is not None, target_nbytes=target_nbytes is not None, candidates=candidates,
            codec=codec != "raw", nonfinite=nonfinite != "refuse", source_format=source_format != "auto",
            sidecar=sidecar is not None, skip=skip, shapes=shapes,
        )  # fmt: skip
        default_threads(threads)
        export(source, destination, dtype=dtype, force=force, progress=progress)
        return None
    if dtype is not None:
        raise error(ArgumentError, "bad_argument", "dtype is for exports")
    options = _options(
        policy, embeddings, keep_exact, bits_per_weight, target_nbytes, candidates, codec, nonfinite, metadata, threads
    )
    options["skip"] = _strings(skip)
    options["shapes"] = [f"{glob}={'x'.join('*' if n is None else str(n) for n in shape)}" for glob, shape in (shapes or {}).items()]
    outliers = b"" if sidecar is None else path_bytes(sidecar)
    with shown(progress, "convert") as callback:
        fields, _ = _core.convert(path_bytes(source), target, force, source_format, outliers, options, callback)
    return _report(fields)


def export(
    source: str | os.PathLike[str] | File,
    destination: str | os.PathLike[str],
    *,
    format: str | None = None,
    dtype: Any = None,
    architecture: str = "",
    force: bool = False,
    progress: ProgressOption = None,
) -> None:
    """Writes all tensors of a .cdna file, decoded, in another format, as `cdna export` does.

    format: "safetensors", "gguf", "npz", or "hxq", a directory that helix-substrate loads; None: what the ending of the
    destination says. dtype: of tensors of floats, else that of their source; for gguf also "q8_0", which tensors of two and more
    dimensions with rows of whole blocks of 32 become. architecture: general.architecture of a gguf file ("llama", "qwen2"), else
    what the file says. An existing destination is replaced with force only. Raises FileMissingError, FilePresentError,
    FileError, FormatError, UnsupportedError (what the format cannot hold), ArgumentError, LimitError.

    >>> import cdna, numpy, os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> a, b = (os.path.join(folder.name, name) for name in ("a.cdna", "b.safetensors"))
    >>> report = cdna.save(a, {"w": numpy.ones(3, "float32")})
    >>> cdna.export(a, b)
    >>> os.path.exists(b)
    True
    """
    target = path_bytes(destination)
    to = _core.export_format(target) if format is None else format
    if to is None:
        raise error(ArgumentError, "bad_argument", "format is None, and the destination ends in no .safetensors, .gguf or .npz")
    kind = "" if dtype is None else dtype if dtype == "q8_0" else name_of_dtype(dtype)
    with contextlib.ExitStack() as stack:
        callback = stack.enter_context(shown(progress, "export"))
        file = source if isinstance(source, File) else stack.enter_context(open_file(os.fsdecode(source)))
        _core.export_model(file._core, target, force, to, kind, architecture, callback)


def media_type(name: str) -> str:
    """What `cdna convert` calls a file of that name."""
    if name.endswith(".json"):
        return "application/json"
    if name.endswith((".txt", ".md", ".jinja")):
        return "text/plain"
    return "application/octet-stream"


# ---- Arguments ----


def _refuse_for_export(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise error(ArgumentError, "bad_argument", f"{name} is for files of CDNA, not for exports")


def _options(
    policy: Policy, embeddings: str | None, keep_exact: Iterable[str], bits_per_weight: float | None,
    target_nbytes: int | None, candidates: Iterable[str], codec: str, nonfinite: str, metadata: Mapping[str, Any] | None,
    threads: int,
) -> dict[str, Any]:  # fmt: skip
    if nonfinite not in ("refuse", "exact"):
        raise error(ArgumentError, "bad_argument", f'nonfinite is {nonfinite!r}: "refuse" or "exact"')
    encoding, text, file = _policy(policy)
    return {
        "encoding": encoding, "policy": text, "policy_file": file, "embeddings": embeddings, "codec": codec,
        "keep_nonfinite": nonfinite == "exact", "bits_per_weight": bits_per_weight, "target_bytes": target_nbytes,
        "candidates": _strings(candidates), "keep_exact": _strings(keep_exact),
        "metadata": {key: _metadata_value(key, value) for key, value in (metadata or {}).items()},
        "threads": default_threads(threads),
    }  # fmt: skip


def _strings(given: Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _policy(policy: Policy) -> tuple[str | None, str, str]:
    """(preset, JSON text, its file) of what a caller calls a policy."""
    if isinstance(policy, Mapping):
        return None, json.dumps(dict(policy)), "policy"
    if isinstance(policy, str) and policy.lstrip().startswith("{"):
        return None, policy, "policy"
    if isinstance(policy, os.PathLike) or (isinstance(policy, str) and policy.endswith(".json")):
        with open(policy, encoding="utf-8", errors="surrogateescape") as file:
            return None, file.read(), os.fsdecode(policy)
    if isinstance(policy, str):
        return policy, "", ""
    raise TypeError(f"policy is {type(policy).__name__}: a preset, rules, or the path of a file of rules")


def _metadata_value(key: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, bytes, bytearray, memoryview)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufSU":
        return value.item()
    try:
        return ("json", json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as reason:
        raise error(ArgumentError, "bad_argument", f"metadata {key!r}: {reason}") from None


def _by_bytes(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Entries in the order of the names' bytes in UTF-8, which is that of code points."""
    for name in mapping:
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is no str")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise error(ArgumentError, "bad_argument", f"the name {name!r} is not UTF-8") from None
    return sorted(mapping.items())


def _tensor_entry(name: str, value: Any) -> tuple[str, str, list[int], Any]:
    if isinstance(value, Tensor):
        if is_packed(value.dtype):
            return name, value.dtype, list(value.shape), _packed(value)
        given = operand(value.numpy())
        return name, value.dtype, list(value.shape), given.array.reshape(-1).view(np.uint8)
    try:
        given = operand(value)
    except ArgumentError as reason:
        raise error(ArgumentError, "bad_argument", reason.message, tensor=name) from None
    return name, given.dtype, list(given.array.shape), contiguous(given.array).reshape(-1).view(np.uint8)


def _packed(tensor: Tensor) -> Any:
    """The source's bytes of elements smaller than a byte: rows are padded in files, and were not in the source."""
    bits = {"F4": 4}.get(tensor.dtype, 6)
    rows = tensor.numpy()
    if tensor.cols * bits % 8 == 0:
        return rows.reshape(-1)
    unpacked = np.unpackbits(rows, axis=1, bitorder="little", count=tensor.cols * bits)
    return np.packbits(unpacked.reshape(-1), bitorder="little")


def _bytes_of(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _report(fields: dict[str, Any]) -> ConvertReport:
    tensors = [ConvertedTensor(**tensor) for tensor in fields.pop("tensors")]
    report = ConvertReport(tensors=tensors, **fields)
    if report.notes:
        logger = logging.getLogger("cdna")
        for note in report.notes:
            logger.warning("%s", note)
    return report
