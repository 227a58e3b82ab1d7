"""Who runs a cell, known on every machine that shares its folder: numbered leases with a heartbeat.

The kernel's lock on a file is exact on one machine and is lost with its process; between machines
it depends on the file system. A lease is a file `<number>.json` that only one process can create.
Its owner counts a beat up in it; another machine takes the next number once the beat has stood
still for the lease's time-out. Time is measured by the watcher's own monotonic clock, so that the
clocks of two machines are never compared. Numbers only grow: an owner that was replaced (it was
suspended, or cut off) sees a higher number and stops before it writes a result.

Source: fencing tokens as in Kleppmann, "How to do distributed locking" (2016); creation by a hard
link as in open(2), O_EXCL, for NFS.
"""

import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread

from longact_cli.errors import CellHeldError, ConfigError
from longact_cli.files import read_json

_BEATS_PER_TIMEOUT = 6
_TICK_SECONDS = 1.0
_VARIABLE = "LONGACT_LEASE_SECONDS"


def lease_seconds() -> float:
    """Return after how many seconds without a beat a lease of this process may be taken over.

    Raises:
        ConfigError: The variable holds something else.
    """
    text = os.environ.get(_VARIABLE, "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise ConfigError(
            f"{_VARIABLE} is '{text}'; it must be a number of seconds above 0, e.g. 60, the same "
            "on all machines: correct it or unset it"
        )
    return seconds


def machine() -> str:
    """Return an identity of the running kernel: processes with the same one share its locks."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else socket.gethostname()


@dataclass(frozen=True)
class Lease:
    """One lease as its owner last wrote it; `seconds` is its time-out."""

    number: int
    token: str = ""
    host: str = ""
    machine: str = ""
    pid: int = 0
    beat: int = -1
    seconds: float = 60.0
    released: bool = False


def current(folder: Path) -> Lease | None:
    """Return the newest lease of a cell; one that cannot be read counts as another machine's."""
    numbers = _numbers(folder)
    if not numbers:
        return None
    data = read_json(_path(folder, numbers[-1]))
    try:
        return Lease(**data) if isinstance(data, dict) else Lease(numbers[-1])
    except TypeError:
        return Lease(numbers[-1])


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.json"


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - the names alone, for hundreds of cells
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def long_silent(folder: Path) -> bool:
    """Return whether the last beat looks ten time-outs old, by this machine's clock.

    Only for showing: clocks may differ, so nothing is taken over because of it.
    """
    lease = current(folder)
    if lease is None:
        return True
    age = time.time() - _path(folder, lease.number).stat().st_mtime
    return age > 10 * lease.seconds


class Watch:
    """Tells whether the owner of a lease lives, by looking at its beat again and again."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: dict[Path, tuple[Lease, float]] = {}

    def alive(self, folder: Path, *, locks: bool = True) -> bool:
        """Return whether the newest lease may still have an owner.

        A lease of this machine has none: whoever asks has found the kernel's lock free. Where the
        file system has no locks (`locks` is False) its beat is watched like any other's.
        """
        lease = current(folder)
        if lease is None or lease.released or (locks and lease.machine == machine()):
            self._seen.pop(folder, None)
            return False
        known = self._seen.get(folder)
        if known is None or (known[0].number, known[0].beat) != (lease.number, lease.beat):
            self._seen[folder] = (lease, time.monotonic())
            return True
        return time.monotonic() - known[1] <= lease.seconds


class Claim:
    """A lease that this process owns."""

    def __init__(self, folder: Path, lease: Lease) -> None:
        """Own `lease`."""
        self._folder = folder
        self._lease = lease
        self._stop = Event()
        self._renewing = Lock()
        self._thread: Thread | None = None

    def valid(self) -> bool:
        """Return whether nobody has taken a higher number."""
        numbers = _numbers(self._folder)
        return not numbers or numbers[-1] <= self._lease.number

    def confirm(self) -> None:
        """Prove the ownership once more, right before a result is written.

        Takes the next number, which fails if another process has it.

        Raises:
            CellHeldError: Another process took the cell over.
        """
        with self._renewing:
            following = replace(self._lease, number=self._lease.number + 1)
            if not self.valid() or not _create(self._folder, following):
                raise CellHeldError(f"{self._folder.parent} was taken over by another process")
            self._lease = following

    def keep(self, lost: Callable[[], None], each_tick: Callable[[], None]) -> None:
        """Count the beat up in a thread; call `lost` if another process takes the cell over."""

        def work() -> None:
            due = 0.0
            while not self._stop.wait(_tick(self._lease.seconds)):
                each_tick()
                with self._renewing:
                    mine = self.valid()
                if not mine:
                    lost()
                    return
                if time.monotonic() >= due:
                    with self._renewing:
                        self._beat()
                    due = time.monotonic() + self._lease.seconds / _BEATS_PER_TIMEOUT

        self._thread = Thread(target=work, daemon=True, name="lease")
        self._thread.start()

    def release(self) -> None:
        """Say that the cell is free; the number stays, so that it is never used again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.valid():
            self._write(replace(self._lease, released=True))
            _remove_older(self._folder, self._lease.number)

    def _beat(self) -> None:
        self._write(replace(self._lease, beat=self._lease.beat + 1))

    def _write(self, lease: Lease) -> None:
        """Replace the lease; a full or absent disk is not the heartbeat's business."""
        path = _path(self._folder, lease.number)
        temporary = path.with_suffix(f".{self._lease.token}")
        try:
            temporary.write_text(json.dumps(vars(lease)), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            return
        self._lease = lease


def _tick(seconds: float) -> float:
    return min(_TICK_SECONDS, seconds / _BEATS_PER_TIMEOUT)


def acquire(folder: Path, *, locks: bool = True) -> Claim:
    """Own the cell, at once if it is free, after the time-out if its owner is gone.

    Args:
        folder: Where the cell's leases lie.
        locks: Whether the caller holds the kernel's lock, which rules out owners on this machine.

    Raises:
        CellHeldError: The owner lives, or another process was faster.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = current(folder)
    _wait_for_death(folder, found, locks=locks)
    lease = Lease(
        number=found.number + 1 if found else 1,
        token=secrets.token_hex(8),
        host=socket.gethostname(),
        machine=machine(),
        pid=os.getpid(),
        beat=0,
        seconds=lease_seconds(),
    )
    if not _create(folder, lease):
        raise _held(folder)
    return Claim(folder, lease)


def _held(folder: Path) -> CellHeldError:
    return CellHeldError(f"{folder.parent} is being run by another process")


def _wait_for_death(folder: Path, found: Lease | None, *, locks: bool) -> None:
    """Return once the owner of `found` has been silent for its time-out."""
    watch = Watch()
    while watch.alive(folder, locks=locks):
        time.sleep(_tick(lease_seconds()))
        now = current(folder)
        if found is None or now is None or (now.number, now.beat) != (found.number, found.beat):
            raise _held(folder)


def _create(folder: Path, lease: Lease) -> bool:
    """Create the lease's file with its content in one step; False if the number is taken."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".lease.")
    temporary, path = Path(name), _path(folder, lease.number)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(vars(lease), stream)
            stream.flush()
            os.fsync(stream.fileno())
        return _link(temporary, path, lease.token)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path, token: str) -> bool:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        # A network file system may say so although it was this very call that made it.
        data = read_json(path)
        return isinstance(data, dict) and data.get("token") == token
    except OSError:
        # No hard links here: create the file first, then fill it.
        try:
            path.open("x").close()
        except FileExistsError:
            return False
        temporary.replace(path)
    return True


def _remove_older(folder: Path, number: int) -> None:
    for old in _numbers(folder):
        if old < number:
            _path(folder, old).unlink(missing_ok=True)
