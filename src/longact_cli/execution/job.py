"""A cell inside a job of a cluster: start its process there, note how it ended."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from longact_cli.cells import CellDir, Status, cell_dir, read_cell, read_status, write_status
from longact_cli.execution.base import EXIT_BLOCKED, EXIT_HELD, EXIT_LOST
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.failures import blocked, cancelled, ended
from longact_cli.execution.local import LocalHandle, spawn
from longact_cli.files import read_json, write_json
from longact_cli.holding import is_held

_POLL_SECONDS = 0.2
# A network file system may show the end of a training on another node this much later.
_LATE_SECONDS = 10.0


@dataclass(frozen=True)
class JobRecord:
    """Under which name a cluster runs a cell."""

    executor: str
    job: str


def write_job(directory: CellDir, record: JobRecord) -> None:
    """Note under which name a cell was handed over."""
    write_json(directory.job, vars(record))


def read_job(directory: CellDir) -> JobRecord | None:
    """Return under which name a cell was last handed over."""
    data = read_json(directory.job)
    return JobRecord(**data) if isinstance(data, dict) else None


class CellProcess:
    """The cell's process as a job sees it. It dies with the job."""

    def __init__(self, path: str, *, threads: int) -> None:
        """Run the cell in the folder `path` with `threads` compute threads."""
        self._directory = CellDir(Path(path))
        self._threads = threads
        self._handle: LocalHandle | None = None

    def run(self) -> int:
        """Run the cell to its end and write its status; return the exit code.

        A job that starts again after it was preempted continues the cell.
        """
        if self._is_over():
            return 0
        training = unfinished_training(self._directory)
        if training is not None:
            status = read_status(self._directory)
            # It was never started, so this is not an attempt.
            status = replace(status, attempt=max(0, status.attempt - 1))
            write_status(self._directory, blocked(status, training))
            return EXIT_BLOCKED
        self._handle = spawn(self._directory, threads=self._threads)
        while (code := self._handle.poll()) is None:
            time.sleep(_POLL_SECONDS)
        if code != EXIT_HELD:
            status = ended(read_status(self._directory), code)
            if self._directory.path.name in CellsCancelled(self._directory.runs_dir).names():
                status = cancelled(status)
            write_status(self._directory, status)
        return code

    def _is_over(self) -> bool:
        """Note the end of an earlier run of this job; return whether nothing is left to do."""
        status = read_status(self._directory)
        if status.state == "done" or is_held(self._directory):
            return status.state == "done"
        if status.state != "pending":
            again = replace(
                status,
                state="pending",
                attempt=status.attempt + 1,
                error=None,
                exit_code=None,
                failure=None,
                retries=(*status.retries, "preempted"),
            )
            write_status(self._directory, again)
        return False

    def stop(self, *, seconds: float = float("inf")) -> None:
        """Ask the cell to stop and wait for it, at most `seconds`, then kill it."""
        if self._handle is None:
            return
        self._handle.terminate()
        deadline = time.monotonic() + seconds
        while self._handle.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self._handle.kill()


def unfinished_training(directory: CellDir) -> Status | None:
    """Return the status of the training that an evaluation needs; None where nothing is missing."""
    digest = read_cell(directory).parent
    if digest is None:
        return None
    deadline = time.monotonic() + _LATE_SECONDS
    while (status := read_status(cell_dir(directory.runs_dir, digest))).state != "done":
        if status.state in ("failed", "interrupted") or time.monotonic() >= deadline:
            return status
        time.sleep(_POLL_SECONDS)
    return None


def end_code(directory: CellDir) -> int:
    """Return the exit code of a cell whose job has ended, by what is on disk."""
    status = read_status(directory)
    if status.state == "done":
        return 0
    if status.state == "blocked":
        return EXIT_BLOCKED
    if status.state in ("failed", "interrupted") and status.exit_code is not None:
        return status.exit_code
    return EXIT_LOST
