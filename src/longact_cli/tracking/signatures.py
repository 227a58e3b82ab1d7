"""What changes whenever a file or a store changes, told without reading it."""

import time
from pathlib import Path

_SETTLED_NS = 1_000_000_000
_HEADER, _WAL_HEADER, _INDEX_HEADER = 100, 32, 48

Signature = list[int | str]
"""Equal only for equal contents."""


def file_signature(path: Path) -> Signature | None:
    """Return size, times and number of a file; None where it is missing or just written.

    A file system with coarse times shows no difference between two writes in a row, so a file that
    is younger than a second has no signature yet.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED_NS:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def database_signature(database: Path) -> Signature | None:
    """Return what changes with every transaction in a sqlite file; None while one is under way.

    The header counts the transactions. With a write-ahead log they are counted in the head of its
    index until the log is copied into the file.

    Source: https://www.sqlite.org/fileformat.html (file change counter, salts of the log) and
    https://www.sqlite.org/walformat.html (change counter of the index).
    """
    journal, log, index = (
        database.with_name(f"{database.name}-{suffix}") for suffix in ("journal", "wal", "shm")
    )
    try:
        found = database.stat()
        parts = [_head(database, _HEADER), "", ""]
        if log.exists():
            parts[1:] = _head(log, _WAL_HEADER), _head(index, _INDEX_HEADER)
    except OSError:
        return None
    if journal.exists():
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, *parts]


def _head(path: Path, size: int) -> str:
    with path.open("rb") as stream:
        return stream.read(size).hex()
