"""What lives inside a Ray cluster: an actor for each cell, and one that gives cells their turn.

All are detached: they need nobody once they are there. What an actor does it begins by itself,
since a call that waits for a node is lost with the process that made it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from longact_cli.cells import CellDir, read_cell, read_status
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.job import CellProcess, end_code, read_job

NAMESPACE = "longact"
_ASK_SECONDS = 1.0
_TURN_SECONDS = 0.5
_ANSWER_SECONDS = 30.0
_CALLS = 16
_GIGABYTE = 1 << 30


class CellActor:
    """Runs one cell on a node, then gives the node's resources back."""

    def __init__(self, path: str, threads: int) -> None:
        """Run the cell in the folder `path`."""
        self._process = CellProcess(path, threads=threads)
        self._thread = _begin(self._process.run)

    def wait(self) -> None:
        """Return when the cell has ended; a caller gets an error where the node died."""
        self._thread.join()

    def stop(self) -> None:
        """Ask the cell to stop, and wait: a training writes a checkpoint first."""
        self._process.stop()


class Turn(NamedTuple):
    """A cell that waits.

    Attributes:
        path: Its folder.
        name: The name its actor will have.
        after: Folder of the cell that must have ended before; None: only for a free place.
    """

    path: str
    name: str
    after: str | None


class Turns:
    """Starts cells in their order, `workers` at a time, each after the one it waits for.

    It holds no resources, and ends when the last cell has its actor. Ray starts it on another node
    if its own dies; it then goes on by which cells have an actor, and by what is on disk.
    """

    def __init__(self, turns: Sequence[Turn], workers: int) -> None:
        """Begin with the first cells."""
        self._workers = workers
        self._own = {turn.path for turn in turns}
        self._running: dict[str, RayHandle] = {}
        self._others: dict[str, RayHandle | None] = {}
        self._waiting: dict[str, Turn] = {}
        for turn in turns:
            directory = CellDir(Path(turn.path))
            if (actor := find_actor(turn.name)) is not None:
                self._running[turn.path] = RayHandle(directory, turn.name, actor)
            elif read_status(directory).state == "pending":
                self._waiting[turn.path] = turn
        self._thread = _begin(self._work)

    def waiting(self) -> frozenset[str]:
        """Return the names of the cells whose turn has not come; any other has had its actor."""
        return frozenset(turn.name for turn in tuple(self._waiting.values()))

    def _work(self) -> None:
        while self._waiting:
            for path, handle in tuple(self._running.items()):
                if handle.poll() is not None:
                    del self._running[path]
            for turn in tuple(self._waiting.values()):
                directory = CellDir(Path(turn.path))
                if directory.path.name in CellsCancelled(directory.runs_dir).names():
                    del self._waiting[turn.path]
                elif len(self._running) < self._workers and self._may_start(turn):
                    self._running[turn.path] = start_actor(directory, turn.name)
                    del self._waiting[turn.path]
            time.sleep(_TURN_SECONDS)

    def _may_start(self, turn: Turn) -> bool:
        """Return whether the cell that this one waits for has ended, however it did."""
        if turn.after is None:
            return True
        if turn.after in self._own:
            return turn.after not in self._waiting and turn.after not in self._running
        if turn.after not in self._others:
            self._others[turn.after] = find_cell(CellDir(Path(turn.after)), {})
        other = self._others[turn.after]
        return other is None or other.poll() is not None


class TurnsView:
    """The cells that wait for their turn, asked for at most every second."""

    def __init__(self, actor: Any) -> None:
        """Ask the `Turns` in `actor`."""
        self._actor = actor
        self._waiting: frozenset[str] | None = None
        self._answer: Any = None
        self._asked = 0.0

    def waits(self, name: str, *, within: float = 0.0) -> bool:
        """Return whether a cell's turn has not come; True while there is no answer.

        Args:
            name: Name of its actor.
            within: Seconds to wait for a first answer.
        """
        import ray

        if self._answer is None and time.monotonic() - self._asked >= _ASK_SECONDS:
            self._answer, self._asked = self._actor.waiting.remote(), time.monotonic()
        timeout = within if self._waiting is None else 0.0
        if self._answer is not None and ray.wait([self._answer], timeout=timeout)[0]:
            try:
                self._waiting = ray.get(self._answer)
            except ray.exceptions.ActorUnavailableError:
                pass  # Ray is moving it to another node.
            except ray.exceptions.RayError:
                self._waiting = frozenset()
            self._answer = None
        return self._waiting is None or name in self._waiting


@dataclass
class RayHandle:
    """A cell that waits for its turn, waits for a node, or runs.

    Attributes:
        directory: The cell.
        name: Name of its actor.
        actor: The actor; None before the cell's turn.
        view: Where it waits for its turn; None where it does not.
        end: What becomes ready when the actor has ended.
    """

    directory: CellDir
    name: str
    actor: Any = None
    view: TurnsView | None = None
    end: Any = None

    def poll(self) -> int | None:
        """Return the exit code once the actor is gone, else None."""
        import ray

        if self.actor is None:
            if self.view is not None and self.view.waits(self.name):
                return None
            # Its turn has come, so it has had an actor.
            self.actor = find_actor(self.name)
            if self.actor is None:
                return end_code(self.directory)
        if self.end is None:
            self.end = self.actor.wait.remote()
        if not ray.wait([self.end], timeout=0)[0]:
            return None
        try:
            ray.get(self.end)
        except ray.exceptions.ActorUnavailableError:
            self.end = None
            return None
        except ray.exceptions.RayError:
            pass
        return end_code(self.directory)

    def terminate(self) -> None:
        """Ask the cell to stop; one that waits, or has not begun, has nothing to save."""
        if self.actor is not None and read_status(self.directory).state != "pending":
            self.actor.stop.remote()
        else:
            self.kill()

    def kill(self) -> None:
        """Stop the actor, and with it the cell, at once."""
        import ray

        if self.actor is not None:
            ray.kill(self.actor, no_restart=True)


def start_actor(directory: CellDir, name: str) -> RayHandle:
    """Have a cell run as soon as a node has the resources it asks for."""
    config = read_cell(directory).config.executor
    actor = _detached(
        CellActor,
        name,
        num_cpus=config.threads_per_worker,
        num_gpus=config.gpus_per_cell,
        memory=int((config.memory_gb or 0) * _GIGABYTE) or None,
        max_restarts=0,
        max_concurrency=_CALLS,
    )
    started = actor.remote(str(directory.path.resolve()), config.threads_per_worker)
    return RayHandle(directory, name, started)


def start_turns(name: str, turns: Sequence[Turn], *, workers: int) -> TurnsView:
    """Have cells started in turn by an actor of this name."""
    actor = _detached(Turns, name, num_cpus=0, max_restarts=-1)
    return TurnsView(actor.remote(list(turns), workers))


def find_cell(directory: CellDir, views: dict[str, TurnsView]) -> RayHandle | None:
    """Return the handle of a cell that waits or runs; None where it does neither.

    Args:
        directory: The cell.
        views: What is known about turns, by the name of their actor; kept up to date.
    """
    record = read_job(directory)
    if record is None or record.executor != "ray":
        return None
    turns, _, name = record.job.rpartition("/")
    if (actor := find_actor(name)) is not None:
        return RayHandle(directory, name, actor)
    if turns and turns not in views and (found := find_actor(turns)) is not None:
        views[turns] = TurnsView(found)
    if turns in views and views[turns].waits(name, within=_ANSWER_SECONDS):
        return RayHandle(directory, name, view=views[turns])
    # Its turn may have come between the two looks.
    actor = find_actor(name)
    return None if actor is None else RayHandle(directory, name, actor)


def find_actor(name: str) -> Any:
    """Return the actor of this name; None where there is none."""
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def _detached(kind: type, name: str, **options: Any) -> Any:
    """Return what makes an actor of this name that outlives the process that asks for it."""
    import ray

    lasting = {"name": name, "namespace": NAMESPACE, "lifetime": "detached"}
    return cast(Any, ray.remote(kind)).options(**lasting, **options)


def _begin(work: Callable[[], object]) -> threading.Thread:
    """Do the work of this actor in a thread, then end the actor."""
    import ray

    actor = ray.get_runtime_context().current_actor

    def run() -> None:
        try:
            work()
        finally:
            ray.kill(actor, no_restart=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
