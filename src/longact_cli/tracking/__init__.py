"""The record of runs in MLflow: one writer (`store`), one reader (`query`).

This file imports no MLflow, so that settings and errors cost nothing.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from longact_cli.errors import ConfigError, LongActError, PrerequisiteError
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
_DATABASES = ("postgresql", "mysql", "mssql")
# Packages that are called otherwise than the module they bring.
_PACKAGES = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
_SCHEMES = ("sqlite", "http", "https", *_DATABASES)

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
        ConfigError: It is a path, names no file or host, or is of a kind MLflow does not take.
        PrerequisiteError: The driver of its database is not installed.
    """
    scheme = uri.partition("://")[0].partition("+")[0]
    if "://" not in uri or scheme not in _SCHEMES:
        raise ConfigError(
            f"{named} is '{redact(uri)}'; it must be sqlite:///FILE, the address of a "
            f"server such as http://localhost:5000, or a database ({', '.join(_SCHEMES[3:])})"
        )
    if scheme == "sqlite":
        _check_file(uri, named)
    else:
        _check_host(uri, named)
    if scheme in _DATABASES:
        _check_driver(uri, named)
    return uri


def _check_file(uri: str, named: str) -> None:
    if not uri.startswith(_SQLITE) or uri.removeprefix(_SQLITE) in ("", ":memory:"):
        raise ConfigError(
            f"{named} is '{redact(uri)}'; it names no file, and what is recorded would be lost: "
            "give sqlite:///FILE, or sqlite:////FILE for an absolute path"
        )


def _check_host(uri: str, named: str) -> None:
    try:
        parts = urlsplit(uri)
        there = bool(parts.hostname) and parts.port != 0
    except ValueError:
        there = False
    if not there:
        raise ConfigError(
            f"{named} is '{redact(uri)}'; it names no host or no port from 1 to 65535: "
            "give an address such as http://localhost:5000"
        )


def _check_driver(uri: str, named: str) -> None:
    """Refuse a database that Python has no driver for here: nothing could be recorded."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(str(error.name), error.name)
        raise PrerequisiteError(
            f"{named} is '{redact(uri)}'; its driver {error.name} is not installed: "
            f"pip install {package}, or name another one, e.g. mysql+pymysql://HOST/NAME"
        ) from None
    except SQLAlchemyError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{named} is '{redact(uri)}'; it is no database: {reason}") from None


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
