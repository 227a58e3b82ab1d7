"""Run a plan: start what is ready, keep what is finished, survive what fails."""

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
from longact_cli.execution.base import (
    EXIT_BLOCKED,
    EXIT_HELD,
    DetachedExecutor,
    Executor,
    Handle,
    HandOver,
)
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.failures import blocked, cancelled, ended
from longact_cli.execution.listener import Listener
from longact_cli.execution.retries import Retries
from longact_cli.holding import Holders
from longact_cli.plan import Cell, Plan

_POLL_SECONDS = 0.1
# After a change the next look comes this soon, then later and later: short cells cost no wait.
_FIRST_POLL_SECONDS = 0.002
_DETACHED_POLL_SECONDS = 1.0
_KILL_SECONDS = 30.0
_NO_ROOM_SECONDS = 60.0  # After that a cluster without room is asked again.


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
        # With fail-fast nothing may start after a failure, so nothing is handed over before.
        chains = self._detached is not None and self._detached.chains
        self._chains = chains and not options.fail_fast
        self._listeners = listeners
        self._options = options
        self._cells = {cell.digest: cell for cell in plan.cells}
        self._states: dict[str, State] = {}
        self._handles: dict[str, Handle] = {}
        self._elsewhere: set[str] = set()
        self._holders = Holders()
        self._cancelled = CellsCancelled(runs_dir)
        self._look_again = 0.0
        self._retries = Retries(options.retries)
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
            called_off = status.state == "pending" and status.error
            if called_off or status.state == self._states[cell.digest] != "pending":
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
        ready: dict[str, Cell] = {}
        for cell in self._plan.cells:
            if self._states[cell.digest] != "pending" or cell.digest in self._handles:
                continue
            parent = self._states.get(cell.parent, "done") if cell.parent else "done"
            if cell.digest in self._elsewhere:
                self._adopt(cell)
            elif parent in ("failed", "blocked", "interrupted"):
                self._block(cell)
            elif parent == "done" or self._is_handed_over(cell.parent, ready):
                full = len(self._handles) + len(ready) >= self._executor.slots
                if (self._chains or not full) and self._may_start(cell):
                    ready[cell.digest] = cell
        self._start(list(ready.values()))

    def _is_handed_over(self, parent: str | None, ready: Mapping[str, Cell]) -> bool:
        """Return whether a cell may wait in the cluster's queue for its training."""
        return self._chains and (parent in self._handles or parent in ready)

    def _block(self, cell: Cell) -> None:
        assert cell.parent is not None
        training = read_status(cell_dir(self._runs_dir, cell.parent))
        attempt = read_status(self._directory(cell)).attempt
        self._set(cell, blocked(Status("blocked", attempt), training))

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
        """Accept a state that is written already."""
        self._states[cell.digest] = status.state
        self._tell(cell, status)

    def _may_start(self, cell: Cell) -> bool:
        """Return whether a cell is to be started here and now; take note of who else has it."""
        if not self._retries.due(cell):
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
        before = [read_status(self._directory(cell)) for cell in cells]
        for cell, known in zip(cells, before, strict=True):
            directory = self._directory(cell)
            directory.progress.unlink(missing_ok=True)
            started = Status("pending", attempt=known.attempt + 1, retries=known.retries)
            if self._detached is None:
                started = replace(started, state="running", started=time.time())
            self._set(cell, started)
            if self._detached is None:
                self._handles[cell.digest] = self._executor.start(directory)
        if self._detached is None:
            return
        handles = self._detached.start_together([self._hand_over(cell) for cell in cells])
        for cell, known, handle in zip(cells, before, handles, strict=True):
            if handle is not None:
                self._handles[cell.digest] = handle
                continue
            write_status(self._directory(cell), known)
            self._retries.put_off(cell, _NO_ROOM_SECONDS)

    def _hand_over(self, cell: Cell) -> HandOver:
        waits = cell.parent is not None and self._states.get(cell.parent, "done") != "done"
        after = cell_dir(self._runs_dir, cell.parent) if cell.parent and waits else None
        return HandOver(self._directory(cell), after)

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
        if code == EXIT_BLOCKED and self._states.get(cell.parent or "") != "done":
            # What becomes of its training decides what becomes of it.
            self._states[digest] = "pending"
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
        return self._retries.after_failure(cell, status, last=self._stopping)

    def _set(self, cell: Cell, status: Status) -> None:
        write_status(self._directory(cell), status)
        self._take(cell, status)

    def _tell(self, cell: Cell, status: Status) -> None:
        self._pause = self._shortest
        for listener in self._listeners:
            listener.changed(cell, status)

    def _tick(self) -> None:
        running = [
            self._cells[digest] for digest in self._handles if self._states[digest] == "running"
        ]
        for listener in self._listeners:
            listener.tick(running)

    def _stop(self) -> None:
        """End all cells: politely, which takes as long as a checkpoint; a second Ctrl-C kills."""
        self._stopping = True
        try:
            for listener in self._listeners:
                listener.stopping()
            for handle in self._handles.values():
                handle.terminate()
            self._drain(float("inf"))
        except KeyboardInterrupt:
            pass
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for handle in self._handles.values():
                handle.kill()
            self._drain(_KILL_SECONDS)
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
