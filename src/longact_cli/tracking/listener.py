"""Keeps MLflow in step with a running plan, in a thread of its own: cells never wait for it."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from longact_cli.cells import Status, cell_dir
from longact_cli.plan import Cell, Plan
from longact_cli.tracking import PlanStatus, TrackingError
from longact_cli.tracking.plans import holding_plan, write_plan

if TYPE_CHECKING:
    from longact_cli.tracking.store import TrackingStore

_LONGEST_PAUSE = 60.0
_FINISH_SECONDS = 600.0
# Share of a thread's time that copying running cells may take.
_BUSY = 0.05


class PlanTracker:
    """A listener of the runner. A failure of MLflow is told once, tried again, and never raised.

    Everything it sends lies on disk, so what is still missing at the end is left to
    `longact sync`.
    """

    def __init__(
        self, uri: str, runs_dir: Path, *, warn: Callable[[str], None], seconds: float = 5.0
    ) -> None:
        """Track to `uri`; `warn` gets a line per outage, ticks are at least `seconds` apart."""
        self._uri = uri
        self._runs_dir = runs_dir
        self._warn = warn
        self._seconds = seconds
        self._next = 0.0
        self._pace = 0.0
        self._pause = 0.0
        self._waiting: dict[str, tuple[Cell, Status | None]] = {}
        self._wake = threading.Condition()
        self._end: PlanStatus | None = None
        self._complete = False
        self._alive = ExitStack()
        self._store: TrackingStore | None = None
        self._parent = ""

    def start(self, plan: Plan, command: str) -> None:
        """Keep the plan beside its cells and start to copy."""
        write_plan(plan, self._runs_dir, command=command)
        self._alive.enter_context(holding_plan(self._runs_dir, plan.digest))
        self._plan, self._command = plan, command
        self._thread = threading.Thread(target=self._work, daemon=True, name="tracking")
        self._thread.start()

    def changed(self, cell: Cell, status: Status) -> None:
        """Have a cell copied that has a new state."""
        with self._wake:
            self._waiting[cell.digest] = (cell, status)
            self._wake.notify()

    def tick(self, running: Sequence[Cell]) -> None:
        """Have copied what running cells have logged, now and then."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + max(self._seconds, self._pace)
        with self._wake:
            for cell in running:
                self._waiting.setdefault(cell.digest, (cell, None))
            self._wake.notify()

    def stopping(self) -> None:
        """Do nothing: a run's end is copied when its cell has ended."""

    def finish(
        self, *, ok: bool, interrupted: bool = False, seconds: float = _FINISH_SECONDS
    ) -> bool:
        """Copy what is left and close the plan's run; return whether MLflow has everything.

        Args:
            ok: Whether every cell is done.
            interrupted: Whether the user stopped the plan.
            seconds: How long to wait at most; an unreachable MLflow is not waited for.
        """
        with self._wake:
            self._end = "KILLED" if interrupted else "FINISHED" if ok else "FAILED"
            self._wake.notify()
        self._thread.join(seconds)
        self._alive.close()
        if not self._complete:
            self._warn(
                "MLflow lacks a part of this run; results on disk are complete: "
                f"`longact sync --runs-dir {quote(str(self._runs_dir))}` copies the rest"
            )
        return self._complete

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._is_due, self._pause or None)
                last = self._end is not None
                batch, self._waiting = self._waiting, {}
            started = time.monotonic()
            try:
                self._copy(batch)
                if last and not self._waiting:
                    self._close()
                    return
                self._pause = 0.0
            except TrackingError as error:
                self._store = None
                if not self._pause:
                    self._warn(str(error))
                self._pause = min(_LONGEST_PAUSE, max(1.0, 2 * self._pause))
                if last:
                    return
            self._pace = min(_LONGEST_PAUSE, (time.monotonic() - started) / _BUSY)

    def _is_due(self) -> bool:
        """Return whether to copy now; during an outage, only at the end of the plan."""
        return self._end is not None or (bool(self._waiting) and not self._pause)

    def _copy(self, batch: dict[str, tuple[Cell, Status | None]]) -> None:
        """Copy each cell of the batch; one that fails, and all after it, wait again.

        Raises:
            TrackingError: MLflow failed.
        """
        left = dict(batch)
        try:
            store = self._open()
            for digest, (cell, status) in batch.items():
                directory = cell_dir(self._runs_dir, digest)
                store.sync_cell(cell, directory, parent_run=self._parent, status=status)
                del left[digest]
        finally:
            with self._wake:
                self._waiting = left | self._waiting

    def _open(self) -> "TrackingStore":
        from longact_cli.tracking.store import open_store  # imports MLflow, which takes seconds

        if self._store is None:
            store = open_store(self._uri, runs_dir=self._runs_dir, study=self._plan.study)
            self._parent = store.start_plan(self._plan, self._command)
            self._store = store
        return self._store

    def _close(self) -> None:
        assert self._end is not None
        self._open().close(self._parent, self._end)
        self._complete = True
