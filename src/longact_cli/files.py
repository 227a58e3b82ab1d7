"""Files that survive a crash: atomic writes, append-only lines, checksums."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from longact_cli.errors import DamagedFileError

_CHUNK = 1 << 20


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step; a reader sees the old file or the new one."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, flushed to the disk before the swap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush_tree(folder: Path) -> None:
    """Flush what others have written below `folder` to the disk, contents before names."""
    folders = [folder]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
        elif path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    for path in (*folders, folder.parent):
        _flush_names(path)


def _flush_names(folder: Path) -> None:
    """Flush which files a folder holds; some file systems cannot, and then need not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as readable JSON with sorted keys."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any | None:
    """Return the JSON value in `path`, or None where the file is missing or torn."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def append_lines(path: Path, values: Iterable[Any]) -> None:
    """Append one JSON line per value and flush them to the disk."""
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the JSON value of each whole line; a torn last line (a crash) is left out.

    Raises:
        DamagedFileError: Another line is not JSON.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8") as stream:
        try:
            for line in stream:
                if not line.endswith("\n"):
                    return
                yield json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DamagedFileError(
                f"{path} is damaged ({error}); remove it and run the same command again"
            ) from None


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no blanks)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
