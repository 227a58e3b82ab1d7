"""The state of a store in one line: equal only where a reader would find the same."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from longact_cli.files import sha256_json
from longact_cli.tracking import Progress, database_file, is_server
from longact_cli.tracking.artifacts import PLAN, RESULTS, SAMPLES, Artifacts
from longact_cli.tracking.database import RunHead, read_run_heads
from longact_cli.tracking.signatures import database_signature


def store_state(
    uri: str, studies: Sequence[str], cache: Path, progress: Progress | None = None
) -> str | None:
    """Return a digest of all runs and of every file that a report on these studies reads.

    None where that cannot be told: while something is being written or has just been, where files
    do not lie beside the database, and on a server whose runs do not say when they were written.

    Args:
        uri: MLflow tracking URI.
        studies: The studies.
        cache: Folder with what a server said the last time.
        progress: Told how far a server is read.

    Raises:
        TrackingError: A server does not answer.
    """
    if is_server(uri):
        from longact_cli.tracking.listing import listed_runs

        if not all(listed_runs(uri, study, cache, progress) for study in studies):
            return None
        return _listed_state(uri, studies, cache)
    database = database_file(uri)
    before = None if database is None else database_signature(database)
    if database is None or before is None:
        return None
    try:
        runs = read_run_heads(database, studies)
    except sqlite3.Error:
        return None
    artifacts = {study: Artifacts.of(uri, study) for study in studies}
    files = [
        [run.run_id, name, artifacts[run.study].signature(run.run_id, name, None)]
        for run in sorted(runs)
        for name in _read(run)
    ]
    if any(signature is None for _, _, signature in files):
        return None
    return sha256_json([before, files])


def state_read(uri: str, studies: Sequence[str], cache: Path, before: str | None) -> str | None:
    """Return the state that a report has read which was made since the state was `before`.

    A server said which runs it holds when the report asked, and files of a run do not change
    without it; a database must still be as it was.
    """
    if is_server(uri):
        return _listed_state(uri, studies, cache)
    return before if before is not None and store_state(uri, studies, cache) == before else None


def _listed_state(uri: str, studies: Sequence[str], cache: Path) -> str | None:
    from longact_cli.tracking.listing import listing_state

    states = [listing_state(uri, study, cache) for study in studies]
    return None if None in states else sha256_json(states)


def _read(run: RunHead) -> Iterator[str]:
    """Yield the names of the files that are read of this run."""
    if run.kind == "plan":
        yield PLAN
    if run.kind == "cell" and run.status == "FINISHED" and run.stage == "eval":
        yield from (RESULTS, SAMPLES)
