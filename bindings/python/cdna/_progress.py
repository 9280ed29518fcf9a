"""Progress of long calls: a callable, or a bar of tqdm where that is installed."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Union

# Called now and then, on the calling thread, with bytes done and bytes to do. What it raises ends the call.
Progress = Callable[[int, int], object]
ProgressOption = Union[Progress, bool, None]


@contextmanager
def shown(progress: ProgressOption, title: str) -> Iterator[Progress | None]:
    """The callable to report to: the caller's own, a bar (True, where tqdm is installed), or none."""
    if progress is None or progress is False:
        yield None
    elif progress is not True:
        yield progress
    else:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            yield None
            return
        with tqdm(desc=title, unit="B", unit_scale=True, leave=False) as bar:

            def update(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield update
