"""The record of runs in MLflow: one writer (`store`), one reader (`query`).

This file imports no MLflow, so that settings and errors cost nothing.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from longact_cli.errors import ConfigError, LongActError
from longact_cli.files import sha256_json
from longact_cli.redaction import redact

# Read by MLflow on import, which only happens in this package's modules.
for _name, _value in (
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("MLFLOW_LOGGING_LEVEL", "WARNING"),
    ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
    ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
    ("MLFLOW_HTTP_POOL_MAXSIZE", "16"),
):
    os.environ.setdefault(_name, _value)

_VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")

WRITTEN_TAG = "longact.written"
"""When a run was last written to, in milliseconds by the clock of the server."""

Progress = Callable[[str, int, int], None]
"""Called as `(what, done, total)`."""

PlanStatus = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingError(LongActError):
    """MLflow could not be read or written. Cells are not affected: a later sync repairs it."""

    exit_code = 4


def default_tracking_uri(runs_dir: Path) -> str:
    """Return `MLFLOW_TRACKING_URI` where it is set, else the database of this store."""
    return os.environ.get(_VARIABLE) or f"{_SQLITE}{runs_dir.resolve()}/mlflow.db"


def check_tracking_uri(uri: str, *, named: str = "--tracking-uri") -> str:
    """Return `uri` where MLflow can keep runs there; `named` is the setting it comes from.

    Raises:
        ConfigError: It is a path, or of a kind that MLflow does not take.
    """
    scheme = uri.partition("://")[0].partition("+")[0]
    if "://" not in uri or scheme not in _SCHEMES:
        raise ConfigError(
            f"{named} is '{redact(uri)}'; it must be sqlite:///FILE, the address of a "
            f"server such as http://localhost:5000, or a database ({', '.join(_SCHEMES[3:])})"
        )
    return uri


def tracking_uri(given: str | None, runs_dir: Path, *, configured: str | None = None) -> str:
    """Return where runs are tracked.

    Args:
        given: The option; it goes first, then the variable `MLFLOW_TRACKING_URI`.
        runs_dir: The store, with the database where nothing is said.
        configured: The key `tracking.uri`; it goes before the database of the store.

    Raises:
        ConfigError: MLflow cannot keep runs there.
    """
    if configured and not given and not os.environ.get(_VARIABLE):
        return check_tracking_uri(configured, named="tracking.uri")
    named = "--tracking-uri" if given else _VARIABLE
    return check_tracking_uri(given or default_tracking_uri(runs_dir), named=named)


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite URI; None for a server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def is_server(uri: str) -> bool:
    """Return whether this is the address of an MLflow server, not of a database."""
    return uri.startswith(("http://", "https://"))


def artifact_folder(runs_dir: Path, study: str) -> Path:
    """Return where a study's artifacts lie; a name unfit for a folder gets a readable stand-in."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", study)[:60]
    name = study if slug == study else f"{slug}-{sha256_json(study)[:8]}"
    return runs_dir.resolve() / "artifacts" / name
