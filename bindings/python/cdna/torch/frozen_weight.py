"""A matrix that stands for its compressed planes where code expects a tensor."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map  # torch 1.13 to now; it has no public name.


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
    matrix for as long as the operation needs it; writing to it is a RuntimeError.

    >>> import torch, cdna.torch
    >>> layer = cdna.torch.CdnaLinear.from_linear(torch.nn.Linear(64, 64))
    >>> layer.weight.shape, layer.weight.dtype, layer.weight.requires_grad
    (torch.Size([64, 64]), torch.float32, False)
    >>> bool((layer.weight * 1 == layer.dequantize()).all())
    True
    """

    _layer: Decodable

    @staticmethod
    def __new__(cls, layer: Decodable) -> "FrozenWeight":
        shape = (layer.out_features, layer.in_features)
        self: FrozenWeight = Tensor._make_wrapper_subclass(
            cls, shape, dtype=layer.dtype, device=layer.device, requires_grad=False
        )
        self._layer = layer
        return self

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

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"FrozenWeight(shape={list(self.shape)}, dtype={self.dtype}, device='{self.device}')"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self._layer.dequantize()

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduce: Any = self._layer.dequantize().__reduce_ex__
        return reduce(protocol)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten.detach.default:
            return FrozenWeight(args[0]._layer)
        for argument, value in zip(function._schema.arguments, args):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, FrozenWeight):
                raise RuntimeError(_FROZEN)

        def decoded(value: Any) -> Any:
            return value._layer.dequantize() if isinstance(value, FrozenWeight) else value

        return function(*tree_map(decoded, args), **tree_map(decoded, kwargs))


_FROZEN = (
    "the weight of a CdnaLinear is frozen: it is stored as codes. dequantize() gives a dense copy, to_linear() a layer "
    "that can be changed"
)
