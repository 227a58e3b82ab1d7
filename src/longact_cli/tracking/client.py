"""The connection to MLflow: what fails in it becomes one `TrackingError`."""

import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from longact_cli.redaction import redact
from longact_cli.tracking import TrackingError

__all__ = ["connect", "create_database", "send", "translated"]

Values = ParamSpec("Values")

# SQLAlchemy's remarks around the database's own message.
_NOISE = re.compile(
    r"\(raised as a result of [^)]*\) | \[(?:SQL|parameters): .*|\(Background on .*"
)
# How sqlite, PostgreSQL and MySQL say that a row is there already.
_THERE_ALREADY = re.compile(r"UNIQUE constraint|duplicate (key|entry)", re.IGNORECASE)
_TRIES = 5


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn every failure of MLflow, its database or its files into a `TrackingError`.

    Raises:
        TrackingError: One line: the URI, what MLflow said, what to do.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        said = redact(_NOISE.sub("", " ".join(str(error).split())))[:300]
        raise TrackingError(
            f"tracking at {redact(uri)} failed: {said}; results on disk are kept: "
            "`longact sync` copies them once it works again"
        ) from error


def send(call: Callable[Values, None], *args: Values.args, **kwargs: Values.kwargs) -> None:
    """Make a call of MLflow's client that stores values; another process may store the same ones.

    MLflow looks which values are new and then inserts them. Where the other process comes in
    between, the whole call fails; the next look finds what that one has stored.

    Raises:
        MlflowException: The call failed for another reason, or time after time.
    """
    for left in reversed(range(_TRIES)):
        try:
            return call(*args, **kwargs)
        except MlflowException as error:
            if not left or not _THERE_ALREADY.search(str(error)):
                raise


def connect(uri: str) -> MlflowClient:
    """Return a client for `uri`; a new database is created on the first call to it."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It prints tracebacks of what is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri)


def create_database(path: Path) -> None:
    """Create MLflow's database in one step: a process that dies in the middle leaves none.

    MLflow cannot go on with a database whose first migration was cut off.
    """
    temporary = path.with_name(f".{path.name}.new")
    for left in (temporary, temporary.with_name(f"{temporary.name}-journal")):
        left.unlink(missing_ok=True)
    connect(f"sqlite:///{temporary}").search_experiments(max_results=1)
    temporary.replace(path)
