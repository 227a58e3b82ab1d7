"""The files of a study's runs: beside the database where they lie there, else as downloads."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from longact_cli.tracking import (
    Progress,
    TrackingError,
    artifact_folder,
    database_file,
    is_server,
)
from longact_cli.tracking.signatures import Signature, file_signature

T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 16
PLAN, RESULTS, SAMPLES = "plan.json", "results.json", "samples.jsonl"


class Artifacts(NamedTuple):
    """Where one study's files are; `folder` is None on a server.

    MLflow stores absolute paths; looking beside the database first keeps a moved store readable.
    """

    uri: str
    study: str
    folder: Path | None

    @classmethod
    def of(cls, uri: str, study: str) -> "Artifacts":
        """Return the files of a study."""
        database = database_file(uri)
        folder = None if database is None else artifact_folder(database.parent, study)
        return cls(uri, study, folder)

    def signature(self, run_id: str, name: str, copied: str | None) -> Signature | None:
        """Return what changes with a file of a finished run; None where nothing tells.

        A server tells neither time nor hash of a file; there it is which end of the cell was
        copied (`copied`).
        """
        if self.folder is None:
            return [copied] if copied else None
        return file_signature(self.beside(run_id, name))

    @contextmanager
    def opened(self, run_id: str, name: str) -> Iterator[Path]:
        """Give one file of a run.

        Raises:
            TrackingError: MLflow failed, or the run has no such file.
        """
        if self.folder is not None:
            beside = self.beside(run_id, name)
            if beside.is_file():
                yield beside
                return
        if self.folder is None and is_server(self.uri):
            from longact_cli.tracking.server import artifact_location, fetch

            content = fetch(self.uri, artifact_location(self.uri, self.study), run_id, name)
            if content is not None:
                with tempfile.TemporaryDirectory(prefix="longact-") as folder:
                    path = Path(folder, name)
                    path.write_bytes(content)
                    yield path
                return
        from longact_cli.tracking.client import connect, translated

        with tempfile.TemporaryDirectory(prefix="longact-") as folder, translated(self.uri):
            found = Path(connect(self.uri).download_artifacts(run_id, name, folder))
            if not found.is_file():
                raise TrackingError(
                    f"run {run_id} at {self.uri} has no {name}; run the sweep again"
                )
            yield found

    def beside(self, run_id: str, name: str) -> Path:
        """Return where a file lies in a store that has a folder."""
        return Path(f"{self.folder}/{run_id}/artifacts/{name}")


def each(
    uri: str,
    read: Callable[[T], R],
    items: Sequence[T],
    *,
    progress: Progress | None = None,
    what: str = "",
) -> list[R]:
    """Return what `read` makes of each item; a server is asked for several at a time.

    What a file costs there is waiting for the answer. There, `progress` is told how far `what` is.
    """
    if database_file(uri) is not None:
        return [read(item) for item in items]
    found = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for one in pool.map(read, items):
            found.append(one)
            if progress is not None:
                progress(what, len(found), len(items))
    return found
