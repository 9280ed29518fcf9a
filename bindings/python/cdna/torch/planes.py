"""The planes of a matrix with a codebook (spec/format.md, 13.2) and how they become values.

Everything here is plain torch: it works on any device, in bounded memory, and gives the decoder's values bit for bit.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

import torch
from torch import Tensor

# Elements of the pieces in which matrices are decoded: 4 MiB of f32, and as much again for codes.
CHUNK_ELEMENTS = 1 << 20
NAMES = (
    "codes",
    "codebook",
    "row_scales",
    "group_scales",
    "scale_table",
    "outlier_values",
    "outlier_positions",
)
# As arguments of an operator.
SCHEMA = (
    "Tensor codes, Tensor codebook, Tensor? row_scales, Tensor? group_scales, Tensor? scale_table, "
    "Tensor? outlier_values, Tensor? outlier_positions"
)
GROUPS = (32, 64, 128)
SCALE_TABLE_ENTRIES = 256
BITS_MAX = 16


class Planes(NamedTuple):
    """The planes of a matrix [rows, cols].

    codes [rows, ceil(cols * bits / 8)] uint8, the first code in the lowest bits; codebook [2^bits] f32; row_scales
    [rows] f32; group_scales [rows, ceil(cols / group)] uint8, numbers of scale_table [256] f32; outlier_values [n] of
    the source's type at outlier_positions [n] int64, ascending, row-major in the matrix. The last five may be None.

    >>> import torch
    >>> planes = Planes(torch.tensor([[0, 1]], dtype=torch.uint8), torch.arange(256.0))
    >>> decode_rows(planes, 2, 0, 1)
    tensor([[0., 1.]])
    """

    codes: Tensor
    codebook: Tensor
    row_scales: Tensor | None = None
    group_scales: Tensor | None = None
    scale_table: Tensor | None = None
    outlier_values: Tensor | None = None
    outlier_positions: Tensor | None = None


def bits_of_codebook(entries: int) -> int:
    """Bits per code of a codebook with so many entries; ValueError if that is no power of two.

    >>> bits_of_codebook(256)
    8
    """
    bits = entries.bit_length() - 1
    if bits < 1 or bits > BITS_MAX or entries != 1 << bits:
        raise ValueError(f"a codebook has 2, 4, ... 65536 entries, not {entries}")
    return bits


def row_bytes(cols: int, bits: int) -> int:
    """Bytes that the codes of a row take.

    >>> row_bytes(5, 3)
    2
    """
    return (cols * bits + 7) // 8


def group_of(cols: int, groups: int) -> int:
    """Columns per group scale of rows with so many of them; ValueError if there is no such group. Where several fit,
    there is one group only, and they mean the same.

    >>> group_of(384, 6)
    64
    """
    for group in GROUPS:
        if (cols + group - 1) // group == groups:
            return group
    raise ValueError(f"{groups} scales in a row of {cols} columns are of no groups of 32, 64 or 128")


def _shape_error(planes: Planes, rows: int, cols: int) -> str | None:
    bits = bits_of_codebook(planes.codebook.numel())
    wanted = {
        "codes": (rows, row_bytes(cols, bits)),
        "codebook": (1 << bits,),
        "row_scales": (rows,),
        "scale_table": (SCALE_TABLE_ENTRIES,),
    }
    for name, shape in wanted.items():
        plane = getattr(planes, name)
        if plane is not None and tuple(plane.shape) != shape:
            return f"{name} has the shape {list(plane.shape)}, not {list(shape)}"
    if (planes.group_scales is None) != (planes.scale_table is None):
        return "group_scales and scale_table come together"
    if planes.group_scales is not None:
        if planes.group_scales.dim() != 2 or planes.group_scales.shape[0] != rows:
            return f"group_scales has the shape {list(planes.group_scales.shape)}, not [{rows}, groups]"
        group_of(cols, planes.group_scales.shape[1])
    if (planes.outlier_values is None) != (planes.outlier_positions is None):
        return "outlier_values and outlier_positions come together"
    if planes.outlier_values is not None and planes.outlier_positions is not None:
        if planes.outlier_values.dim() != 1 or planes.outlier_values.shape != planes.outlier_positions.shape:
            return "outlier_values and outlier_positions are vectors of the same length"
    return None


def _dtype_error(planes: Planes) -> str | None:
    wanted = {
        "codes": torch.uint8,
        "codebook": torch.float32,
        "row_scales": torch.float32,
        "group_scales": torch.uint8,
        "scale_table": torch.float32,
        "outlier_positions": torch.int64,
    }
    for name, dtype in wanted.items():
        plane = getattr(planes, name)
        if plane is not None and plane.dtype != dtype:
            return f"{name} is of {plane.dtype}, not {dtype}"
    return None


def check(planes: Planes, rows: int, cols: int) -> None:
    """ValueError unless the planes are of the types and shapes of a matrix [rows, cols]. Values are not looked at.

    >>> import torch
    >>> check(Planes(torch.zeros((3, 2), dtype=torch.uint8), torch.zeros(256)), 3, 2)
    """
    error = _dtype_error(planes) or _shape_error(planes, rows, cols)
    if error is not None:
        raise ValueError(error)


def layout_of(planes: Planes) -> Tensor:
    """Elements of each plane in the order of NAMES, -1 where there is none: int64 [7].

    >>> import torch
    >>> layout_of(Planes(torch.zeros((3, 2), dtype=torch.uint8), torch.zeros(256)))
    tensor([  6, 256,  -1,  -1,  -1,  -1,  -1])
    """
    return torch.tensor([-1 if plane is None else plane.numel() for plane in planes], dtype=torch.int64)


def check_layout(planes: Planes, saved: Tensor | None) -> None:
    """ValueError unless these are the planes that layout_of() was made of. None, and on `meta`: nothing is known.

    >>> import torch
    >>> planes = Planes(torch.zeros((3, 2), dtype=torch.uint8), torch.zeros(256))
    >>> check_layout(planes, layout_of(planes))
    """
    if saved is None or saved.is_meta:
        return
    if saved.dtype != torch.int64 or tuple(saved.shape) != (len(NAMES),):
        raise ValueError(f"_extra_state is {saved.dtype} {list(saved.shape)}, not {torch.int64} [{len(NAMES)}]")
    for name, wanted, found in zip(NAMES, saved.tolist(), layout_of(planes).tolist()):
        if wanted >= 0 > found:
            raise ValueError(f"{name} is missing, of which {wanted} elements were saved")
        if wanted != found:
            raise ValueError(f"{name} has {found} elements, and {'none' if wanted < 0 else wanted} were saved")


def chunks(rows: int, cols: int, elements: int = CHUNK_ELEMENTS) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most so many elements, or of one row.

    >>> list(chunks(5, 10, 20))
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, elements // max(1, cols))
    for begin in range(0, rows, step):
        yield begin, min(rows, begin + step)


def unpack_codes(codes: Tensor, bits: int, cols: int) -> Tensor:
    """Codes [rows, cols] as int64, from rows of bytes.

    The worked example of the format:

    >>> import torch
    >>> unpack_codes(torch.tensor([[0xC8, 0x7A]], dtype=torch.uint8), 3, 5)
    tensor([[0, 1, 3, 5, 7]])
    """
    if bits == 8:
        return codes.to(torch.int64)
    first = torch.arange(cols, device=codes.device, dtype=torch.int64) * bits
    byte, shift = first // 8, first % 8
    last = codes.shape[1] - 1
    word = codes[:, byte].to(torch.int64)
    for further in range(1, (bits + 14) // 8):  # A code begins at any of 8 bits.
        word |= codes[:, (byte + further).clamp_(max=last)].to(torch.int64) << (8 * further)
    return (word >> shift) & ((1 << bits) - 1)


def scales_of_rows(planes: Planes, cols: int, begin: int, end: int) -> Tensor | None:
    """What the codebook's entries are multiplied by in rows [begin, end): [end - begin, cols] or [end - begin, 1]
    f32, rounded as the format says; None: by nothing.

    >>> import torch
    >>> planes = Planes(torch.zeros((1, 2), dtype=torch.uint8), torch.zeros(256), row_scales=torch.tensor([3.0]))
    >>> scales_of_rows(planes, 2, 0, 1)
    tensor([[3.]])
    """
    row = None if planes.row_scales is None else planes.row_scales[begin:end, None]
    if planes.group_scales is None or planes.scale_table is None:
        return row
    group = planes.scale_table[planes.group_scales[begin:end].to(torch.int64)]
    scales = group if row is None else group * row
    return scales.repeat_interleave(group_of(cols, group.shape[1]), dim=1)[:, :cols]


def outliers_of_rows(planes: Planes, cols: int, begin: int, end: int) -> tuple[Tensor | None, slice]:
    """Positions of the outliers of rows [begin, end), counted from row `begin`, and which of all outliers they are.

    >>> import torch
    >>> planes = Planes(torch.zeros((2, 2), dtype=torch.uint8), torch.zeros(256),
    ...                 outlier_values=torch.tensor([5.0]), outlier_positions=torch.tensor([3]))
    >>> outliers_of_rows(planes, 2, 1, 2)
    (tensor([1]), slice(0, 1, None))
    """
    positions = planes.outlier_positions
    if positions is None or positions.numel() == 0:
        return None, slice(0, 0)
    bounds = torch.tensor([begin * cols, end * cols], dtype=torch.int64, device=positions.device)
    first, last = torch.searchsorted(positions, bounds).tolist()
    return (positions[first:last] - begin * cols, slice(first, last)) if last > first else (None, slice(0, 0))


def rows_on(planes: Planes, device: torch.device, cols: int, begin: int, end: int) -> Planes:
    """Rows [begin, end) as planes of a matrix of their own, on `device`.

    >>> import torch
    >>> planes = Planes(torch.tensor([[0], [7]], dtype=torch.uint8), torch.arange(256.0))
    >>> rows_on(planes, torch.device("cpu"), 1, 1, 2).codes
    tensor([[7]], dtype=torch.uint8)
    """
    positions, which = outliers_of_rows(planes, cols, begin, end)
    values = None if positions is None or planes.outlier_values is None else planes.outlier_values[which]
    parts = (
        planes.codes[begin:end],
        planes.codebook.detach(),
        None if planes.row_scales is None else planes.row_scales[begin:end],
        None if planes.group_scales is None else planes.group_scales[begin:end],
        planes.scale_table,
        values,
        positions,
    )
    return Planes(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]


def decode_rows(planes: Planes, cols: int, begin: int, end: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows [begin, end) as numbers of `dtype`, [end - begin, cols]: the decoder's f32 values, rounded once; outliers of
    the same type as `dtype` bit for bit. All planes are on one device, and so is the result.

    >>> import torch
    >>> planes = Planes(torch.tensor([[0, 2], [1, 0]], dtype=torch.uint8), torch.arange(256.0),
    ...                 row_scales=torch.tensor([1.0, 10.0]),
    ...                 outlier_values=torch.tensor([0.5]), outlier_positions=torch.tensor([3]))
    >>> decode_rows(planes, 2, 0, 2)
    tensor([[ 0.0000,  2.0000],
            [10.0000,  0.5000]])
    """
    codebook = planes.codebook.detach()
    values = codebook[unpack_codes(planes.codes[begin:end], bits_of_codebook(codebook.numel()), cols)]
    scales = scales_of_rows(planes, cols, begin, end)
    if scales is not None:
        values *= scales
    out = values.to(dtype)
    positions, which = outliers_of_rows(planes, cols, begin, end)
    if positions is not None and planes.outlier_values is not None:
        exact = planes.outlier_values[which]
        out.view(-1)[positions] = exact if exact.dtype == dtype else exact.to(torch.float32).to(dtype)
    return out
