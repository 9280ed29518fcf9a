"""y = x W^T with W as planes.

Three operators: `linear` (x [m, cols] -> [m, rows]), `transposed` (its gradient with respect to x, [m, rows] ->
[m, cols]) and `codebook_gradient`. Each computes in f32 (f64 for f64), and rounds once to the type of x.

Where a product runs is decided by where x is: on the CPU by libcdna, on a CUDA device by libcdna_cuda, whatever device
the planes are on. Products with the codebooks that libcdna_cuda has no form of (entries that are not binary16 numbers:
those that are being trained), gradients on devices, and everything in f64 are made of decoded pieces (chunked.py)."""

from __future__ import annotations

import threading
from typing import Any, Callable

import torch
from torch import Tensor

from . import chunked, native
from .dtypes import name_of
from .packed import as_held, packed_of, with_half_codebook
from .planes import SCHEMA, Planes

Gradients = tuple[Any, ...]

_ZERO_BYTES = 4096  # Of a workspace, at the first product that uses it.
_WORKSPACES: dict[tuple[torch.device, int], Tensor] = {}
_WORKSPACE_LOCK = threading.Lock()


# ---- What they compute ----


def _on_cuda(x: Tensor, planes: Planes, bias: Tensor | None) -> Tensor | None:
    """By libcdna_cuda; None: it has no form of such a product."""
    matrix = with_half_codebook(planes, x.shape[1])
    if matrix is None:
        return None
    with torch.cuda.device(x.device):
        stream = torch.cuda.current_stream().cuda_stream
        ordinal = torch.cuda.current_device()
        y = x.new_empty((x.shape[0], planes.codes.shape[0]))
        if bias is not None:
            bias = bias.to(x.dtype).contiguous()
        on_device = matrix.on_device(ordinal, stream)
        held: list[Tensor] = []

        def workspace(size: int) -> int:
            held.append(_workspace(x.device, stream, size))
            return held[0].data_ptr()

        # From the address to the launch: other threads may ask for a larger one of this stream.
        with _WORKSPACE_LOCK:
            on_device.linear(
                x.data_ptr(),
                y.data_ptr(),
                x.shape[0],
                (x.stride(0), y.stride(0)),
                name_of(x.dtype),
                None if bias is None else bias.data_ptr(),
                stream,
                workspace,
            )
    return y


def _workspace(device: torch.device, stream: int, size: int) -> Tensor:
    """Memory whose first bytes are 0, of a stream's products, of which one runs at a time. A product that a CUDA graph
    captures gets memory of its own, which is the graph's, and whose bytes the graph sets to 0 whenever it runs.
    """
    if torch.cuda.is_current_stream_capturing():
        workspace = torch.empty(size, dtype=torch.uint8, device=device)
        workspace[:_ZERO_BYTES] = 0
        return workspace
    kept = _WORKSPACES.get((device, stream))
    if kept is None or kept.numel() < size:
        # The old one goes back to torch, which gives it out in the order of this stream only.
        kept = torch.zeros(size, dtype=torch.uint8, device=device)
        _WORKSPACES[(device, stream)] = kept
    return kept


def _sum(x: Tensor, planes: Planes, math: str) -> Tensor:
    """x W^T, of f32 or f64."""
    if x.dtype == torch.float64 or x.device.type != "cpu":
        return chunked.linear(x, planes)
    return native.multiply(packed_of(planes, x.shape[1]).tensor, x, math, transposed=False)


def _check_operand(x: Tensor, size: int, what: str) -> None:
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"{what} is of {x.dtype}, not of f16, bf16, f32 or f64")
    if x.device.type not in ("cpu", "cuda"):
        raise RuntimeError(f"cdna::linear has no products on {x.device}: on cpu and cuda")
    if x.dim() != 2 or x.shape[1] != size:
        raise RuntimeError(f"{what} has the shape {list(x.shape)}, not [m, {size}]")


def _linear(x: Tensor, planes: Planes, bias: Tensor | None, in_features: int, math: str) -> Tensor:
    _check_operand(x, in_features, "x")
    if x.shape[0] == 0:
        return x.new_empty((0, planes.codes.shape[0]))
    if x.is_cuda and x.dtype != torch.float64:
        y = _on_cuda(x.contiguous(), planes, bias)
        if y is not None:
            return y
    y = _sum(x, planes, math)
    if bias is not None:
        y += bias.to(y.dtype)
    return y.to(x.dtype)


def _transposed(gy: Tensor, planes: Planes, in_features: int) -> Tensor:
    _check_operand(gy, planes.codes.shape[0], "the gradient")
    if gy.shape[0] == 0:
        return gy.new_empty((0, in_features))
    if gy.dtype == torch.float64 or gy.device.type != "cpu":
        gx = chunked.transposed(gy, planes, in_features)
    else:
        gx = native.multiply(packed_of(planes, in_features).tensor, gy, "f32", transposed=True)
    return gx.to(gy.dtype)


# ---- As custom operators ----


class _CustomOperators:
    """torch.ops.cdna.*: torch.compile and torch.export keep each whole."""

    def __init__(self) -> None:
        self.linear = self._define(
            "linear", f"(Tensor x, {SCHEMA}, Tensor? bias, int in_features, str math) -> Tensor",
            lambda x, *rest: _linear(x, Planes(*rest[:7]), *rest[7:]),
            lambda x, codes, *rest: x.new_empty((x.shape[0], codes.shape[0])),
        )  # fmt: skip
        self.transposed = self._define(
            "transposed", f"(Tensor gy, {SCHEMA}, int in_features) -> Tensor",
            lambda gy, *rest: _transposed(gy, Planes(*rest[:7]), *rest[7:]),
            lambda gy, *rest: gy.new_empty((gy.shape[0], rest[7])),
        )  # fmt: skip
        self.codebook_gradient = self._define(
            "codebook_gradient", f"(Tensor x, Tensor gy, {SCHEMA}) -> Tensor",
            lambda x, gy, *rest: chunked.codebook_gradient(x, gy, Planes(*rest)),
            lambda x, gy, codes, codebook, *rest: torch.empty_like(codebook),
        )  # fmt: skip
        library: Any = torch.library
        library.register_autograd("cdna::linear", self._linear_backward, setup_context=_save_linear)
        library.register_autograd("cdna::transposed", self._transposed_backward, setup_context=_save_transposed)

    @staticmethod
    def _define(name: str, schema: str, function: Callable[..., Tensor], fake: Callable[..., Tensor]) -> Any:
        library: Any = torch.library
        operator = library.custom_op(f"cdna::{name}", function, mutates_args=(), schema=schema)
        operator.register_fake(fake)
        return operator

    def _linear_backward(self, context: Any, gy: Tensor) -> Gradients:
        return _linear_gradients(self, context, gy)

    def _transposed_backward(self, context: Any, ggx: Tensor) -> Gradients:
        return _transposed_gradients(self, context, ggx)


# ---- As autograd functions ----


class _Functions:
    """The same for a torch without torch.library.custom_op."""

    def __init__(self) -> None:
        functions = self

        class Linear(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *inputs: Any) -> Any:
                x, codes = inputs[:2]
                if x.is_meta:
                    y = x.new_empty((x.shape[0], codes.shape[0]))
                else:
                    y = _linear(x, Planes(*inputs[1:8]), *inputs[8:])
                _save_linear(context, inputs, y)
                return y

            @staticmethod
            def backward(context: Any, gy: Any) -> Any:
                return _linear_gradients(functions, context, gy)

        class Transposed(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *inputs: Any) -> Any:
                gy = inputs[0]
                if gy.is_meta:
                    gx = gy.new_empty((gy.shape[0], inputs[8]))
                else:
                    gx = _transposed(gy, Planes(*inputs[1:8]), *inputs[8:])
                _save_transposed(context, inputs, gx)
                return gx

            @staticmethod
            def backward(context: Any, ggx: Any) -> Any:
                return _transposed_gradients(functions, context, ggx)

        self.linear = Linear.apply
        self.transposed = Transposed.apply

    @staticmethod
    def codebook_gradient(x: Tensor, gy: Tensor, *planes: Any) -> Tensor:
        if x.is_meta:
            return torch.empty_like(planes[1])
        with torch.no_grad():
            return chunked.codebook_gradient(x, gy, Planes(*planes))


# ---- Gradients, of both ----


def _save_linear(ctx: Any, inputs: Any, output: Any) -> None:
    x, planes, bias = inputs[0], as_held(Planes(*inputs[1:8])), inputs[8]
    ctx.in_features = inputs[9]
    ctx.bias_dtype = None if bias is None else bias.dtype
    codebook_is_trained = ctx.needs_input_grad[2]
    ctx.save_for_backward(*planes, *((x,) if codebook_is_trained else ()))


def _linear_gradients(operators: Any, context: Any, gy: Tensor) -> Gradients:
    saved = context.saved_tensors  # Once: gradient checkpoints give them once only.
    planes, x = saved[:7], saved[7:]
    gx = g_codebook = g_bias = None
    if context.needs_input_grad[0]:
        gx = operators.transposed(gy, *planes, context.in_features)
    if context.needs_input_grad[2]:
        g_codebook = operators.codebook_gradient(x[0], gy, *planes)
    if context.needs_input_grad[8]:
        g_bias = gy.to(chunked.arithmetic_of(gy.dtype)).sum(0).to(context.bias_dtype)
    return (gx, None, g_codebook, None, None, None, None, None, g_bias, None, None)


def _save_transposed(ctx: Any, inputs: Any, output: Any) -> None:
    gy, planes = inputs[0], as_held(Planes(*inputs[1:8]))
    ctx.in_features = inputs[8]
    ctx.save_for_backward(*planes, *((gy,) if ctx.needs_input_grad[2] else ()))


def _transposed_gradients(operators: Any, context: Any, ggx: Tensor) -> Gradients:
    saved = context.saved_tensors
    planes, gy = saved[:7], saved[7:]
    g_gy = g_codebook = None
    if context.needs_input_grad[0]:
        g_gy = operators.linear(ggx, *planes, None, context.in_features, "f32")
    if context.needs_input_grad[2]:
        g_codebook = operators.codebook_gradient(ggx, gy[0], *planes)
    return (g_gy, None, g_codebook, None, None, None, None, None, None)


# Tests give the oldest torch's functions to the newest torch, too.
CUSTOM = hasattr(torch.library, "custom_op")
_operators: Any = _CustomOperators() if CUSTOM else _Functions()


def linear(x: Tensor, planes: Planes, bias: Tensor | None, in_features: int, math: str) -> Tensor:
    """x [..., in_features] times the transposed matrix of the planes, plus bias: [..., rows] of x's type.

    x is f16, bf16, f32 or f64; the bias is added before the sum is rounded. Gradients: with respect to x, the codebook and the bias. Raises
    RuntimeError (shapes; no such device; no libcdna_cuda, with the reason), TypeError (other types), cdna.CdnaError.

    >>> import torch
    >>> planes = Planes(torch.tensor([[1] * 64], dtype=torch.uint8), torch.arange(256.0))
    >>> linear(torch.ones(2, 64), planes, None, 64, "f32")
    tensor([[64.],
            [64.]])
    """
    y: Tensor = _operators.linear(x.reshape(-1, x.shape[-1]), *planes, bias, in_features, math)
    return y.reshape(*x.shape[:-1], y.shape[-1])
