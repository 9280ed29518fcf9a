"""Which tensors share memory: files hold each value once, so somebody has to decide under which name."""

from __future__ import annotations

from typing import Any, Collection, Mapping

import torch
from torch import Tensor


def storage_of(tensor: Tensor) -> tuple[int, int]:
    """Address and bytes.

    >>> import torch
    >>> storage_of(torch.zeros(4)[1:])[1]
    16
    """
    if tensor.is_meta:
        return 0, 0
    if hasattr(tensor, "untyped_storage"):
        untyped = tensor.untyped_storage()
        return untyped.data_ptr(), untyped.nbytes()
    storage: Any = tensor.storage  # Untyped, and of torch before 2.
    old = storage()
    return old.data_ptr(), old.nbytes()


def _end(tensor: Tensor) -> int:
    """Behind the last byte that the tensor reaches."""
    if tensor.numel() == 0:
        return tensor.data_ptr()
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return tensor.data_ptr() + (last + 1) * tensor.element_size()


def _overlapping(names: list[str], tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Groups of those that overlap, of names whose tensors are in one storage."""
    groups: list[list[str]] = []
    end = 0
    for begin, stop, name in sorted((tensors[name].data_ptr(), _end(tensors[name]), name) for name in names):
        if groups and begin < end:
            groups[-1].append(name)
        else:
            groups.append([name])
        end = max(end, stop)
    return groups


def shared(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Groups of two names or more whose tensors have elements in common, in the order of names.

    >>> import torch
    >>> both = torch.zeros(4)
    >>> shared({"a": both, "b": both[1:], "c": torch.zeros(4)})
    [['a', 'b']]
    """
    storages: dict[tuple[torch.device, int, int], list[str]] = {}
    for name, tensor in tensors.items():
        address, size = storage_of(tensor)
        if size:
            storages.setdefault((tensor.device, address, size), []).append(name)
    groups = [group for names in storages.values() for group in _overlapping(names, tensors)]
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _is_complete(tensor: Tensor) -> bool:
    address, size = storage_of(tensor)
    return tensor.data_ptr() == address and tensor.numel() * tensor.element_size() == size


def duplicates(tensors: Mapping[str, Tensor], preferred: Collection[str] = ()) -> dict[str, list[str]]:
    """Of each group that shares memory: the name to keep (one of `preferred` if it can be, else the first that has all
    of the memory) and the others. RuntimeError where no name has all of it.

    >>> import torch
    >>> both = torch.zeros(4)
    >>> duplicates({"head": both, "embedding": both})
    {'embedding': ['head']}
    """
    found: dict[str, list[str]] = {}
    for names in shared(tensors):
        complete = [name for name in names if _is_complete(tensors[name])]
        if not complete:
            raise RuntimeError(f"none of the tensors {names}, which share memory, has all of it: clone() those to be saved")
        wanted = [name for name in complete if name in preferred]
        kept = (wanted or complete)[0]
        found[kept] = [name for name in names if name != kept]
    return found
