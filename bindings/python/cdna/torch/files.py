"""Files of tensors with the functions of safetensors.torch: code moves over by one import."""

from __future__ import annotations

import os
from typing import Any, Mapping

import torch
from torch import Tensor, nn

import cdna

from . import native
from .dtypes import bits_of, element_size, name_of, tensor_of, torch_dtype
from .linear import CdnaLinear
from .planes import NAMES, layout_of
from .sharing import duplicates, shared

Path = str | os.PathLike[str]
# "mmap" where the file system is a local one, as cdna.open() has it.
_BACKENDS = {"mmap": "auto", "pread": "pread"}


def _io(backend: str) -> str:
    if backend not in _BACKENDS:
        raise ValueError(f"backend is {backend!r}: mmap or pread")
    return _BACKENDS[backend]


def read_tensor(tensor: cdna.Tensor, dtype: torch.dtype | None = None, threads: int = 0) -> Tensor:
    """The values of a file's tensor in memory of their own, decoded if they are compressed: of the source's type, or of
    another float type. Raises NotImplementedError (a type that this torch has not), cdna.CdnaError.

    >>> import cdna, cdna.torch, torch
    >>> read_tensor(cdna.open(cdna.torch.save({"w": torch.ones(2, dtype=torch.bfloat16)}))["w"])
    tensor([1., 1.], dtype=torch.bfloat16)
    """
    if tensor.dtype == "F4":
        return _read_f4(tensor, threads)
    kind = torch_dtype(tensor.dtype) if dtype is None else dtype
    out = torch.empty(tensor.shape, dtype=kind)
    tensor.numpy(None if dtype is None else name_of(dtype), out=bits_of(out), threads=threads)
    return out


def _read_f4(tensor: cdna.Tensor, threads: int) -> Tensor:
    """Pairs of elements, as torch has them."""
    pair = getattr(torch, "float4_e2m1fn_x2", None)
    if pair is None or not tensor.shape or tensor.shape[-1] % 2:
        raise NotImplementedError(f"torch {torch.__version__} has no elements of type F4 in rows of {tensor.shape}")
    packed = torch.from_numpy(tensor.numpy(threads=threads)).reshape(*tensor.shape[:-1], tensor.shape[-1] // 2)
    return packed.view(pair)


def _read_all(file: cdna.File, device: Any) -> dict[str, Tensor]:
    place = torch.device(device)
    return {name: read_tensor(tensor).to(place) for name, tensor in file.items()}


def load_file(filename: Path, device: Any = "cpu", *, backend: str = "mmap") -> dict[str, Tensor]:
    """All tensors of a file, by name; compressed ones decoded.

    backend: "mmap" (where that can be) or "pread". Raises cdna.CdnaError, which say what is wrong where.

    >>> import cdna.torch, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cdna.torch.save_file({"a": torch.arange(3)}, folder + "/m.cdna")
    ...     cdna.torch.load_file(folder + "/m.cdna")
    {'a': tensor([0, 1, 2])}
    """
    with cdna.open(filename, io=_io(backend)) as file:
        return _read_all(file, device)


def load(data: bytes) -> dict[str, Tensor]:
    """The same from the bytes of a file.

    >>> import cdna.torch, torch
    >>> cdna.torch.load(cdna.torch.save({"a": torch.arange(3)}))
    {'a': tensor([0, 1, 2])}
    """
    with cdna.open(data) as file:
        return _read_all(file, "cpu")


def _check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """What safetensors refuses, in the order in which it does."""
    if not isinstance(tensors, Mapping):
        raise ValueError(f"tensors are a dictionary of names and tensors, not {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name!r} is no tensor but {type(tensor).__name__}")
        if tensor.layout != torch.strided:
            raise ValueError(f"{name!r} is sparse: files hold dense tensors; to_dense() makes one")
        if tensor.is_meta:
            raise ValueError(f"{name!r} is on the device meta: it has no values")
    groups = shared(tensors)
    if groups:
        raise RuntimeError(
            f"some tensors share memory: {groups}. Files hold each once and do not know: save_model() decides under which "
            "name, clone() makes them different ones"
        )
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"{name!r} is not contiguous: contiguous() makes a copy that is")


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, policy: str = "exact") -> bytes:
    """The bytes of a file with these tensors: dense, contiguous, none sharing memory with another.

    metadata comes back from an export to safetensors; in the file its keys begin with "safetensors:". policy: "exact"
    keeps every bit; "cb8" and others compress matrices (cdna.save). Raises ValueError, RuntimeError
    (shared memory), TypeError (a type that files have not), cdna.ArgumentError.

    >>> import cdna.torch, torch
    >>> data = cdna.torch.save({"w": torch.randn(64, 64)}, {"format": "pt"})
    >>> cdna.open(data).metadata["safetensors:format"]
    'pt'
    """
    _check_tensors(tensors)
    return bytes(native.save(None, tensors, metadata, policy))


def save_file(
    tensors: Mapping[str, Tensor], filename: Path, metadata: Mapping[str, str] | None = None, *, policy: str = "exact"
) -> None:
    """The same to a file, which appears, or is replaced, only when it is complete. Raises cdna.FileError, too.

    >>> import cdna.torch, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cdna.torch.save_file({"w": torch.ones(2)}, folder + "/m.cdna")
    """
    _check_tensors(tensors)
    native.save(filename, tensors, metadata, policy)


def save_model(
    model: nn.Module,
    filename: Path,
    metadata: Mapping[str, str] | None = None,
    force_contiguous: bool = True,
    *,
    policy: str = "exact",
) -> None:
    """Saves a module's state dict. Of tensors that share memory one is written; metadata then has an entry for each of
    the others, with the name of that one. force_contiguous: copies those that are not contiguous, else they are a
    ValueError. The planes of a CdnaLinear are written as tensors of their own, bit for bit.

    >>> import cdna.torch, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cdna.torch.save_model(torch.nn.Linear(2, 2), folder + "/m.cdna")
    ...     sorted(cdna.torch.load_file(folder + "/m.cdna"))
    ['bias', 'weight']
    """
    state = dict(model.state_dict())
    notes = dict(metadata or {})
    for kept, others in duplicates(state).items():
        for name in others:
            notes.setdefault(name, kept)
            del state[name]
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, filename, notes or None, policy=policy)


def _state_of(file: cdna.File, model: nn.Module, device: Any) -> dict[str, Tensor]:
    """What load_state_dict() takes: of the weight of a CdnaLinear that is compressed in the file its planes."""
    compressed = {f"{name}.weight" if name else "weight" for name, m in model.named_modules() if isinstance(m, CdnaLinear)}
    place = torch.device(device)
    state: dict[str, Tensor] = {}
    for name, tensor in file.items():
        if name in compressed and native.has_planes(tensor):
            planes, _, _ = native.planes_of(tensor)
            prefix = name[: -len("weight")]
            state.update({prefix + key: plane for key, plane in zip(NAMES, planes) if plane is not None})
            state[prefix + "_extra_state"] = layout_of(planes)
        else:
            state[name] = read_tensor(tensor).to(place)
    return state


def load_model(
    model: nn.Module, filename: Path, strict: bool = True, device: Any = "cpu", *, backend: str = "mmap"
) -> tuple[list[str], list[str]]:
    """Loads a file into a module's parameters and buffers, in place. Returns the names that the file lacks and those
    that the module lacks; with `strict` they are a RuntimeError. Parameters that share memory need only one of their
    names. A CdnaLinear takes a compressed `weight` as it is.

    >>> import cdna.torch, tempfile, torch
    >>> model = torch.nn.Linear(2, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cdna.torch.save_model(model, folder + "/m.cdna")
    ...     cdna.torch.load_model(torch.nn.Linear(2, 2), folder + "/m.cdna")
    ([], [])
    """
    with cdna.open(filename, io=_io(backend)) as file:
        state = _state_of(file, model, device)
    duplicates(model.state_dict(), preferred=state.keys())  # Raises before anything is changed.
    result = model.load_state_dict(state, strict=False)
    aliases = duplicates(model.state_dict(), preferred=state.keys())  # Planes may have come or gone.
    missing, unexpected = set(result.missing_keys), list(result.unexpected_keys)
    for name in (name for others in aliases.values() for name in others):
        if name in missing:
            missing.remove(name)
        elif name in state:  # BatchNorm fills in one of its own.
            unexpected.append(name)
    if strict:
        raise_incompatible(model, sorted(missing), sorted(unexpected))
    return sorted(missing), unexpected


def raise_incompatible(model: nn.Module, missing: list[str], unexpected: list[str]) -> None:
    """The RuntimeError of load_state_dict(), if there is anything to tell.

    >>> import torch
    >>> raise_incompatible(torch.nn.Linear(1, 1), [], [])
    """
    lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
    for what, names in (("Missing", missing), ("Unexpected", unexpected)):
        if names:
            lines.append(f"    {what} key(s) in state_dict: " + ", ".join(f'"{name}"' for name in names))
    if len(lines) > 1:
        raise RuntimeError("\n".join(lines))
