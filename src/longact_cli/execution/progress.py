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
        self._first: tuple[int, int, float] | None = None

    def __call__(self, done: int, total: int, flow: tuple[int, int] | None = None) -> None:
        """Note that `done` of `total` units are finished.

        `flow` holds the tokens that went through the model in this process, and those left at most:
        a better measure of time than samples of unlike length.
        """
        now = time.time()
        tokens, left = flow or (0, 0)
        self._first = self._first or (done, tokens, now)
        if now - self._last < _PROGRESS_SECONDS and done != total:
            return
        self._last = now
        first, first_tokens, since = self._first
        state: dict[str, float | None] = {"done": done, "total": total}
        state["rate"] = (done - first) / (now - since) if now > since else None
        if tokens > first_tokens:
            speed = (tokens - first_tokens) / (now - since)
            state |= {"tokens_per_second": speed, "seconds_left": left / speed}
        write_json(self._path, state)
