"""How often a cell is tried again by itself, and how soon."""

import time
from dataclasses import replace

from longact_cli.cells import Status
from longact_cli.execution.failures import TRANSIENT, memory_hint
from longact_cli.plan import Cell

# Being preempted is a cluster's daily business; only a mistake makes it this often.
_MOST_PREEMPTIONS = 20
_AFTER_PREEMPTION_SECONDS = 10.0


class Retries:
    """Counts the tries of one run of a plan."""

    def __init__(self, most: int) -> None:
        """Try a cell again up to `most` times after a failure it did not cause."""
        self._most = most
        self._tried: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def due(self, cell: Cell) -> bool:
        """Return whether a cell may be started now."""
        return time.monotonic() >= self._not_before.get(cell.digest, 0.0)

    def put_off(self, cell: Cell, seconds: float) -> None:
        """Start a cell only after some time."""
        self._not_before[cell.digest] = time.monotonic() + seconds

    def after_failure(self, cell: Cell, status: Status, *, last: bool) -> Status:
        """Return `failed`, or `pending` where another try can help; `last` allows none."""
        if status.state == "interrupted":
            # Somebody has asked its process to end, but nobody has called the cell off.
            status = replace(status, failure="signal")
        if status.failure == "oom":
            return replace(status, error=f"{memory_hint(cell.stage, cell.config)} [{status.error}]")
        tried, most = self._tried.get(cell.digest, 0), self._most
        if status.failure == "preempted" and most > 0:
            most = max(most, _MOST_PREEMPTIONS)
            # A cluster needs a moment to notice that a node is gone.
            self.put_off(cell, _AFTER_PREEMPTION_SECONDS)
        if status.failure not in TRANSIENT or tried >= most or last:
            return status
        self._tried[cell.digest] = tried + 1
        return replace(
            status,
            state="pending",
            error=f"{status.error}; trying again ({tried + 1} of {most})",
            retries=(*status.retries, str(status.failure)),
        )
