"""Who owns a cell: one process at a time, by the kernel's lock and a lease between machines."""

import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from longact_cli import lease
from longact_cli.cells import CellDir
from longact_cli.errors import CellHeldError


@contextmanager
def hold(
    directory: CellDir, *, each_tick: Callable[[], None] = lambda: None
) -> Iterator[lease.Claim]:
    """Own the cell while the block runs. The kernel lets go when the process dies.

    Where the owner may be on another machine, waits until that one has been silent for the
    lease's time-out. A process that is replaced all the same is killed: it must not write.

    Args:
        directory: The cell.
        each_tick: Called about once a second while the cell is owned.

    Raises:
        CellHeldError: Another live process owns the cell.
    """
    directory.path.mkdir(parents=True, exist_ok=True)
    with (directory.path / "lock").open("w") as stream:
        locks = _lock(stream)
        if locks is False:
            raise CellHeldError(f"{directory.path} is being run by another process")
        claim = lease.acquire(directory.leases, locks=locks is True)
        claim.keep(_die, each_tick)
        try:
            yield claim
        finally:
            claim.release()


def _lock(stream: IO[Any]) -> bool | None:
    """Return whether the lock was taken; None where the file system has no locks."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def locks_work(folder: Path) -> bool:
    """Return whether the file system of `folder` has locks that keep a second owner out.

    Raises:
        OSError: The folder cannot be written to.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".lock.") as first:
        with Path(first.name).open("r") as second:
            return _lock(first) is True and _lock(second) is False


def _die() -> None:
    sys.stderr.write("error: the cell was taken over by another process\n")
    sys.stderr.flush()
    # With its children, which write too, if this process leads its group.
    os.kill(-os.getpgrp() if os.getpgrp() == os.getpid() else os.getpid(), signal.SIGKILL)


class Holders:
    """Tells which cells are owned by a live process, on this machine or another."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._watch = lease.Watch()

    def is_held(self, directory: CellDir) -> bool:
        """Return whether a live process owns the cell.

        An owner on another machine that has died is told only by asking again: it counts as alive
        until its beat has stood still for the lease's time-out.
        """
        lock = directory.path / "lock"
        if not lock.exists():
            return False
        with lock.open("r") as stream:
            locks = _lock(stream)
        return locks is False or self._watch.alive(directory.leases, locks=locks is True)


def is_held(directory: CellDir) -> bool:
    """Return whether a live process seems to own the cell, by one look; for showing."""
    lock = directory.path / "lock"
    if not lock.exists():
        return False
    with lock.open("r") as stream:
        if _lock(stream) is False:
            return True
    return Holders().is_held(directory) and not lease.long_silent(directory.leases)
