"""A disk that is full: recognised whatever the library that met it calls it."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

_CODES = (errno.ENOSPC, errno.EDQUOT)
_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
# torch names no cause when a write fails; a disk with less room than this explains it.
_TORCH = ("file write failed", "unexpected pos")
_LITTLE_BYTES = 32 << 20


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Return whether `error`, or what caused it, is a lack of room on the disk of `folder`."""
    for cause in _chain(error):
        text = str(cause).lower()
        if isinstance(cause, OSError) and cause.errno in _CODES:
            return True
        if any(word in text for word in _WORDS):
            return True
        if any(word in text for word in _TORCH) and _free(folder) < _LITTLE_BYTES:
            return True
    return False


def disk_full_message(folder: Path) -> str:
    """Return the line for the user."""
    return (
        f"the disk of {folder} is full ({_free(folder) / 1e6:.0f} MB free); make room and run the "
        "same command again: finished cells are kept, the others go on from their last checkpoint"
    )


def _free(folder: Path) -> int:
    place = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(place).free


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
