"""Files that may be deleted at any time: what is damaged, older or not ours counts as absent."""

import json
import logging
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longact_cli.files import write_bytes

FORMAT = 1
"""To be raised whenever what is kept, or how it is read from the store, changes its meaning."""
_MOST = 32
_LOG = logging.getLogger(__name__)


def cache_folder(runs_dir: Path) -> Path:
    """Return where a store keeps what it would only have to compute again."""
    return runs_dir / "cache"


def read_cache(path: Path) -> Any | None:
    """Return the JSON value in `path`; None where it is missing, damaged or of another version."""
    try:
        head, body = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return json.loads(body) if head == _head(body) else None


def write_cache(path: Path, value: Any) -> None:
    """Replace `path` by a JSON value in one step; where nothing can be written, do without.

    Of the files beside it, the oldest beyond 32 are deleted.
    """
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    try:
        write_bytes(path, _head(body) + b"\n" + body)
        files = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for old in files[:-_MOST]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _LOG.debug("nothing kept for the next report: %s", error)


def _head(body: bytes) -> bytes:
    release = version("longact")
    return f"longact {release} cache {FORMAT} sha256 {sha256(body).hexdigest()}".encode()
