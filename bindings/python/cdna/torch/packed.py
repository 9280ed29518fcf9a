"""Files in memory made of planes, and which layer has which."""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from . import native
from .cuda_library import DeviceMatrix
from .dtypes import bits_of
from .planes import NAMES, Planes, bits_of_codebook, chunks, row_bytes, unpack_codes

TENSOR_NAME = "weight"
# The planes that grow with the matrix; views of the packed file, where it has them whole.
LARGE = ("codes", "group_scales")


class Owner(Protocol):
    """A layer that may have planes packed."""

    packed: PackedMatrix | None

    @property
    def planes(self) -> Planes: ...
    def adopt(self, packed: PackedMatrix) -> None: ...


def _mark(plane: Tensor) -> tuple[Any, ...]:
    version = -1 if plane.is_inference() else int(plane._version)
    return plane.data_ptr(), version, plane.shape, plane.stride()


class _Memory:
    """Memory that a tensor was in, as often as it had been written to. Other tensors over it are of it as long as that
    one lives: freed memory is used again."""

    def __init__(self, plane: Tensor) -> None:
        self._tensor = weakref.ref(plane)
        self._mark = _mark(plane)

    def is_of(self, plane: Tensor | None) -> bool:
        tensor = self.tensor()
        return tensor is not None and plane is not None and _mark(plane) == self._mark == _mark(tensor)

    def tensor(self) -> Tensor | None:
        """None: it is no more."""
        tensor = self._tensor()
        if tensor is not None:
            # What only C++ held (a graph, say) is held by Python again, of which torch is not told by itself.
            getattr(tensor, "_fix_weakref", lambda: None)()
        return tensor


def _contents(plane: Tensor) -> tuple[Any, ...]:
    with torch.no_grad():
        return plane.dtype, plane.shape, bits_of(plane.detach().contiguous()).tobytes()


class Key:
    """Of which planes something was made. Of codes and group scales that is their memory and torch's count of its
    versions: `.data` and tensors made in inference mode are written to unnoticed. Of the other planes it is what they
    contain; elsewhere than in the host's memory, their memory too.

    >>> import torch
    >>> planes = Planes(torch.zeros((1, 1), dtype=torch.uint8), torch.zeros(256))
    >>> key = Key(planes)
    >>> key.fits(planes), key.fits(planes._replace(codebook=torch.zeros(256)))
    (True, True)
    >>> planes.codebook.data[0] = -1
    >>> key.fits(planes)
    False
    """

    def __init__(self, planes: Planes) -> None:
        self._parts = [self._part(name, plane) for name, plane in zip(NAMES, planes)]

    @staticmethod
    def _part(name: str, plane: Tensor | None) -> Any:
        if plane is None:
            return None
        return _Memory(plane) if name in LARGE or plane.device.type != "cpu" else _contents(plane)

    def fits(self, planes: Planes) -> bool:
        """Whether these are the planes, and as they were."""
        return all(
            part.is_of(plane) if isinstance(part, _Memory) else part == self._part(name, plane)
            for part, name, plane in zip(self._parts, NAMES, planes)
        )


def _pack_codes(codes: Tensor, bits: int) -> Tensor:
    """The inverse of unpack_codes()."""
    spread = (codes[:, :, None] >> torch.arange(bits)) & 1
    bit_rows = spread.view(codes.shape[0], -1).to(torch.uint8).numpy()
    return torch.from_numpy(np.packbits(bit_rows, axis=1, bitorder="little"))


def in_order(planes: Planes, cols: int) -> Planes:
    """The same matrix with an ascending codebook, as files have it; the same planes where it is that already.

    >>> import torch
    >>> planes = Planes(torch.tensor([[0b01]], dtype=torch.uint8), torch.tensor([5.0, 3.0]))
    >>> in_order(planes, 2).codebook, in_order(planes, 2).codes
    (tensor([3., 5.]), tensor([[2]], dtype=torch.uint8))
    """
    codebook, order = torch.sort(planes.codebook.detach(), stable=True)
    if torch.equal(codebook, planes.codebook.detach()):
        return planes
    bits = bits_of_codebook(codebook.numel())
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    codes = torch.empty_like(planes.codes)
    for begin, end in chunks(codes.shape[0], cols, 1 << 18):
        codes[begin:end] = _pack_codes(place[unpack_codes(planes.codes[begin:end], bits, cols)], bits)
    return planes._replace(codebook=codebook, codes=codes)


class PackedMatrix:
    """A matrix [rows, cols] in a file in private memory, and on those devices where it was asked for."""

    def __init__(self, planes: Planes, cols: int) -> None:
        """Copies the planes, which may be on any device. Raises cdna.CdnaError where they are no matrix."""
        with torch.no_grad():
            here = Planes(*(None if plane is None else plane.detach().cpu() for plane in planes))  # type: ignore[arg-type]
            ordered = in_order(here, cols)
        self.tensor = native.pack(ordered, planes.codes.shape[0], cols, TENSOR_NAME)
        self.key = Key(planes)
        self.reordered = ordered is not here
        halves = here.codebook.detach()
        self.half_codebook = bool((halves.to(torch.float16).to(torch.float32) == halves).all())
        self._devices: dict[int, DeviceMatrix] = {}
        self._lock = threading.Lock()

    def on_device(self, ordinal: int, stream: int) -> DeviceMatrix:
        """The matrix on a CUDA device, uploaded at the first call. Raises RuntimeError with the reason."""
        with self._lock:
            if ordinal not in self._devices:
                self._devices[ordinal] = DeviceMatrix(native.file_bytes(self.tensor), TENSOR_NAME, ordinal, stream)
            return self._devices[ordinal]


_owners: weakref.WeakValueDictionary[int, Owner] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_lock = threading.RLock()


def register(owner: Owner) -> int:
    """A number for a layer, by which operators find it. The layer is not kept alive.

    >>> class Layer: pass
    >>> register(Layer()) < register(Layer())
    True
    """
    number = next(_numbers)
    _owners[number] = owner
    return number


def _same_memory(one: Planes, other: Planes) -> bool:
    addresses = [[None if plane is None else plane.data_ptr() for plane in planes] for planes in (one, other)]
    return addresses[0] == addresses[1]


def packed_of(planes: Planes, cols: int, owner_number: int) -> PackedMatrix:
    """The planes packed: what their layer has, if they are its planes and as they were; else packed now, and given to
    the layer if they are its own. Raises cdna.CdnaError. Any thread may call it.
    """
    owner = _owners.get(owner_number)
    if owner is None or not _same_memory(owner.planes, planes):
        return PackedMatrix(planes, cols)
    with _lock:
        if owner.packed is None or not owner.packed.key.fits(planes):
            owner.packed = None  # Not held beside the new one.
            owner.adopt(PackedMatrix(planes, cols))
        packed = owner.packed
        assert packed is not None
        return packed
