"""Open files: a mapping from names to tensors, with metadata and assets."""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from . import _core
from ._arrays import default_threads, integer
from ._errors import ArgumentError, CdnaError, TensorMissingError, error
from ._metadata import Metadata
from ._progress import ProgressOption, shown
from ._tensor import Tensor

# cdna/limits.hpp
FOOTER_BYTES_MAX = 256 << 20
ITEMS_MAX = 1 << 24
TENSOR_DECODED_BYTES_MAX = 1 << 41


class Report(NamedTuple):
    """What File.verify() found. Everything checked was right if `valid`."""

    valid: bool
    complete: bool  # The file has its whole length, head, tail and footer.
    item_count: int
    unsupported_count: int  # Items that this version cannot decode; verified all the same.
    blocks_checked: int
    problem_count: int
    problems: list[CdnaError]  # The first 1000.


class Asset:
    """A file within the file: `name`, `media_type`, `nbytes`."""

    def __init__(self, file: File, name: str, media_type: str, nbytes: int, number: int) -> None:
        self._file, self._number = file, number
        self.name, self.media_type, self.nbytes = name, media_type, nbytes

    def read(self, offset: int = 0, size: int = -1) -> bytes:
        """Its bytes [offset, offset + size), verified; without `size` all that follow. Raises CorruptError, FileError.

        >>> import cdna
        >>> data = cdna.save(None, {}, assets={"config.json": b"{}"})
        >>> cdna.open(data).assets["config.json"].read()
        b'{}'
        """
        if not 0 <= offset <= self.nbytes:
            raise error(ArgumentError, "bad_argument", f"offset {offset} is not within {self.nbytes} bytes", tensor=self.name)
        out = bytearray(self.nbytes - offset if size < 0 else min(size, self.nbytes - offset))
        self._file._core.read_asset(self._number, offset, out)
        return bytes(out)

    def text(self) -> str:
        """All of it, as UTF-8. Raises UnicodeDecodeError, and what read() does."""
        return self.read().decode()

    def __repr__(self) -> str:
        return f"<cdna.Asset {self.name!r} {self.media_type} {self.nbytes} bytes>"


class Assets(Mapping[str, Asset]):
    """Name to asset, in the order of the file."""

    def __init__(self, file: File) -> None:
        items = file._core.asset_items()
        self._path = file.path
        self._assets = {name: Asset(file, name, kind, nbytes, number) for name, kind, nbytes, number in items}

    def __getitem__(self, name: str) -> Asset:
        found = self._assets.get(name)
        if found is None:
            raise error(TensorMissingError, "not_found", "no such asset", path=self._path, tensor=str(name))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._assets)

    def __len__(self) -> int:
        return len(self._assets)


class File(Mapping[str, Tensor]):
    """A file: name to tensor, in name order; aliases are names like any other. Made by cdna.open().

    A context manager. Threads: any number may use one file at a time. Survives fork(). Pickled as its absolute path, so that the
    other process opens it anew.
    """

    def __init__(self, core: _core.Container, reopen: tuple[str, str, dict[str, Any]] | None = None) -> None:
        self._core = core
        self._reopen = reopen
        self._names: list[str] | None = None
        self._metadata: Metadata | None = None
        self._assets: Assets | None = None

    # ---- Mapping ----

    def __getitem__(self, name: str) -> Tensor:
        number = self._find(name)
        if number is None:
            if not isinstance(name, str):
                raise TypeError(f"names of tensors are str, not {type(name).__name__}")
            raise error(TensorMissingError, "not_found", "no such tensor", path=self.path, tensor=name)
        return Tensor(self, name, number)

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def _find(self, name: object) -> int | None:
        if not isinstance(name, str) or _not_utf8(name):
            return None
        return self._core.find(name)

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            self._names = self._core.names()
        return iter(self._names)

    def __len__(self) -> int:
        return self._core.tensor_count

    # An open file is itself and nothing else, unlike other mappings.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    # ---- What it is ----

    @property
    def path(self) -> str | None:
        """Where it was opened; None unless by path."""
        return self._reopen[0] if self._reopen else None

    @property
    def root(self) -> bytes:
        """The SHA-256 digest that names the whole content: 32 bytes. `root.hex()` is what the tools print."""
        return self._core.root

    @property
    def nbytes(self) -> int:
        """The length of the file."""
        return self._core.file_bytes

    @property
    def io(self) -> str:
        """How it is read: "mmap", "pread", "memory", "custom"."""
        return self._core.backend

    @property
    def trust(self) -> str:
        """"zero_copy" or "strict" (see cdna.open)."""
        return self._core.trust

    @property
    def metadata(self) -> Metadata:
        """Key to value; read at the first use. Raises CorruptError, FileError, FormatError."""
        if self._metadata is None:
            self._metadata = Metadata(self._core.metadata())
        return self._metadata

    @property
    def assets(self) -> Assets:
        """Name to Asset."""
        if self._assets is None:
            self._assets = Assets(self)
        return self._assets

    @property
    def statistics(self) -> dict[str, int]:
        """What reading has cost since open, of all threads: bytes_read, blocks_verified, decode_ns, ..."""
        return self._core.statistics()

    @property
    def buffer(self) -> memoryview:
        """The whole file, read-only and not verified, where it is mapped or in memory. Raises UnsupportedError elsewhere."""
        view = self._core.buffer()
        if view is None:
            from ._errors import UnsupportedError

            raise error(UnsupportedError, "unsupported", "the file is not in memory", path=self.path)
        return memoryview(view)

    # ---- Checking ----

    def verify(
        self, names: object = None, progress: ProgressOption = None, level: str = "standard", threads: int = 0
    ) -> Report:
        """Checks the whole file, or the blocks of the tensors `names`. Returns a Report if all is right.

        level: "quick" (everything but blocks), "standard" (every block's digest) or "deep" (and decode every block); with
        names only "standard", on the calling thread. progress: a callable (bytes done, bytes to do), or True for a bar of tqdm. Ctrl-C stops it.
        Raises the first problem: a CdnaError, mostly CorruptError, whose `report` has all.

        >>> import cdna
        >>> cdna.open(cdna.numpy.save({})).verify().valid
        True
        """
        if level not in ("quick", "standard", "deep") or (names is not None and level != "standard"):
            allowed = '"quick", "standard" or "deep"' if names is None else '"standard" with names'
            raise error(ArgumentError, "bad_argument", f"level is {level!r}: it has to be {allowed}", path=self.path)
        threads = default_threads(threads)
        with shown(progress, "verify") as callback:
            if names is None:
                found = self._core.verify(level, callback, threads)
            else:
                wanted = [names] if isinstance(names, str) else list(names)  # type: ignore[call-overload]
                found = self._core.verify_items([self[name]._number for name in wanted], callback)
        report = Report(*found)
        if report.problems:
            report.problems[0].report = report
            raise report.problems[0]
        return report

    # ---- Life ----

    @property
    def closed(self) -> bool:
        return self._core.closed

    def close(self) -> None:
        """Lets the file go. Raises BufferError while zero-copy arrays (views) point into it: delete those first."""
        self._core.close()

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close()
        except BufferError:  # The exception's own frames may hold views: it matters more.
            pass

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise TypeError("only a file that was opened by path can be pickled")
        return _reopened, self._reopen[1:]

    def __repr__(self) -> str:
        if self.closed:
            return f"<cdna.File {self.path or self!s} closed>" if self.path else "<cdna.File closed>"
        return f"<cdna.File {self.path or self.io} {len(self)} tensors, {self.nbytes} bytes>"


def _not_utf8(name: str) -> bool:
    return not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    """A path as the system has it."""
    found = os.fsencode(path)
    if b"\0" in found:
        raise ValueError("embedded null byte")
    return found


def _reopened(path: str, options: dict[str, Any]) -> File:
    return open(path, **options)


def open(  # noqa: A001
    source: Any,
    *,
    io: str = "auto",
    trust: str = "auto",
    expected_root: bytes | str | None = None,
    footer_bytes_max: int = FOOTER_BYTES_MAX,
    items_max: int = ITEMS_MAX,
    tensor_decoded_bytes_max: int = TENSOR_DECODED_BYTES_MAX,
) -> File:
    """Opens a file: head, tail and footer are checked, everything else when it is used.

    source: a path (str, os.PathLike), the bytes of a file (bytes or any other buffer; all but bytes is read as strict),
    a file descriptor (int; duplicated), or an object with `size` and `read_at(offset, size) -> bytes`.
    io: "auto" (mmap on local file systems), "mmap", "pread". trust: "zero_copy" (blocks are verified at their first use and
    used in the mapping: for files that nobody changes), "strict" (verified at each use, in a private copy), "auto" (the
    former where mapped). expected_root: 32 bytes or 64 hexadecimal digits.
    Raises FileMissingError, FileError, FormatError, CorruptError, UnsupportedError, LimitError, ArgumentError.

    >>> import cdna, numpy
    >>> data = cdna.numpy.save({"w": numpy.ones((2, 3), "float32")})
    >>> with cdna.open(data) as f:
    ...     f["w"].shape
    (2, 3)
    """
    if isinstance(expected_root, str):
        try:
            expected_root = bytes.fromhex(expected_root)
        except ValueError:
            raise error(ArgumentError, "bad_argument", "expected_root is not hexadecimal") from None
    if expected_root is not None and not isinstance(expected_root, bytes):
        expected_root = bytes(memoryview(expected_root))
    footer_bytes_max = integer("footer_bytes_max", footer_bytes_max)
    items_max = integer("items_max", items_max)
    tensor_decoded_bytes_max = integer("tensor_decoded_bytes_max", tensor_decoded_bytes_max)
    options = (io, trust, expected_root, footer_bytes_max, items_max, tensor_decoded_bytes_max)
    if isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        names = ("io", "trust", "expected_root", "footer_bytes_max", "items_max", "tensor_decoded_bytes_max")
        return File(_core.open_path(path_bytes(path), *options), (path, os.path.abspath(path), dict(zip(names, options))))
    if isinstance(source, bool):
        raise TypeError("cannot open bool: neither path, bytes, descriptor nor source")
    if isinstance(source, int):
        return File(_core.open_descriptor(source, *options))
    if hasattr(source, "read_at") and hasattr(source, "size"):
        return File(_core.open_object(source, *options))
    try:
        memory = memoryview(source)
    except TypeError:
        raise TypeError(f"cannot open {type(source).__name__}: neither path, bytes, descriptor nor source") from None
    return File(_core.open_bytes(memory, *options))
