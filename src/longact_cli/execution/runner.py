"""Run a plan: start what is ready, keep what is finished, survive what fails."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from longact_cli.cells import (
    CellDir,
    State,
    Status,
    cell_dir,
    create,
    peek_status,
    read_status,
    write_status,
)
from longact_cli.execution.base import EXIT_HELD, DetachedExecutor, Executor, Handle
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.failures import TRANSIENT, cancelled, ended, memory_hint
from longact_cli.holding import Holders
from longact_cli.plan import Cell, Plan

_POLL_SECONDS = 0.1
# After a change the next look comes this soon, then later and later: short cells cost no wait.
_FIRST_POLL_SECONDS = 0.002
_DETACHED_POLL_SECONDS = 1.0
_GRACE_SECONDS = 30.0
# Being preempted is a cluster's daily business; only a mistake makes it this often.
_MOST_PREEMPTIONS = 20
_AFTER_PREEMPTION_SECONDS = 10.0


class Listener(Protocol):
    """Is told what happens to the cells; must not raise."""

    def changed(self, cell: Cell, status: Status) -> None:
        """Take note that a cell has a new state."""

    def tick(self, running: Sequence[Cell]) -> None:
        """Use a moment while cells run, a few times each second."""


@dataclass(frozen=True)
class RunOptions:
    """How a plan is run.

    Attributes:
        retry_failed: Run cells again that failed in an earlier run.
        fail_fast: Start nothing new after a failure.
        retries: How often a cell is tried again after a failure it did not cause.
    """

    retry_failed: bool = False
    fail_fast: bool = False
    retries: int = 1


@dataclass(frozen=True)
class Outcome:
    """How many cells ended in each state, and whether the user interrupted the run.

    Attributes:
        states: State of each cell, by digest.
        interrupted: Whether the user stopped the run.
        left: Number of cells that a cluster goes on with.
    """

    states: dict[str, State]
    interrupted: bool
    left: int = 0

    @property
    def ok(self) -> bool:
        """Whether every cell is done."""
        return all(state == "done" for state in self.states.values())

    def count(self, state: State) -> int:
        """Return how many cells ended in this state."""
        return sum(found == state for found in self.states.values())


class Runner:
    """Runs one plan once. Everything it knows is on disk: a killed run is simply run again."""

    def __init__(
        self,
        plan: Plan,
        runs_dir: Path,
        executor: Executor,
        *,
        listeners: Sequence[Listener] = (),
        options: RunOptions = RunOptions(),
    ) -> None:
        """Prepare to run `plan` in the store `runs_dir`."""
        self._plan = plan
        self._runs_dir = runs_dir
        self._executor = executor
        self._detached = executor if isinstance(executor, DetachedExecutor) else None
        self._listeners = listeners
        self._options = options
        self._cells = {cell.digest: cell for cell in plan.cells}
        self._states: dict[str, State] = {}
        self._handles: dict[str, Handle] = {}
        self._elsewhere: set[str] = set()
        self._holders = Holders()
        self._cancelled = CellsCancelled(runs_dir)
        self._look_again = 0.0
        self._tried_again: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._stopping = False
        # A cluster's queue is asked at its own pace.
        self._shortest = _DETACHED_POLL_SECONDS if self._detached else _FIRST_POLL_SECONDS
        self._pause = self._shortest

    def run(self) -> Outcome:
        """Run until every cell is done, failed or blocked, or the user interrupts."""
        interrupted = False
        longest = _DETACHED_POLL_SECONDS if self._detached else _POLL_SECONDS
        try:
            self._load()
            while self._advance():
                self._tick()
                time.sleep(self._pause)
                self._pause = min(longest, 2 * self._pause)
        except KeyboardInterrupt:
            interrupted = True
            if self._detached is None or not self._detached.outlives:
                self._stop()
        return Outcome(dict(self._states), interrupted, left=len(self._handles))

    def _load(self) -> None:
        for cell in self._plan.cells:
            directory = self._directory(cell)
            create(directory, cell)
            self._cancelled.discard(directory.path.name)
            status = read_status(directory)
            self._states[cell.digest] = self._initial(cell, directory, status)
            if status.state == self._states[cell.digest] != "pending" or (
                status.state == "pending" and status.error
            ):
                self._tell(cell, status)

    def _initial(self, cell: Cell, directory: CellDir, status: Status) -> State:
        if status.state == "done":
            return "done"
        handle = self._detached.attach(directory) if self._detached else None
        if handle is not None:
            self._handles[cell.digest] = handle
            return "running" if status.state == "running" else "pending"
        if status.state == "failed" and not self._options.retry_failed:
            return "failed"
        if self._holders.is_held(directory):
            self._elsewhere.add(cell.digest)
        return "pending"

    def _advance(self) -> bool:
        """Collect what ended, start what may start; return whether work is left."""
        for digest in list(self._handles):
            self._collect(digest)
        self._call_off()
        if not self._stopping:
            self._start_ready()
        waiting = not self._stopping and any(
            state == "pending" and digest not in self._handles
            for digest, state in self._states.items()
        )
        return bool(self._handles) or waiting

    def _call_off(self) -> None:
        """Leave out cells that were cancelled before they started."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + 1.0
        names = self._cancelled.names()
        for cell in self._plan.cells if names else ():
            waits = self._states[cell.digest] == "pending" and cell.digest not in self._handles
            if waits and self._directory(cell).path.name in names:
                known = read_status(self._directory(cell))
                self._set(cell, cancelled(known))

    def _start_ready(self) -> None:
        ready: list[Cell] = []
        for cell in self._plan.cells:
            if self._states[cell.digest] != "pending" or cell.digest in self._handles:
                continue
            parent = self._states.get(cell.parent, "done") if cell.parent else "done"
            if cell.digest in self._elsewhere:
                self._adopt(cell)
            elif parent in ("failed", "blocked", "interrupted"):
                self._set(cell, Status("blocked", error="its training did not finish"))
            elif parent == "done" and len(self._handles) + len(ready) < self._executor.slots:
                if self._may_start(cell):
                    ready.append(cell)
        self._start(ready)

    def _adopt(self, cell: Cell) -> None:
        """Take over a cell that another process ran, once that process has let go of it."""
        directory = self._directory(cell)
        if self._holders.is_held(directory):
            return
        self._elsewhere.discard(cell.digest)
        status = read_status(directory)
        if status.state in ("done", "failed"):
            self._take(cell, status)

    def _take(self, cell: Cell, status: Status) -> None:
        """Accept the end that another process has written."""
        self._states[cell.digest] = status.state
        self._tell(cell, status)

    def _may_start(self, cell: Cell) -> bool:
        """Return whether a cell is to be started here and now; take note of who else has it."""
        if time.monotonic() < self._not_before.get(cell.digest, 0.0):
            return False
        directory = self._directory(cell)
        if self._holders.is_held(directory):
            self._elsewhere.add(cell.digest)
            return False
        known = read_status(directory)
        if known.state == "done":
            self._take(cell, known)
            return False
        return True

    def _start(self, cells: Sequence[Cell]) -> None:
        if not cells:
            return
        directories = [self._directory(cell) for cell in cells]
        for cell, directory in zip(cells, directories, strict=True):
            directory.progress.unlink(missing_ok=True)
            known = read_status(directory)
            started = Status("pending", attempt=known.attempt + 1, retries=known.retries)
            if self._detached is None:
                started = replace(started, state="running", started=time.time())
            self._set(cell, started)
            if self._detached is None:
                self._handles[cell.digest] = self._executor.start(directory)
        if self._detached is not None:
            handles = self._detached.start_together(directories)
            self._handles |= {c.digest: h for c, h in zip(cells, handles, strict=True)}

    def _collect(self, digest: str) -> None:
        code = self._handles[digest].poll()
        cell = self._cells[digest]
        if code is None:
            if self._detached is not None:
                self._observe(cell)
            return
        del self._handles[digest]
        if code == EXIT_HELD:
            self._states[digest] = "pending"
            self._elsewhere.add(digest)
            return
        self._finish(cell, ended(read_status(self._directory(cell)), code))

    def _observe(self, cell: Cell) -> None:
        """Take note that a cell of a cluster has left the queue, or is back in it."""
        status = peek_status(self._directory(cell))
        if status.state in ("running", "pending") and status.state != self._states[cell.digest]:
            self._take(cell, status)

    def _finish(self, cell: Cell, status: Status) -> None:
        """Note the end of a cell, or that it is to be tried again."""
        if status.state in ("failed", "interrupted"):
            status = self._after_failure(cell, status)
        self._set(cell, status)
        if status.state == "failed" and self._options.fail_fast:
            self._stopping = True

    def _after_failure(self, cell: Cell, status: Status) -> Status:
        if self._directory(cell).path.name in self._cancelled.names():
            return cancelled(status)
        if status.state == "interrupted":
            # Somebody has asked its process to end, but nobody has called the cell off.
            status = replace(status, failure="signal")
        if status.failure == "oom":
            return replace(status, error=f"{memory_hint(cell.stage, cell.config)} [{status.error}]")
        tried = self._tried_again.get(cell.digest, 0)
        most = self._options.retries
        if status.failure == "preempted" and most > 0:
            most = max(most, _MOST_PREEMPTIONS)
            # A cluster needs a moment to notice that a node is gone.
            self._not_before[cell.digest] = time.monotonic() + _AFTER_PREEMPTION_SECONDS
        if status.failure not in TRANSIENT or tried >= most or self._stopping:
            return status
        self._tried_again[cell.digest] = tried + 1
        return replace(
            status,
            state="pending",
            error=f"{status.error}; trying again ({tried + 1} of {most})",
            retries=(*status.retries, str(status.failure)),
        )

    def _set(self, cell: Cell, status: Status) -> None:
        self._states[cell.digest] = status.state
        write_status(self._directory(cell), status)
        self._tell(cell, status)

    def _tell(self, cell: Cell, status: Status) -> None:
        self._pause = self._shortest
        for listener in self._listeners:
            listener.changed(cell, status)

    def _tick(self) -> None:
        running = [self._cells[digest] for digest in self._handles]
        for listener in self._listeners:
            listener.tick(running)

    def _stop(self) -> None:
        """End all cells: first politely, at once on a second Ctrl-C or after the grace time."""
        self._stopping = True
        try:
            for handle in self._handles.values():
                handle.terminate()
            self._drain(_GRACE_SECONDS)
        except KeyboardInterrupt:
            pass
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for handle in self._handles.values():
                handle.kill()
            self._drain(_GRACE_SECONDS)
        finally:
            signal.signal(signal.SIGINT, previous)

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._handles and time.monotonic() < deadline:
            for digest, handle in list(self._handles.items()):
                if handle.poll() is not None:
                    del self._handles[digest]
                    cell = self._cells[digest]
                    status = read_status(self._directory(cell))
                    if status.state != "done":
                        status = replace(status, state="interrupted", finished=time.time())
                    self._set(cell, status)
            time.sleep(_POLL_SECONDS)

    def _directory(self, cell: Cell) -> CellDir:
        return cell_dir(self._runs_dir, cell.digest)
