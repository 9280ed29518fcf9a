"""Products from decoded pieces of a few megabytes, for what the library's kernels have no form of: elements of f64,
gradients on devices, and gradients of codebooks."""

from __future__ import annotations

import torch
from torch import Tensor

from .planes import (
    Planes,
    bits_of_codebook,
    chunks,
    decode_rows,
    outliers_of_rows,
    rows_on,
    scales_of_rows,
    unpack_codes,
)


def arithmetic_of(dtype: torch.dtype) -> torch.dtype:
    """In what a product of elements of that type is made: f64 for f64, else f32.

    >>> import torch
    >>> arithmetic_of(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def linear(x: Tensor, planes: Planes) -> Tensor:
    """x [m, cols] times the transposed matrix: [m, rows], of arithmetic_of(x.dtype).

    >>> import torch
    >>> planes = Planes(torch.tensor([[1, 2]], dtype=torch.uint8), torch.arange(256.0))
    >>> linear(torch.tensor([[10.0, 1.0]]), planes)
    tensor([[12.]])
    """
    rows, cols = planes.codes.shape[0], x.shape[1]
    x = x.to(arithmetic_of(x.dtype))
    y = x.new_empty((x.shape[0], rows))
    for begin, end in chunks(rows, cols):
        part = rows_on(planes, x.device, cols, begin, end)
        torch.mm(x, decode_rows(part, cols, 0, end - begin).to(x.dtype).t(), out=y[:, begin:end])
    return y


def transposed(gy: Tensor, planes: Planes, cols: int) -> Tensor:
    """gy [m, rows] times the matrix: [m, cols], of arithmetic_of(gy.dtype).

    >>> import torch
    >>> planes = Planes(torch.tensor([[1, 2]], dtype=torch.uint8), torch.arange(256.0))
    >>> transposed(torch.tensor([[10.0]]), planes, 2)
    tensor([[10., 20.]])
    """
    gy = gy.to(arithmetic_of(gy.dtype))
    gx = gy.new_zeros((gy.shape[0], cols))
    for begin, end in chunks(gy.shape[1], cols):
        part = rows_on(planes, gy.device, cols, begin, end)
        gx.addmm_(gy[:, begin:end], decode_rows(part, cols, 0, end - begin).to(gy.dtype))
    return gx


def codebook_gradient(x: Tensor, gy: Tensor, planes: Planes) -> Tensor:
    """The gradient of each entry of the codebook, the codes standing still: the sum over the places where its code is,
    outliers apart, of the place's scale times (gy^T x) there. x [m, cols], gy [m, rows]; [entries] f32, on the
    codebook's device.

    >>> import torch
    >>> planes = Planes(torch.tensor([[1, 1, 0]], dtype=torch.uint8), torch.zeros(2), row_scales=torch.tensor([2.0]))
    >>> codes = planes.codes.new_tensor([[0b011]])
    >>> codebook_gradient(torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([[1.0]]), planes._replace(codes=codes))
    tensor([200.,  22.])
    """
    cols, entries = x.shape[1], planes.codebook.numel()
    bits = bits_of_codebook(entries)
    dtype = arithmetic_of(x.dtype)
    x, gy = x.to(dtype), gy.to(dtype)
    sums = torch.zeros(entries, dtype=torch.float64, device=x.device)
    for begin, end in chunks(gy.shape[1], cols):
        part = rows_on(planes, x.device, cols, begin, end)
        gradient = gy[:, begin:end].t() @ x
        scales = scales_of_rows(part, cols, 0, end - begin)
        if scales is not None:
            gradient *= scales
        positions, _ = outliers_of_rows(part, cols, 0, end - begin)
        if positions is not None:
            gradient.view(-1)[positions] = 0
        codes = unpack_codes(part.codes, bits, cols)
        sums += torch.bincount(codes.view(-1), gradient.view(-1).to(torch.float64), entries)
    return sums.to(torch.float32).to(planes.codebook.device)
