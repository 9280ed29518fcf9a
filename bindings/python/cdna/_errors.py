"""Exceptions: what the library says of an error, as classes that also are Python's own."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._file import Report


class CdnaError(Exception):
    """Base of all exceptions of this package. str() is one printable line with everything that is known.

    Fields: `code` ("corrupt", "io", ...), `rule` of the format ("B1", or ""), `message` without the place, and, where they
    apply, else None: `path`, `tensor` (or asset), `plane`, `block`, `offset` (byte in the file), `errno`. `report` is the
    whole report where File.verify() raised.
    """

    code: str = ""
    rule: str = ""
    message: str = ""
    path: str | None = None
    tensor: str | None = None
    plane: int | None = None
    block: int | None = None
    offset: int | None = None
    errno: int | None = None
    report: Report | None = None
    _text: str = ""

    def __str__(self) -> str:
        return self._text or self.message or Exception.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, _fields(self), self._text, dict(self.__dict__))


class FormatError(CdnaError, ValueError):
    """The file is not one of the format, or not a whole one (not_cdna, truncated, malformed)."""


class CorruptError(FormatError):
    """Bytes differ from what a digest says (corrupt), or the file from the one expected (root_mismatch)."""


class UnsupportedError(CdnaError, NotImplementedError):
    """Something that this version, or this build, does not know or cannot do."""


class LimitError(CdnaError, ValueError):
    """Over a limit of the format or of the call."""


class ArgumentError(CdnaError, ValueError):
    """A request that no file could satisfy (bad_argument)."""


class FileError(CdnaError, OSError):
    """The operating system failed: `errno` and `filename`."""

    errno = OSError.errno


class FileMissingError(FileError, FileNotFoundError):
    """There is no such file."""


class FilePresentError(FileError, FileExistsError):
    """The destination exists, and was not to be replaced."""


class TensorMissingError(CdnaError, KeyError):
    """The file has no tensor (or asset) of that name."""


class OutOfMemoryError(CdnaError, MemoryError):
    """Memory is short."""


class CancelledError(CdnaError):
    """The call was stopped on request."""


_CLASSES: dict[str, type[CdnaError]] = {
    "not_cdna": FormatError,
    "truncated": FormatError,
    "malformed": FormatError,
    "corrupt": CorruptError,
    "root_mismatch": CorruptError,
    "unsupported": UnsupportedError,
    "limit": LimitError,
    "io": FileError,
    "exists": FilePresentError,
    "not_found": FileMissingError,
    "no_memory": OutOfMemoryError,
    "bad_argument": ArgumentError,
    "cancelled": CancelledError,
}
_NAMES = ("code", "rule", "message", "path", "tensor", "plane", "block", "offset", "errno")


def _fields(error: CdnaError) -> dict[str, Any]:
    return {name: getattr(error, name, None) for name in _NAMES}


def _rebuild(kind: type[CdnaError], fields: dict[str, Any], text: str) -> CdnaError:
    error = kind(fields["message"])
    for name, value in fields.items():
        setattr(error, name, value)
    if isinstance(error, OSError):
        error.filename = fields["path"]
        error.strerror = fields["message"]
    error._text = text
    return error


def _restored(
    kind: type[CdnaError], args: tuple[Any, ...], fields: dict[str, Any], text: str, attributes: dict[str, Any]
) -> CdnaError:
    error = _rebuild(kind, fields, text) if text or fields["message"] else kind(*args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def exception_of(*, text: str, **fields: Any) -> CdnaError:
    """The exception for an error of the library, whose fields these are."""
    return _rebuild(_CLASSES.get(fields["code"], CdnaError), fields, text)


def error(kind: type[CdnaError], code: str, message: str, *, path: str | None = None, tensor: str | None = None) -> CdnaError:
    """An exception of this package's own."""
    fields: dict[str, Any] = dict.fromkeys(_NAMES)
    fields.update(code=code, rule="", message=message, path=path, tensor=tensor)
    place = ": ".join(part for part in (path, tensor) if part)
    return _rebuild(kind, fields, f"{place}: {message}" if place else message)
