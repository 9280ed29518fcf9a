"""load_module: a whole module from a file, compressed matrices as they are, everything else once."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import cdna

from . import native
from .dtypes import bits_of, name_of, torch_dtype
from .files import raise_incompatible, read_tensor
from .linear import CdnaLinear
from .planes import NAMES
from .replace import has_hooks, set_module, uses_of_parameters

_FLOATS = ("F16", "BF16", "F32", "F64")
_STATE = (*NAMES, "_extra_state")  # What the state dict has of a CdnaLinear instead of a weight.


class Loaded(NamedTuple):
    """What load_module() did. missing_keys: parameters and buffers that the file has not, as they were before;
    unexpected_keys: tensors of the file that the module has no place for. Others are names in the state dict.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]
    compressed: list[str]  # Weights that are planes now.
    decoded: list[str]  # Compressed in the file, dense in the module: no linear layer, tied, with hooks, or the model.
    on_meta: list[str]  # Still without values: missing, or buffers that no file has.


class _Place(NamedTuple):
    """Where a tensor of the state dict goes."""

    module: nn.Module
    name: str
    is_parameter: bool

    def put(self, value: Tensor) -> None:
        tensors: dict[str, Any] = self.module._parameters if self.is_parameter else self.module._buffers
        tensors[self.name] = value


class _Loading:
    """One call of load_module()."""

    def __init__(self, model: nn.Module, file: cdna.File, device: torch.device, dtype: torch.dtype | None, math: str) -> None:
        self.model, self.file, self.device, self.dtype, self.math = model, file, device, dtype, math
        self.uses = uses_of_parameters(model)
        self.compressed: list[str] = []
        self.decoded: list[str] = []
        self.mismatched: list[str] = []
        self._used: set[str] = set()
        self._absent: list[tuple[str, _Place, Tensor]] = []  # With what the module had.
        # By id() of what the module had, and of what it has now: modules may stand in several places.
        self._filled: dict[int, Tensor] = {}
        self._before: list[Tensor] = []  # Keeps those alive, so that no other gets their id().
        self._with_planes: dict[int, CdnaLinear] = {}  # By id(): those that have theirs.

    # ---- Linear layers ----

    def compress(self) -> None:
        """Linear layers whose weight is compressed in the file become CdnaLinear; those that are already take it."""
        for name, module in list(self.model.named_modules(remove_duplicate=False)):
            prefix = f"{name}." if name else ""
            tensor = self.file.get(prefix + "weight")
            if isinstance(module, CdnaLinear):
                if id(module) in self._with_planes:  # Under another name.
                    self._used.update(prefix + plane for plane in ("weight", *_STATE))
                else:
                    self._take(module, prefix, tensor)
            elif type(module) is nn.Linear and name and tensor is not None and native.has_planes(tensor):
                if self._is_free(module, tensor):
                    self._replace(name, module, tensor)

    def _take(self, module: CdnaLinear, prefix: str, tensor: cdna.Tensor | None) -> None:
        """Gives a CdnaLinear its weight, or its planes where save_model() has written them by name."""
        source: torch.dtype | None = None
        if tensor is not None and native.has_planes(tensor):
            found, _, source = native.planes_of(tensor)
            planes = dict(zip(NAMES, found))
            used = [tensor.name]
        else:
            used = [prefix + name for name in _STATE if prefix + name in self.file]
            planes = {name.removeprefix(prefix): read_tensor(self.file[name]) for name in used}
            source = self._type_of_bias(prefix)
        if planes.get("codes") is None or planes.get("codebook") is None:
            return
        if module.device.type == "meta":
            module.move_planes(self.device)
            module.set_dtype(self.dtype or source or module.dtype)
        errors: list[str] = []
        state = {prefix + name: plane for name, plane in planes.items() if plane is not None}
        module._load_from_state_dict(state, prefix, {}, False, [], [], errors)
        self.mismatched += errors
        self._used.update(used)
        self._with_planes[id(module)] = module
        self.compressed.append(prefix + "weight")

    def _type_of_bias(self, prefix: str) -> torch.dtype | None:
        """The type of a layer whose planes say nothing of it."""
        bias = self.file.get(prefix + "bias")
        return torch_dtype(bias.dtype) if bias is not None and bias.dtype in _FLOATS else None

    def _is_free(self, module: nn.Linear, tensor: cdna.Tensor) -> bool:
        return self.uses[id(module.weight)] == 1 and not has_hooks(module) and tensor.shape == tuple(module.weight.shape)

    def _replace(self, name: str, module: nn.Linear, tensor: cdna.Tensor) -> None:
        meta = module.weight.is_meta
        dtype = self.dtype or (torch_dtype(tensor.dtype) if meta else module.weight.dtype)
        place = self.device if meta else module.weight.device
        layer = CdnaLinear.from_tensor(tensor, None, place, dtype=dtype, math=self.math)
        layer.bias = module.bias
        set_module(self.model, name, layer.train(module.training))
        self._used.add(tensor.name)
        self._with_planes[id(layer)] = layer
        self.compressed.append(tensor.name)

    # ---- Everything else ----

    def fill(self) -> None:
        """All other parameters and buffers of the state dict, each as it is read."""
        for prefix, module in self.model.named_modules(remove_duplicate=False):
            planes = NAMES if id(module) in self._with_planes else ()
            for name, parameter in list(module._parameters.items()):
                if parameter is not None and name not in planes:
                    self._fill(_Place(module, name, True), f"{prefix}.{name}".lstrip("."), parameter)
            for name, buffer in list(module._buffers.items()):
                persistent = name not in module._non_persistent_buffers_set
                if buffer is not None and persistent and name not in planes:
                    self._fill(_Place(module, name, False), f"{prefix}.{name}".lstrip("."), buffer)

    def _fill(self, place: _Place, name: str, old: Tensor) -> None:
        filled = self._filled.get(id(old))
        if filled is not None:  # Tied: another name had it.
            place.put(filled)
            self._used.add(name)
            return
        tensor = self.file.get(name)
        if tensor is None:
            self._absent.append((name, place, old))
            return
        self._used.add(name)
        shape = tuple(tensor.shape)
        if shape != tuple(old.shape):
            self.mismatched.append(f"size mismatch for {name}: {list(shape)} in the file, {list(old.shape)} in the module")
            return
        differentiable = tensor.dtype.startswith(("F", "BF", "C"))
        if old.is_meta and old.requires_grad and not differentiable:
            self.mismatched.append(f"{name} is {tensor.dtype} in the file, and a parameter with gradients in the module")
            return
        if tensor.encoding == "cdna.codebook":
            self.decoded.append(name)
        if old.is_meta:
            self._materialise(place, tensor, old)
        else:
            self._overwrite(tensor, old)
        found = getattr(place.module, place.name)
        self._before.append(old)
        self._filled[id(old)] = self._filled[id(found)] = found

    def _materialise(self, place: _Place, tensor: cdna.Tensor, old: Tensor) -> None:
        converted = self.dtype if tensor.dtype in _FLOATS and old.dtype.is_floating_point else None
        value = read_tensor(tensor, converted).to(self.device)
        place.put(nn.Parameter(value, old.requires_grad) if place.is_parameter else value)

    @staticmethod
    def _overwrite(tensor: cdna.Tensor, old: Tensor) -> None:
        """Straight into the memory that is there, where it can be."""
        with torch.no_grad():
            both_float = tensor.dtype in _FLOATS and old.dtype in map(torch_dtype, _FLOATS)
            if old.device.type == "cpu" and old.is_contiguous() and (both_float or torch_dtype(tensor.dtype) == old.dtype):
                tensor.numpy(name_of(old.dtype) if both_float else None, out=bits_of(old))
                old.view(-1)[:0].zero_()  # Changes nothing, but counts as writing.
            else:
                old.copy_(read_tensor(tensor))

    # ---- What came of it ----

    def result(self) -> Loaded:
        """To be called last: names that the file lacks may have been filled by another name of the same parameter."""
        missing = []
        for name, place, old in self._absent:
            if id(old) in self._filled:
                place.put(self._filled[id(old)])
            else:
                missing.append(name)
        everything = [*self.model.named_parameters(), *self.model.named_buffers()]
        on_meta = sorted(name for name, value in everything if value.is_meta)
        unexpected = sorted(set(self.file) - self._used)
        return Loaded(sorted(missing), unexpected, sorted(self.compressed), sorted(set(self.decoded)), on_meta)


def load_module(
    model: nn.Module,
    path: str | os.PathLike[str] | cdna.File,
    *,
    strict: bool = True,
    device: Any = "cpu",
    dtype: torch.dtype | None = None,
    compressed: bool = True,
    math: str = "f32",
) -> Loaded:
    """Loads a module's parameters and buffers from a file without ever holding a dense weight twice: make the module
    under `torch.device("meta")`, or otherwise without values.

    torch.nn.Linear layers whose weight is compressed in the file become CdnaLinear with a copy of its planes
    (compressed=False: they stay, decoded; so does a model that is such a layer itself). Whatever else is
    on `meta` comes to be on `device`, with the file's type, or `dtype` for floats; what has memory
    already is overwritten in place and keeps its type. Tied parameters stay tied and
    need one of their names. path: of the file, or an open one.

    With `strict`, names that the file lacks or the module lacks, and buffers that stay on `meta` since no file has them
    (non-persistent ones: make those again), are a RuntimeError, at the end. So are shapes that differ, always. Raises
    cdna.CdnaError where the file is damaged; the module is then loaded in parts.

    >>> import cdna.torch, torch
    >>> data = cdna.torch.save(torch.nn.Linear(64, 64).state_dict(), policy="cb8")
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64, device="meta"))
    >>> state = {f"0.{name}": value for name, value in cdna.torch.load(data).items()}
    >>> cdna.torch.load_module(model, cdna.open(cdna.torch.save(state, policy="cb8"))).compressed
    ['0.weight']
    """
    if not isinstance(path, cdna.File):
        with cdna.open(path) as file:
            return load_module(
                model, file, strict=strict, device=device, dtype=dtype, compressed=compressed, math=math
            )
    loading = _Loading(model, path, torch.device(device), dtype, math)
    if compressed:
        loading.compress()
    loading.fill()
    if loading.mismatched:
        raise RuntimeError(f"Error(s) in loading {type(model).__name__}:\n    " + "\n    ".join(loading.mismatched))
    result = loading.result()
    if strict:
        raise_incompatible(model, result.missing_keys, result.unexpected_keys)
        if result.on_meta:
            raise RuntimeError(f"no file has these buffers, which are still on meta: {', '.join(result.on_meta)}")
    return result
