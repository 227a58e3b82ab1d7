"""What a cell's process printed, without secrets."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import CellDir
from longact_cli.execution.job import read_job
from longact_cli.execution.overview import any_plan_held, current_status
from longact_cli.redaction import redact

_WAIT_SECONDS = 0.3


class Tail(NamedTuple):
    """The end of a log and where in the file (in bytes) what follows begins."""

    lines: tuple[str, ...]
    offset: int


def read_tail(path: Path, count: int, *, whole: bool = False) -> Tail:
    """Return the last lines of a log; with `whole`, a last line without its end is left for later.

    Args:
        path: The log; it may not exist yet.
        count: How many lines at most.
        whole: Whether an unfinished last line is left out.
    """
    lines: deque[str] = deque(maxlen=count)
    offset = 0
    if path.exists():
        with path.open("rb") as stream:
            for line in stream:
                if whole and not line.endswith(b"\n"):
                    break
                offset += len(line)
                lines.append(redact(line.decode("utf-8", errors="replace").rstrip("\r\n")))
    return Tail(tuple(lines), offset)


def new_lines(directory: CellDir, path: Path, offset: int) -> Iterator[str]:
    """Yield the lines of a log from `offset` (in bytes) on, as they are written, until the end."""
    rest = b""
    while True:
        ended = not _is_open(directory)
        if path.exists():
            with path.open("rb") as stream:
                stream.seek(offset)
                added = stream.read()
            offset += len(added)
            *found, rest = (rest + added).split(b"\n")
            for line in found:
                yield redact(line.decode("utf-8", errors="replace"))
        if ended:
            if rest:
                yield redact(rest.decode("utf-8", errors="replace"))
            return
        time.sleep(_WAIT_SECONDS)


def _is_open(directory: CellDir) -> bool:
    state = current_status(directory).state
    if state == "pending":
        # Nobody writes to a cell that waits for a command nobody runs.
        return read_job(directory) is not None or any_plan_held(directory.runs_dir)
    return state == "running"
