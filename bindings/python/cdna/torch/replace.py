"""replace_linears: the linear layers of a model become compressed ones, one at a time."""

from __future__ import annotations

import fnmatch
from collections import Counter
from typing import Iterable, NamedTuple, Sequence

import torch
from torch import nn

from . import native
from .dtypes import ENCODABLE, name_of
from .linear import CdnaLinear
from .sharing import shared


class Replaced(NamedTuple):
    """A layer that is compressed now."""

    name: str
    preset: str
    reason: str
    dense_bytes: int  # Of the weight as it was.
    bytes: int  # Of its planes.
    bits_per_weight: float


class Kept(NamedTuple):
    """A layer that stayed as it was, and why."""

    name: str
    reason: str


class Report(NamedTuple):
    """What replace_linears() did. Printed, it is a table."""

    replaced: list[Replaced]
    kept: list[Kept]

    def __str__(self) -> str:
        lines = [f"{r.name}: {r.preset}, {r.bits_per_weight:.3f} bits per weight ({r.reason})" for r in self.replaced]
        lines += [f"{k.name}: kept ({k.reason})" for k in self.kept]
        before, after = sum(r.dense_bytes for r in self.replaced), sum(r.bytes for r in self.replaced)
        return "\n".join([*lines, f"{len(self.replaced)} layers, {before} bytes of weights became {after}"])


def uses_of_parameters(model: nn.Module) -> Counter[int]:
    """In how many places each parameter, or memory of it, is held, by id(): 2 and more are tied weights. A module that
    stands in several places counts for each.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(4, 2), torch.nn.Linear(2, 4, bias=False))
    >>> model[1].weight = model[0].weight
    >>> uses_of_parameters(model)[id(model[0].weight)]
    2
    """
    uses: Counter[int] = Counter()
    named: dict[str, torch.Tensor] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        uses.update(id(parameter) for parameter in module._parameters.values() if parameter is not None)
        tensors: list[tuple[str, torch.Tensor | None]] = [*module._parameters.items(), *module._buffers.items()]
        # Others may have no memory of their own.
        named.update((f"{prefix}.{name}", t) for name, t in tensors if type(t) in (torch.Tensor, nn.Parameter) and t is not None)
    for group in shared({name: tensor for name, tensor in named.items() if tensor.layout == torch.strided}):
        for name in group:
            uses[id(named[name])] = len(group)
    return uses


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is to be called with this very module: hooks of any kind, or parametrizations.

    >>> import torch
    >>> layer = torch.nn.Linear(1, 1)
    >>> handle = layer.register_full_backward_hook(print)
    >>> has_hooks(layer), has_hooks(torch.nn.Linear(1, 1))
    (True, False)
    """
    return hasattr(module, "parametrizations") or any(
        name.endswith("_hooks") and bool(hooks) for name, hooks in vars(module).items()
    )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _patterns(given: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _why_kept(name: str, layer: nn.Linear, tied: bool, included: Sequence[str], excluded: Sequence[str]) -> str | None:
    """Why a layer is no candidate, whatever the policy says; None: it is one."""
    if _fits(name, excluded):
        return "excluded"
    if included and not _fits(name, included):
        return "not included"
    if type(layer) is not nn.Linear:
        return f"{type(layer).__name__} is not torch.nn.Linear itself"
    if layer.weight.is_meta:
        return "no values on the device meta"
    if layer.weight.dtype not in ENCODABLE:
        return f"elements of {layer.weight.dtype}"
    if tied:
        return "tied: its weight belongs to another module as well"
    if has_hooks(layer):
        return "it has hooks or parametrizations"
    return None


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in the place of the one called `name`.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.ReLU())
    >>> set_module(model, "0", torch.nn.Tanh())
    >>> model[0]
    Tanh()
    """
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def replace_linears(
    model: nn.Module,
    policy: str = "cb8",
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    math: str = "f32",
    train_codebook: bool = False,
    threads: int = 0,
) -> Report:
    """Compresses the torch.nn.Linear layers of a model in place. Each dense weight is let go before the next is
    compressed: the peak is the model and one layer.

    policy: a preset ("cb8", "cb6g64", ...). By name and shape of `NAME.weight` it is given to those that `cdna convert`
    would give it to (spec/format.md, section 21): output heads and matrices that are too small stay. include, exclude:
    patterns of module names (fnmatch: "*.mlp.*"); include leaves all others, and also compresses heads that it names.
    Tied weights, subclasses of Linear, layers with hooks and what is on `meta` are left alone; the report says so.
    Raises cdna.ArgumentError (the policy; a value that is not finite): the layers before are compressed then.

    >>> import cdna.torch, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 4))
    >>> print(cdna.torch.replace_linears(model, exclude="2").kept)
    [Kept(name='2', reason='excluded')]
    """
    native.preset_shape(policy)
    included, excluded = _patterns(include), _patterns(exclude)
    uses = uses_of_parameters(model)
    report = Report([], [])
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        if isinstance(layer, CdnaLinear) or not name:
            report.kept.append(Kept(name, "compressed already" if name or isinstance(layer, CdnaLinear) else "the model itself"))
            continue
        reason = _why_kept(name, layer, uses[id(layer.weight)] > 1, included, excluded)
        if reason is not None:
            report.kept.append(Kept(name, reason))
            continue
        chosen = native.decide(policy, f"{name}.weight", name_of(layer.weight.dtype), tuple(layer.weight.shape), bool(included))
        if chosen.preset in ("exact", "exact-z"):
            report.kept.append(Kept(name, chosen.reason))
            continue
        dense_bytes = layer.weight.numel() * layer.weight.element_size()
        new = CdnaLinear.from_linear(
            layer, chosen.preset, math=math, train_codebook=train_codebook, threads=threads
        )
        set_module(model, name, new)
        bits = 8 * new.nbytes / layer.weight.numel()
        report.replaced.append(Replaced(name, chosen.preset, chosen.reason, dense_bytes, new.nbytes, bits))
        del layer, new
    return report
