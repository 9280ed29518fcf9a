"""CdnaLinear: a linear layer that multiplies with its weight as it is compressed."""

from __future__ import annotations

from typing import Any, Callable, Mapping

import torch
from torch import Tensor, nn

import cdna

from . import native, operators, packed
from .dtypes import ENCODABLE
from .frozen_weight import FrozenWeight, compiling, dense_while_compiling
from .packed import PackedMatrix
from .planes import NAMES, Planes, bits_of_codebook, check, check_layout, chunks, decode_rows, group_of, layout_of, row_bytes

MATHS = ("f32", "bf16", "int8")
_OPTIONAL = tuple(name for name in NAMES if name not in ("codes", "codebook"))


def _autocast_dtype(device_type: str) -> torch.dtype | None:
    """The type that autocast asks linear layers for, if it is on."""
    if device_type not in ("cpu", "cuda"):
        return None
    if operators.CUSTOM:
        enabled: Any = torch.is_autocast_enabled
        return torch.get_autocast_dtype(device_type) if enabled(device_type) else None
    if device_type == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


class CdnaLinear(nn.Linear):
    """y = x W^T + b, W frozen and compressed: codes, a codebook, scales, outliers (spec/format.md, 13.2).

    A new layer has no weights yet: all of them are 0. They come from from_linear(), from_tensor(), load_state_dict() or
    cdna.torch.load_module().

    preset: how weights are to be compressed ("cb8", "cb6g64", ...: what cdna.encode() takes); a state dict that is
    loaded may be of another. dtype: of the bias, and what `weight` says; x may be f16, bf16, f32 or f64, and y is what x
    is. math: "f32", or "bf16" or "int8" for faster products on the CPU (errors: cdna/matmul.hpp). train_codebook: the
    codebook is a parameter; its gradient is exact with the codes standing still.

    In the state dict, beside `bias`: `codes` uint8 [out, ceil(in * bits / 8)], `codebook` f32 [2^bits], and as far as
    there are any: `row_scales` f32 [out], `group_scales` uint8 [out, ceil(in / group)] with `scale_table` f32 [256],
    `outlier_values` (of the type of the weights that were compressed) and `outlier_positions` int64. The number of bits
    and the group follow from the shapes. half() and to(dtype) leave all of them as they are. `_extra_state` int64 [7]
    has the number of elements of each, -1 where there is none: planes that were saved and are not there any more, as
    those of other numbers, are a RuntimeError and leave the layer as it is.

    On the CPU libcdna multiplies with a file in private memory; `codes` and `group_scales` are views of it, so nothing
    is held twice. It is made at the first product, and anew when planes were changed; a codebook that is out of order
    (after training) holds codes twice until it is in order again. Writing to `codes` or `group_scales` through
    `.data`, or where they were made in inference mode, goes unnoticed.

    On CUDA libcdna_cuda multiplies (RuntimeError with the reason where it cannot); x decides. Planes stay in the host's
    memory, only bias and codebook move; the device has them in its own order from the first product on. Gradients there
    are made of decoded pieces of a few megabytes, as is everything with a codebook whose entries are not binary16
    numbers. What is tested of this is tested on an emulated device: none of it has run on a GPU.

    Threads: any may use a layer at a time. Pickled and copied with its planes.

    >>> import torch, cdna.torch
    >>> dense = torch.nn.Linear(64, 32)
    >>> layer = cdna.torch.CdnaLinear.from_linear(dense, "cb8")
    >>> layer
    CdnaLinear(in_features=64, out_features=32, bias=True, bits=8, outliers=2)
    >>> x = torch.randn(2, 5, 64)
    >>> bool((layer(x) - dense(x)).abs().max() < 0.01)
    True
    """

    bias: Any  # A parameter or None; torch's own stubs say otherwise.
    codes: Tensor
    codebook: Tensor
    row_scales: Tensor | None
    group_scales: Tensor | None
    scale_table: Tensor | None
    outlier_values: Tensor | None
    outlier_positions: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        preset: str = "cb8",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        math: str = "f32",
        train_codebook: bool = False,
    ) -> None:
        """Raises ValueError (sizes below 1; an unknown math), TypeError (the dtype), cdna.ArgumentError (an unknown
        preset)."""
        nn.Module.__init__(self)
        if in_features < 1 or out_features < 1:
            raise ValueError(f"a compressed matrix has rows and columns, not {out_features} and {in_features}")
        if math not in MATHS:
            raise ValueError(f"math is {math!r}: one of {', '.join(MATHS)}")
        self.in_features, self.out_features = in_features, out_features
        self.preset, self.math = preset, math
        self.set_dtype(torch.get_default_dtype() if dtype is None else dtype)
        self._begin_session()
        place = torch.device("cpu") if device is None else torch.device(device)
        vector = torch.zeros(out_features, dtype=self._dtype, device=place) if bias else None
        self.bias = None if vector is None else nn.Parameter(vector)
        for name in NAMES:
            self.register_buffer(name, None)
        self._set_planes(self._empty_planes(place))
        self.train_codebook(train_codebook)

    def _begin_session(self) -> None:
        """What belongs to this object and this process only."""
        self.packed: PackedMatrix | None = None
        self._layout = torch.empty(0, dtype=torch.int64)
        packed.register(self)

    def _empty_planes(self, place: torch.device) -> Planes:
        shape = native.preset_shape(self.preset)
        rows = self.out_features
        large = torch.device("meta" if place.type == "meta" else "cpu")
        groups = (self.in_features + shape.group - 1) // shape.group if shape.group else 0
        return Planes(
            codes=torch.zeros((rows, row_bytes(self.in_features, shape.bits)), dtype=torch.uint8, device=large),
            codebook=torch.zeros(1 << shape.bits, device=place),
            row_scales=torch.zeros(rows, device=large),
            group_scales=torch.zeros((rows, groups), dtype=torch.uint8, device=large) if groups else None,
            scale_table=torch.zeros(256, device=large) if groups else None,
        )

    # ---- Making one ----

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, preset: str = "cb8", *, math: str = "f32", train_codebook: bool = False, threads: int = 0
    ) -> CdnaLinear:
        """Compresses the weight of a layer; the bias becomes this layer's own, shared. Raises cdna.ArgumentError (the
        preset; a value that is not finite, with its place), TypeError (a weight that is not f16, bf16, f32 or f64).

        >>> import torch, cdna.torch
        >>> cdna.torch.CdnaLinear.from_linear(torch.nn.Linear(64, 64, bias=False), "cb4g32").codes.shape
        torch.Size([64, 32])
        """
        weight = linear.weight.detach()
        planes = native.encode(weight, preset, threads)
        self = cls._from_planes(planes, linear.in_features, preset, weight.dtype, weight.device, math)
        self.bias = linear.bias
        self.train_codebook(train_codebook)
        return self.train(linear.training)

    @classmethod
    def from_tensor(
        cls,
        tensor: cdna.Tensor,
        bias: Tensor | None = None,
        device: torch.device | str | None = None,
        *,
        dtype: torch.dtype | None = None,
        math: str = "f32",
        train_codebook: bool = False,
    ) -> CdnaLinear:
        """A layer with the planes of a file's tensor, copied as they are. Nothing of the file is needed afterwards.

        dtype: of the layer; None: of the weights that were compressed. Raises ValueError where the tensor is no matrix
        with a codebook, and cdna.CdnaError where the file is damaged.

        >>> import cdna, cdna.torch, torch
        >>> data = cdna.torch.save({"w": torch.randn(64, 64)}, policy="cb8")
        >>> cdna.torch.CdnaLinear.from_tensor(cdna.open(data)["w"]).in_features
        64
        """
        planes, cols, source = native.planes_of(tensor)
        place = torch.device("cpu") if device is None else torch.device(device)
        self = cls._from_planes(planes, cols, "", dtype or source, place, math)
        if bias is not None:
            bias = bias.detach().to(device=place, dtype=self._dtype)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.train_codebook(train_codebook)
        return self

    @classmethod
    def _from_planes(
        cls, planes: Planes, cols: int, preset: str, dtype: torch.dtype, place: torch.device, math: str
    ) -> CdnaLinear:
        self = cls(cols, planes.codes.shape[0], False, preset=preset or "cb8", device="meta", dtype=dtype, math=math)
        self.preset = preset
        if place.type != "meta":
            self._set_planes(planes._replace(codebook=planes.codebook.to(place)))
        return self

    def to_linear(self) -> nn.Linear:
        """A dense layer with the values of this one.

        >>> import cdna.torch
        >>> cdna.torch.CdnaLinear(64, 64).to_linear()
        Linear(in_features=64, out_features=64, bias=True)
        """
        linear = nn.Linear(self.in_features, self.out_features, False, device="meta", dtype=self._dtype)
        linear.weight = nn.Parameter(self.dequantize())
        linear.bias = self.bias
        return linear.train(self.training)

    # ---- What it has ----

    @property
    def planes(self) -> Planes:
        """All planes, the codebook detached from nothing: what decode_rows() takes."""
        return Planes(*(getattr(self, name) for name in NAMES))

    @property
    def bits(self) -> int:
        """Per code."""
        return bits_of_codebook(self.codebook.numel())

    @property
    def group(self) -> int:
        """Columns per group scale; 0: none."""
        return 0 if self.group_scales is None else group_of(self.in_features, self.group_scales.shape[1])

    @property
    def device(self) -> torch.device:
        """Where x is expected; codes are in the host's memory whatever it is."""
        return self.codebook.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the bias, of `weight`, and of what dequantize() gives."""
        return self._dtype

    @property
    def nbytes(self) -> int:
        """Of all planes."""
        return sum(plane.numel() * plane.element_size() for plane in self.planes if plane is not None)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight as a tensor without storage: shape, dtype and device are what PEFT and accelerate look at. Any
        operation with it decodes the whole matrix for the length of the operation, views of it last as long as they
        do; writing to any of them is a RuntimeError. In compiled code it is the decoded matrix itself, if more than
        its shape and type are looked at; writing to that is lost.

        >>> import cdna.torch
        >>> cdna.torch.CdnaLinear(64, 32).weight
        FrozenWeight(shape=[32, 64], dtype=torch.float32, device='cpu')
        """
        if dense_while_compiling is not None and compiling():
            return dense_while_compiling(self.planes, self.in_features, self._dtype)
        return FrozenWeight(self)

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weight [out, in], dense, on the layer's device: bit for bit what cdna.Tensor.numpy() gives, rounded once
        to `dtype` (None: the layer's).

        >>> import torch, cdna.torch
        >>> cdna.torch.CdnaLinear(64, 64).dequantize().abs().max()
        tensor(0.)
        """
        dtype = dtype or self._dtype
        rows, cols = self.out_features, self.in_features
        out = torch.empty((rows, cols), dtype=dtype, device=self.device)
        if out.is_meta:
            return out
        with torch.no_grad():
            planes = self.planes._replace(codebook=self.codebook.detach().cpu())
            for begin, end in chunks(rows, cols):
                out[begin:end] = decode_rows(planes, cols, begin, end, dtype)
        return out

    def extra_repr(self) -> str:
        """What nn.Linear says, and how the weight is compressed."""
        parts = [f"{super().extra_repr()}, bits={self.bits}"]
        if self.group:
            parts.append(f"group={self.group}")
        if self.outlier_values is not None:
            parts.append(f"outliers={self.outlier_values.numel()}")
        return ", ".join(parts)

    # ---- Changing it ----

    def train_codebook(self, mode: bool = True) -> CdnaLinear:
        """Makes the codebook a parameter that gradients reach, or a buffer. Codes never change. Returns the layer. One
        that requires_grad_(False) froze is trained again.

        >>> import cdna.torch
        >>> [name for name, _ in cdna.torch.CdnaLinear(64, 64, False).train_codebook().named_parameters()]
        ['codebook']
        """
        codebook = self.codebook.detach()
        if mode == isinstance(self.codebook, nn.Parameter):
            self.codebook.requires_grad_(mode)
            return self
        del self.codebook
        if mode:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        return self

    def reset_parameters(self) -> None:
        """A RuntimeError: random weights cannot be had compressed."""
        raise RuntimeError("CdnaLinear has no random weights: from_linear() compresses those of a layer")

    def _set_planes(self, planes: Planes) -> None:
        check(planes, self.out_features, self.in_features)
        for name, plane in zip(NAMES, planes):
            if isinstance(getattr(self, name), nn.Parameter):
                self.codebook.data = planes.codebook
            else:
                setattr(self, name, plane)
        self.packed = None

    def adopt(self, matrix: PackedMatrix) -> None:
        """Takes the packed file that was made of these planes, and views of it in place of what it has a copy of."""
        if not matrix.reordered:
            views = native.views_of(matrix.tensor)
            for name in packed.LARGE:
                if getattr(self, name) is not None and getattr(self, name).device.type == "cpu":
                    setattr(self, name, views[name])
        self.packed = matrix

    # ---- Computing ----

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] -> [..., out_features], of x's type, or of autocast's.

        >>> import torch, cdna.torch
        >>> cdna.torch.CdnaLinear(64, 32)(torch.zeros(2, 3, 64)).shape
        torch.Size([2, 3, 32])
        """
        wanted = _autocast_dtype(x.device.type)
        if wanted is not None and x.dtype != torch.float64:
            x = x.to(wanted)
        return operators.linear(x, self.planes, self.bias, self.in_features, self.math)

    # ---- As a module ----

    def _apply(self, fn: Callable[[Tensor], Tensor], *arguments: Any, **options: Any) -> CdnaLinear:
        """Bias and codebook go along to another device, the bias to another type; everything goes to `meta`."""
        buffers = {name: self._buffers.pop(name, None) for name in NAMES}
        codebook = self._parameters.pop("codebook", None)
        try:
            probe = fn(torch.empty(0, dtype=self._dtype, device=self._device_of(buffers, codebook)))
            if probe.dtype.is_floating_point:
                self.set_dtype(probe.dtype)
            apply: Any = super()._apply
            apply(fn, *arguments, **options)
        finally:
            self._buffers.update(buffers)
            if codebook is not None:
                self._parameters["codebook"] = codebook
                del self._buffers["codebook"]
        self.move_planes(probe.device)
        return self

    @staticmethod
    def _device_of(buffers: Mapping[str, Tensor | None], codebook: Tensor | None) -> torch.device:
        found = codebook if codebook is not None else buffers["codebook"]
        assert found is not None
        return found.device

    def set_dtype(self, dtype: torch.dtype) -> None:
        """What `weight` says and dequantize() gives; the bias is left as it is. TypeError but for f16, bf16, f32, f64.

        >>> import torch, cdna.torch
        >>> layer = cdna.torch.CdnaLinear(64, 64, False)
        >>> layer.set_dtype(torch.float16)
        >>> layer.weight.dtype
        torch.float16
        """
        if dtype not in ENCODABLE:
            raise TypeError(f"a CdnaLinear is of f16, bf16, f32 or f64, not of {dtype}")
        self._dtype = dtype

    def move_planes(self, place: torch.device) -> None:
        """Brings the codebook to a device, and the other planes to the host's memory or to `meta`. From `meta` come
        planes without values.

        >>> import torch, cdna.torch
        >>> layer = cdna.torch.CdnaLinear(64, 64)
        >>> layer.move_planes(torch.device("meta"))
        >>> layer.codes.is_meta, layer.bias.is_meta
        (True, False)
        """

        def moved(tensor: Tensor, to: torch.device) -> Tensor:
            return torch.empty_like(tensor, device=to) if tensor.is_meta else tensor.to(to)

        large = torch.device("meta" if place.type == "meta" else "cpu")
        for name in NAMES:
            plane = getattr(self, name)
            if plane is None or plane.device == (place if name == "codebook" else large):
                continue
            if name != "codebook":
                setattr(self, name, moved(plane, large))
            elif isinstance(plane, nn.Parameter):
                # nn.Module decides whether it stays the same object: optimisers hold it.
                alone: Any = nn.Module()
                alone.codebook = plane
                self.codebook = alone._apply(lambda tensor: moved(tensor, place)).codebook
            else:
                self.codebook = moved(plane, place)

    def get_extra_state(self) -> Tensor:
        """Elements of each plane: the same tensor as long as they are the same, so that a layer in two places has one.

        >>> import cdna.torch
        >>> cdna.torch.CdnaLinear(64, 64).get_extra_state()
        tensor([4096,  256,   64,   -1,   -1,   -1,   -1])
        """
        layout = layout_of(self.planes)
        if self.codes.is_meta:
            return layout.to("meta")
        if not torch.equal(layout, self._layout):
            self._layout = layout
        return self._layout

    def set_extra_state(self, state: Any) -> None:
        """Nothing: loading has compared it with the planes."""

    def _check_trained(self, codebook: Tensor) -> None:
        """A parameter keeps its shape: gradients and optimisers have state of that shape."""
        if isinstance(self.codebook, nn.Parameter) and self.codebook.shape != codebook.shape:
            raise ValueError(
                f"its codebook is a parameter of {self.codebook.numel()} entries, not {codebook.numel()}; "
                "train_codebook(False) before loading makes it a buffer, which takes any"
            )

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Planes take the shapes that the state dict has, but for a codebook that is a parameter."""
        found: dict[str, Any] = {name: state_dict.get(prefix + name) for name in NAMES}
        if found["codes"] is not None and found["codebook"] is not None:
            try:
                check(Planes(**found), self.out_features, self.in_features)
                check_layout(Planes(**found), state_dict.get(prefix + "_extra_state"))
                self._check_trained(found["codebook"])
            except (ValueError, TypeError, AttributeError) as error:
                error_msgs.append(f"planes of {prefix.rstrip('.')} do not fit the layer: {error}")
                return
            large = torch.device("meta" if self.codes.is_meta else "cpu")
            places = {name: self.device if name == "codebook" else large for name in NAMES}
            # New memory: what is there now may be a view of the packed file.
            fresh: list[Any] = [
                None
                if plane is None
                else torch.empty_like(plane, device=places[name], memory_format=torch.contiguous_format)
                for name, plane in found.items()
            ]
            self._set_planes(Planes(*fresh))
        load: Any = super()._load_from_state_dict
        load(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["packed"], state["_layout"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        restore: Any = super().__setstate__
        restore(state)
        self._begin_session()
