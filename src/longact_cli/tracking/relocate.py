"""A moved store: MLflow keeps absolute paths of artifacts, these are set to the new place."""

import sqlite3
from contextlib import closing
from pathlib import Path

_WAIT_SECONDS = 20.0


def relocate(database: Path, old: str, new: str) -> None:
    """Replace the location `old` of one study and of its runs by `new`, all or nothing.

    MLflow has no call for this. Its files stay where they are: they moved with the folder.
    """
    with closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (new, old)
        )
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE substr(artifact_uri, 1, ?) = ?",
            (new, len(old) + 1, len(old) + 1, f"{old}/"),
        )
