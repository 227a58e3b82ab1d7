"""How far a cell is, as its process tells everybody else."""

import time
from pathlib import Path

from longact_cli.files import write_json

_PROGRESS_SECONDS = 0.5


class ProgressWriter:
    """Writes how far the cell is, at most twice a second."""

    def __init__(self, path: Path) -> None:
        """Report to `path`."""
        self._path = path
        self._last = 0.0
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` units are finished."""
        now = time.time()
        self._first = self._first or (done, now)
        if now - self._last >= _PROGRESS_SECONDS or done == total:
            self._last = now
            first, since = self._first
            rate = (done - first) / (now - since) if now > since else None
            write_json(self._path, {"done": done, "total": total, "rate": rate})
