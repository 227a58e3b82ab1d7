"""Calling cells off: those that wait are left out, those that run are stopped, anywhere."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import (
    CellDir,
    Status,
    cell_dir,
    list_cells,
    read_status,
)
from longact_cli.errors import NotFoundError
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.job import read_job
from longact_cli.execution.slurm_queue import cancel_job
from longact_cli.files import read_json
from longact_cli.holding import is_held
from longact_cli.lease import current, machine
from longact_cli.tracking.plans import read_plans

_POLL_SECONDS = 0.1
_KILL_SECONDS = 30.0
_OVER = ("done", "failed", "blocked")


class Cancelled(NamedTuple):
    """What became of a cell: `stopped` ran and has ended, `stopping` has yet to end.

    `not running` was started once, and its process was gone before.
    """

    digest: str
    label: str
    outcome: str


def study_cells(runs_dir: Path, study: str) -> tuple[CellDir, ...]:
    """Return the cells of every plan of a study.

    Raises:
        NotFoundError: There is no plan of that name.
    """
    plans = read_plans(runs_dir)
    digests = {digest: None for plan in plans if plan.study == study for digest in plan.cells}
    if not digests:
        names = ", ".join(sorted({plan.study for plan in plans})) or "none"
        raise NotFoundError(f"--study is '{study}'; the studies in {runs_dir} are: {names}")
    there = set(list_cells(runs_dir))
    return tuple(d for d in (cell_dir(runs_dir, digest) for digest in digests) if d in there)


def cancel(directories: Sequence[CellDir], *, grace: float) -> tuple[Cancelled, ...]:
    """Call off every cell that has not ended, and wait for those that run here.

    Args:
        directories: The cells.
        grace: Seconds that running cells get to stop by themselves before they are killed;
            infinity waits for as long as their checkpoints take.
    """
    waiting = [directory for directory in directories if _may_run(directory)]
    running = [directory for directory in waiting if is_held(directory)]
    for directory in waiting:
        CellsCancelled(directory.runs_dir).add(directory.path.name)
        record = read_job(directory)
        if record is not None and record.executor == "slurm":
            cancel_job(record.job)
        _signal(directory, signal.SIGTERM)
    _wait(running, grace)
    for directory in running:
        _signal(directory, signal.SIGKILL)
    _wait(running, _KILL_SECONDS)
    return tuple(_outcome(directory, ran=directory in running) for directory in waiting)


def _may_run(directory: CellDir) -> bool:
    status = read_status(directory)
    return is_held(directory) or (status.state not in _OVER and not _rests(status))


def _rests(status: Status) -> bool:
    """Return whether a cell was stopped before and nobody is about to start it."""
    return status.state == "interrupted"


def _signal(directory: CellDir, number: signal.Signals) -> None:
    """Signal the process group that owns a cell, if it is one of this machine."""
    lease = current(directory.leases)
    if lease is None or lease.released or lease.machine != machine() or not is_held(directory):
        return
    try:
        # The process of a cell leads its group; one that was started by hand may not.
        leads = os.getpgid(lease.pid) == lease.pid
        (os.killpg if leads else os.kill)(lease.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _wait(directories: Sequence[CellDir], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_held, directories)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _outcome(directory: CellDir, *, ran: bool) -> Cancelled:
    cell = read_json(directory.path / "cell.json") or {"digest": directory.path.name, "label": ""}
    outcome = "not started" if read_status(directory).state == "pending" else "not running"
    if ran:
        outcome = "stopping" if is_held(directory) else "stopped"
    return Cancelled(cell["digest"], cell["label"], outcome)
