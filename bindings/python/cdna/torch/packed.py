"""Files in memory made of planes, and of which planes they were made."""

from __future__ import annotations

import threading
import weakref
from typing import Any, NamedTuple, Protocol

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


# That of old torch (1.13) leaks what it is called for.
_FIX_WEAKREF = hasattr(torch.library, "custom_op")


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
        if tensor is not None and _FIX_WEAKREF:
            # What only C++ held (a graph, say) is held by Python again, of which torch is not told by itself.
            getattr(tensor, "_fix_weakref", lambda: None)()
        return tensor


def _contents(plane: Tensor) -> tuple[Any, ...]:
    with torch.no_grad():
        return plane.dtype, plane.shape, bits_of(plane.detach().cpu().contiguous()).tobytes()


class Key:
    """Of which planes something was made. Of codes and group scales that is their memory and torch's count of its
    versions: `.data` and tensors made in inference mode are written to unnoticed. Of the other planes it is what they
    contain; on devices, where they are not trained, their memory too.

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
    def _is_by_memory(name: str, plane: Tensor) -> bool:
        return name in LARGE or (plane.device.type != "cpu" and not plane.requires_grad)

    def _part(self, name: str, plane: Tensor | None) -> Any:
        if plane is None:
            return None
        return _Memory(plane) if self._is_by_memory(name, plane) else _contents(plane)

    def _part_fits(self, part: Any, name: str, plane: Tensor | None) -> bool:
        if plane is None or not self._is_by_memory(name, plane):
            return bool(part == self._part(name, plane))
        return isinstance(part, _Memory) and part.is_of(plane)

    def fits(self, planes: Planes) -> bool:
        """Whether these are the planes, and as they were."""
        return all(self._part_fits(*each) for each in zip(self._parts, NAMES, planes))

    def fits_large(self, planes: Planes) -> bool:
        """The same of codes and group scales only. Calls no operator, which modes of torch would see."""
        return all(
            part is plane is None or isinstance(part, _Memory) and part.is_of(plane)
            for part, name, plane in zip(self._parts, NAMES, planes)
            if name in LARGE
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


def _is_half(codebook: Tensor) -> bool:
    values = codebook.detach()
    return bool((values.to(torch.float16).to(torch.float32) == values).all())


class PackedMatrix:
    """A matrix [rows, cols] in a file in private memory, and on those devices where it was asked for."""

    def __init__(self, planes: Planes, cols: int) -> None:
        """Copies the planes, which may be on any device. Raises cdna.CdnaError where they are no matrix."""
        with torch.no_grad():
            here = Planes(*(None if plane is None else plane.detach().cpu() for plane in planes))  # type: ignore[arg-type]
            ordered = in_order(here, cols)
        self.tensor = native.pack(ordered, planes.codes.shape[0], cols, TENSOR_NAME)
        self.views: tuple[_Memory | None, ...] = ()  # Of LARGE, as the layer has them that took this.
        self.reordered = ordered is not here
        self.half_codebook = _is_half(here.codebook)
        self._devices: dict[int, DeviceMatrix] = {}
        self._lock = threading.Lock()

    def is_intact(self) -> bool:
        """Whether nobody has written to its memory through the views that its layer has."""
        return all(view is None or view.is_of(view.tensor()) for view in self.views)

    def on_device(self, ordinal: int, stream: int) -> DeviceMatrix:
        """The matrix on a CUDA device, uploaded at the first call. Raises RuntimeError with the reason."""
        with self._lock:
            if ordinal not in self._devices:
                self._devices[ordinal] = DeviceMatrix(native.file_bytes(self.tensor), TENSOR_NAME, ordinal, stream)
            return self._devices[ordinal]


class _Found(NamedTuple):
    codes: weakref.ref[Tensor]
    key: Key
    matrix: PackedMatrix


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
_found: dict[int, _Found] = {}  # By the address of the codes, which is theirs as long as they live.
_lock = threading.RLock()


def register(owner: Owner) -> None:
    """Makes a layer known, which takes the packed form of its planes when some product needs it. It is not kept alive."""
    with _lock:
        _owners.add(owner)


def _remember(planes: Planes, matrix: PackedMatrix) -> None:
    address = planes.codes.data_ptr()

    def forget(codes: weakref.ref[Tensor], found: dict[int, _Found] = _found, lock: Any = _lock) -> None:
        with lock:
            if address in found and found[address].codes is codes:
                del found[address]

    _found[address] = _Found(weakref.ref(planes.codes, forget), Key(planes), matrix)


def _large(planes: Planes) -> list[Tensor | None]:
    return [getattr(planes, name) for name in LARGE]


def _owner_of(planes: Planes) -> Owner | None:
    addresses = [None if plane is None else plane.data_ptr() for plane in planes]
    for owner in _owners:
        if getattr(owner, "codes", None) is planes.codes:
            if [None if plane is None else plane.data_ptr() for plane in owner.planes] == addresses:
                return owner
    return None


def _find(planes: Planes, cols: int) -> PackedMatrix | None:
    found = _found.get(planes.codes.data_ptr())
    if found is None or found.matrix.tensor.cols != cols or not found.matrix.is_intact():
        return None
    return found.matrix if found.key.fits(planes) else None


def packed_of(planes: Planes, cols: int) -> PackedMatrix:
    """The planes packed: by an earlier call, if they are as they were; else now, and given to the layer whose planes
    they are. Of layers' planes and others one form is held as long as the codes live. Raises cdna.CdnaError. Any thread
    may call it.
    """
    with _lock:
        matrix = _find(planes, cols)
        if matrix is not None:
            return matrix
        owner = _owner_of(planes)
        # Not held beside the new one.
        _found.pop(planes.codes.data_ptr(), None)
        if owner is not None:
            owner.packed = None
        matrix = PackedMatrix(planes, cols)
        _remember(planes, matrix)
        if owner is not None:
            owner.adopt(matrix)
            matrix.views = tuple(None if plane is None else _Memory(plane) for plane in _large(owner.planes))
            _remember(owner.planes, matrix)
        return matrix


def with_half_codebook(planes: Planes, cols: int) -> PackedMatrix | None:
    """packed_of() where all entries of the codebook are binary16 numbers; None, and nothing is packed, where not."""
    with _lock:
        matrix = _find(planes, cols)
        if matrix is None and _is_half(planes.codebook):
            matrix = packed_of(planes, cols)
        return matrix if matrix is not None and matrix.half_codebook else None


def as_held(planes: Planes) -> Planes:
    """The same planes, codes and group scales as their layer has them since they were packed: graphs that save these
    hold nothing twice. Tensors without memory are given back as they are.
    """
    if type(planes.codes) is not Tensor or planes.codes.is_meta:
        return planes
    with _lock:
        found = _found.get(planes.codes.data_ptr())
        if found is None or not found.matrix.is_intact() or not found.key.fits_large(planes):
            return planes
        views = [None if view is None else view.tensor() for view in found.matrix.views]
    if [view is None for view in views] != [plane is None for plane in _large(planes)]:
        return planes
    return planes._replace(**dict(zip(LARGE, views)))
