"""A matrix that stands for its compressed planes where code expects a tensor."""

from __future__ import annotations

from typing import Any, Callable, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map  # torch 1.13 to now; it has no public name.

from .planes import SCHEMA, Planes, chunks, decode_rows
from .sharing import storage_of


class Decodable(Protocol):
    """What a FrozenWeight needs of its layer."""

    out_features: int
    in_features: int

    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor: ...


class FrozenWeight(Tensor):
    """A tensor with a layer's shape, type and device that holds no elements. Every operation with it decodes the whole
    matrix for as long as the operation needs it, and views of it for as long as they live; writing to it, or to those, is
    a RuntimeError.

    >>> import torch, cdna.torch
    >>> layer = cdna.torch.CdnaLinear.from_linear(torch.nn.Linear(64, 64))
    >>> layer.weight.shape, layer.weight.dtype, layer.weight.requires_grad
    (torch.Size([64, 64]), torch.float32, False)
    >>> bool((layer.weight * 1 == layer.dequantize()).all())
    True
    """

    _values: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, layer: Decodable) -> "FrozenWeight":
        shape = (layer.out_features, layer.in_features)
        return cls._make(layer.dequantize, shape, dtype=layer.dtype, device=layer.device)

    @classmethod
    def _make(cls, values: Callable[[], Tensor], shape: tuple[int, ...], **like: Any) -> "FrozenWeight":
        with torch.inference_mode(False):  # Else it could be no view of one that was made outside.
            self: FrozenWeight = Tensor._make_wrapper_subclass(cls, shape, requires_grad=False, **like)
        self._values = values
        return self

    @classmethod
    def _over(cls, values: Callable[[], Tensor], like: Tensor) -> "FrozenWeight":
        """Of the shape, strides and type of another tensor."""
        strides, offset = like.stride(), like.storage_offset()
        place = {"dtype": like.dtype, "device": like.device}
        return cls._make(values, tuple(like.shape), strides=strides, storage_offset=offset, **place)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def data(self) -> Tensor:
        """Itself. Assigning to it is a RuntimeError: what is behind it are codes.

        >>> import torch, cdna.torch
        >>> cdna.torch.CdnaLinear(64, 64).weight.data.shape
        torch.Size([64, 64])
        """
        return self

    @data.setter
    def data(self, _: Tensor) -> None:
        raise RuntimeError(_FROZEN)

    @property
    def requires_grad(self) -> bool:  # type: ignore[override]
        """False. Assigning True is a RuntimeError: no gradient would ever arrive."""
        return False

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(wanted)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:  # type: ignore[override]
        """Itself, for False; else a RuntimeError."""
        if requires_grad:
            raise RuntimeError(_FROZEN)
        return self

    @property
    def grad(self) -> Tensor | None:  # type: ignore[override]
        """None. Assigning another is a RuntimeError."""
        return None

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if gradient is not None:
            raise RuntimeError(_FROZEN)

    def tolist(self) -> Any:
        """Nested lists of numbers."""
        values: Any = self._values()
        return values.tolist()

    def numpy(self, *, force: bool = False) -> Any:  # type: ignore[override]
        """An array that cannot be written to."""
        array = self._values().numpy(force=force)
        array.flags.writeable = False
        return array

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"FrozenWeight(shape={list(self.shape)}, dtype={self.dtype}, device='{self.device}')"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self._values().clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduce: Any = self._values().clone().__reduce_ex__
        return reduce(protocol)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten.detach.default:
            return cls._over(args[0]._values, args[0])
        if any(isinstance(tensor, FrozenWeight) for tensor in _written(function, args, kwargs)):
            raise RuntimeError(_FROZEN)
        storages = set()

        def decoded(value: Any) -> Any:
            if not isinstance(value, FrozenWeight):
                return value
            values = value._values()
            storages.add(storage_of(values))
            return values

        def frozen(value: Any) -> Any:
            is_view = type(value) is Tensor and value.layout == torch.strided and storage_of(value) in storages
            return cls._over(lambda: value, value) if is_view else value

        return tree_map(frozen, function(*tree_map(decoded, args), **tree_map(decoded, kwargs)))


def _written(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operator writes to, those in lists and `out` included."""
    arguments = function._schema.arguments
    named = [*zip(arguments, args), *((a, kwargs[a.name]) for a in arguments[len(args) :] if a.name in kwargs)]
    written = [value for argument, value in named if argument.alias_info is not None and argument.alias_info.is_write]
    flat: list[Any] = tree_flatten(written)[0]
    return flat


class _WhileCompiling:
    """cdna::dequantize: what the weight is in a graph. Graphs that ask for its shape or type only lose it again."""

    def __init__(self) -> None:
        library: Any = torch.library
        self._operator = library.custom_op(
            "cdna::dequantize",
            lambda *arguments: _decode(Planes(*arguments[:7]), *arguments[7:]),
            mutates_args=(),
            schema=f"({SCHEMA}, int in_features, ScalarType dtype) -> Tensor",
        )
        self._operator.register_fake(
            lambda codes, codebook, *rest: codebook.new_empty((codes.shape[0], rest[5]), dtype=rest[6])
        )

    def __call__(self, planes: Planes, cols: int, dtype: torch.dtype) -> Tensor:
        weight: Tensor = self._operator(planes.codes, planes.codebook.detach(), *planes[2:], cols, dtype)
        return weight


def _decode(planes: Planes, cols: int, dtype: torch.dtype) -> Tensor:
    out = planes.codebook.new_empty((planes.codes.shape[0], cols), dtype=dtype)
    planes = planes._replace(codebook=planes.codebook.cpu())
    for begin, end in chunks(out.shape[0], cols):
        out[begin:end] = decode_rows(planes, cols, begin, end, dtype)
    return out


def compiling() -> bool:
    """Whether torch is making a graph of what runs.

    >>> compiling()
    False
    """
    compiler: Any = getattr(torch, "compiler", None)
    return bool(hasattr(compiler, "is_compiling") and compiler.is_compiling())


# None: a torch without torch.library.custom_op.
dense_while_compiling = _WhileCompiling() if hasattr(torch.library, "custom_op") else None


_FROZEN = (
    "the weight of a CdnaLinear is frozen: it is stored as codes. dequantize() gives a dense copy, to_linear() a layer "
    "that can be changed"
)
