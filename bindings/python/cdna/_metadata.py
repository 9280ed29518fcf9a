"""The metadata of a file as a mapping of Python's own values."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._errors import FormatError, error


class Metadata(Mapping[str, Any]):
    """Key to value, in the order of the file: None, bool, int, float, str, bytes, or what a value of JSON text means.

    JSON is parsed at each use, so that what comes of it is the caller's own. Raises FormatError where it is none.

    >>> import cdna
    >>> data = cdna.save(None, {}, metadata={"origin": "here"})
    >>> cdna.open(data).metadata["origin"]
    'here'
    """

    def __init__(self, entries: list[tuple[str, Any, bool]]) -> None:
        self._values = {key: value for key, value, _ in entries}
        self._json = {key for key, _, is_json in entries if is_json}

    def __getitem__(self, key: str) -> Any:
        if key not in self._json:
            return self._values[key]
        return self._parse(key)  # Each time: a list or a dict is the caller's own.

    def _parse(self, key: str) -> Any:
        import json

        try:
            return json.loads(self._values[key])
        except (ValueError, RecursionError) as reason:
            raise error(FormatError, "malformed", f"metadata {key!r} is not JSON: {reason}") from None

    def json_text(self, key: str) -> str | None:
        """The JSON text of a value that is JSON, as it stands in the file; None for any other value."""
        value = self._values[key]
        return value if key in self._json and isinstance(value, str) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Metadata({dict(self._values)!r})"
