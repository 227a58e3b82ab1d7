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
    is_held,
    read_status,
    write_status,
)
from longact_cli.execution.base import EXIT_HELD, Executor, Handle
from longact_cli.plan import Cell, Plan

_POLL_SECONDS = 0.1
# After a change the next look comes this soon, then later and later: short cells cost no wait.
_FIRST_POLL_SECONDS = 0.002
_GRACE_SECONDS = 30.0


class Listener(Protocol):
    """Is told what happens to the cells; must not raise."""

    def changed(self, cell: Cell, status: Status) -> None:
        """Take note that a cell has a new state."""

    def tick(self, running: Sequence[Cell]) -> None:
        """Use a moment while cells run, a few times each second."""


@dataclass(frozen=True)
class RunOptions:
    """How a plan is run. `retry_failed` runs cells again that failed before."""

    retry_failed: bool = False
    fail_fast: bool = False


@dataclass(frozen=True)
class Outcome:
    """How many cells ended in each state, and whether the user interrupted the run."""

    states: dict[str, State]
    interrupted: bool

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
        self._listeners = listeners
        self._options = options
        self._cells = {cell.digest: cell for cell in plan.cells}
        self._states: dict[str, State] = {}
        self._handles: dict[str, Handle] = {}
        self._elsewhere: set[str] = set()
        self._stopping = False
        self._pause = _FIRST_POLL_SECONDS

    def run(self) -> Outcome:
        """Run until every cell is done, failed or blocked, or the user interrupts."""
        interrupted = False
        try:
            self._load()
            while self._advance():
                self._tick()
                time.sleep(self._pause)
                self._pause = min(_POLL_SECONDS, 2 * self._pause)
        except KeyboardInterrupt:
            interrupted = True
            self._stop()
        return Outcome(dict(self._states), interrupted)

    def _load(self) -> None:
        for cell in self._plan.cells:
            directory = self._directory(cell)
            create(directory, cell)
            self._states[cell.digest] = self._initial(cell, directory)
        for cell in self._plan.cells:
            if self._states[cell.digest] in ("done", "failed"):
                self._tell(cell, read_status(self._directory(cell)))

    def _initial(self, cell: Cell, directory: CellDir) -> State:
        state = read_status(directory).state
        kept = state == "done" or (state == "failed" and not self._options.retry_failed)
        if kept:
            return state
        if is_held(directory):
            self._elsewhere.add(cell.digest)
        return "pending"

    def _advance(self) -> bool:
        """Collect what ended, start what may start; return whether work is left."""
        for digest in list(self._handles):
            self._collect(digest)
        if not self._stopping:
            self._start_ready()
        waiting = not self._stopping and "pending" in self._states.values()
        return bool(self._handles) or waiting

    def _start_ready(self) -> None:
        for cell in self._plan.cells:
            if self._states[cell.digest] != "pending":
                continue
            parent = self._states.get(cell.parent, "done") if cell.parent else "done"
            if cell.digest in self._elsewhere:
                self._adopt(cell)
            elif parent in ("failed", "blocked", "interrupted"):
                self._set(cell, Status("blocked", error="its training did not finish"))
            elif parent == "done" and len(self._handles) < self._executor.slots:
                self._start(cell)

    def _adopt(self, cell: Cell) -> None:
        """Take over a cell that another process ran, once that process has let go of it."""
        directory = self._directory(cell)
        if is_held(directory):
            return
        self._elsewhere.discard(cell.digest)
        status = read_status(directory)
        if status.state in ("done", "failed"):
            self._take(cell, status)

    def _take(self, cell: Cell, status: Status) -> None:
        """Accept the end that another process has written."""
        self._states[cell.digest] = status.state
        self._tell(cell, status)

    def _start(self, cell: Cell) -> None:
        directory = self._directory(cell)
        if is_held(directory):
            self._elsewhere.add(cell.digest)
            return
        known = read_status(directory)
        if known.state == "done":
            self._take(cell, known)
            return
        directory.progress.unlink(missing_ok=True)
        self._set(cell, Status("running", attempt=known.attempt + 1, started=time.time()))
        self._handles[cell.digest] = self._executor.start(directory)

    def _collect(self, digest: str) -> None:
        code = self._handles[digest].poll()
        if code is None:
            return
        del self._handles[digest]
        cell = self._cells[digest]
        if code == EXIT_HELD:
            self._states[digest] = "pending"
            self._elsewhere.add(digest)
            return
        status = ended(read_status(self._directory(cell)), code)
        self._set(cell, status)
        if status.state == "failed" and self._options.fail_fast:
            self._stopping = True

    def _set(self, cell: Cell, status: Status) -> None:
        self._states[cell.digest] = status.state
        write_status(self._directory(cell), status)
        self._tell(cell, status)

    def _tell(self, cell: Cell, status: Status) -> None:
        self._pause = _FIRST_POLL_SECONDS
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


def ended(status: Status, code: int) -> Status:
    """Return the final status of a cell whose process ended with `code`.

    The child writes `done` or `failed` itself; a child that died without a word has failed, and
    an exit code of 0 without a finished cell is a failure too.
    """
    finished = status.finished or time.time()
    if status.state == "done" and code == 0:
        return replace(status, exit_code=0, finished=finished)
    reason = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    error = status.error or f"{reason}; see stderr.log"
    return replace(status, state="failed", exit_code=code, error=error, finished=finished)
