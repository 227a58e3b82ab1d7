"""The record of runs in MLflow: one writer (`store`), one reader (`query`).

This file imports no MLflow, so that settings and errors cost nothing.
"""

import os
import re
from pathlib import Path

from longact_cli.errors import LongActError
from longact_cli.files import sha256_json

# Read by MLflow on import, which only happens in this package's modules.
for _name, _value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
):
    os.environ.setdefault(_name, _value)

_SQLITE = "sqlite:///"


class TrackingError(LongActError):
    """MLflow could not be read or written. Cells are not affected: a later sync repairs it."""

    exit_code = 4


def default_tracking_uri(runs_dir: Path) -> str:
    """Return `MLFLOW_TRACKING_URI` where it is set, else the database of this store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{runs_dir.resolve()}/mlflow.db"


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite URI; None for a server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def artifact_folder(runs_dir: Path, study: str) -> Path:
    """Return where a study's artifacts lie; a name unfit for a folder gets a readable stand-in."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", study)[:60]
    name = study if slug == study else f"{slug}-{sha256_json(study)[:8]}"
    return runs_dir.resolve() / "artifacts" / name
