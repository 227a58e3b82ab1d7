"""The connection to MLflow: what fails in it becomes one `TrackingError`."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from longact_cli.redaction import redact
from longact_cli.tracking import TrackingError

__all__ = ["connect", "translated"]


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn every failure of MLflow, its database or its files into a `TrackingError`.

    Raises:
        TrackingError: One line: the URI, what MLflow said, what to do.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        said = redact(" ".join(str(error).split()))[:300]
        raise TrackingError(
            f"tracking at {redact(uri)} failed: {said}; results on disk are kept: "
            "`longact sync` copies them once it works again"
        ) from error


def connect(uri: str) -> MlflowClient:
    """Return a client for `uri`; a new database is created on the first call to it."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)
