"""The state of a store in one line: equal only where a reader would find the same."""

import sqlite3
from collections.abc import Iterator, Sequence

from longact_cli.files import sha256_json
from longact_cli.tracking import database_file
from longact_cli.tracking.artifacts import PLAN, RESULTS, SAMPLES, Artifacts
from longact_cli.tracking.database import RunHead, read_run_heads
from longact_cli.tracking.signatures import database_signature


def store_state(uri: str, studies: Sequence[str]) -> str | None:
    """Return a digest of the database and of every file that a report on these studies reads.

    None where that cannot be told: on a server, while something is being written or has just been,
    and where files do not lie beside the database.
    """
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


def _read(run: RunHead) -> Iterator[str]:
    """Yield the names of the files that are read of this run."""
    if run.kind == "plan":
        yield PLAN
    if run.kind == "cell" and run.status == "FINISHED" and run.stage == "eval":
        yield from (RESULTS, SAMPLES)
