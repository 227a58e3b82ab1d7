"""Keeps MLflow in step with a running plan; a failure of MLflow is reported, never raised."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from longact_cli.cells import Status, cell_dir
from longact_cli.plan import Cell, Plan
from longact_cli.tracking import TrackingError
from longact_cli.tracking.store import open_store


class PlanTracker:
    """A listener of the runner that copies every change, and running cells now and then.

    A cell whose copy failed is tried again with the next tick and at the end.
    """

    def __init__(
        self, uri: str, runs_dir: Path, *, warn: Callable[[str], None], seconds: float = 5.0
    ) -> None:
        """Track to `uri`; `warn` gets a line per failure, ticks are at least `seconds` apart."""
        self._uri = uri
        self._runs_dir = runs_dir
        self._warn = warn
        self._seconds = seconds
        self._next = 0.0
        self._behind: dict[str, Cell] = {}
        self._parent = ""

    def start(self, plan: Plan, command: str) -> None:
        """Open the store and the plan's run.

        Raises:
            TrackingError: MLflow cannot be used at all; said before any cell has cost time.
        """
        self._store = open_store(self._uri, runs_dir=self._runs_dir, study=plan.study)
        self._parent = self._store.start_plan(plan, command)

    def changed(self, cell: Cell, status: Status) -> None:
        """Copy a cell that has a new state."""
        del status
        self._copy(cell)

    def tick(self, running: Sequence[Cell]) -> None:
        """Copy what running cells have logged, and what failed to copy before."""
        if time.monotonic() < self._next:
            return
        for cell in {cell.digest: cell for cell in (*running, *self._behind.values())}.values():
            self._copy(cell)
        self._next = time.monotonic() + self._seconds

    def finish(self, *, ok: bool) -> bool:
        """Copy what is behind and close the plan's run; return whether MLflow has everything."""
        for cell in list(self._behind.values()):
            self._copy(cell)
        try:
            self._store.finish_plan(self._parent, ok)
        except TrackingError as error:
            self._warn(str(error))
            return False
        return not self._behind

    def _copy(self, cell: Cell) -> None:
        try:
            directory = cell_dir(self._runs_dir, cell.digest)
            self._store.sync_cell(cell, directory, parent_run=self._parent)
        except TrackingError as error:
            if cell.digest not in self._behind:
                self._warn(str(error))
            self._behind[cell.digest] = cell
        else:
            self._behind.pop(cell.digest, None)
