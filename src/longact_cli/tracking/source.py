"""Runs, points and names of studies from wherever they are: a file, a server, another database.

A sqlite store is read without MLflow, which is imported only where it has to answer.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from longact_cli.tracking import Progress, database_file, is_server
from longact_cli.tracking.artifacts import each
from longact_cli.tracking.database import RunRecord, read_points, read_runs, study_names
from longact_cli.tracking.run_files import RunFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

Points = tuple[tuple[int, int, float], ...]
"""Timestamp, step and value of every point of a metric."""

_DEFAULT = "Default"
_PAGE = 500


def list_studies(uri: str) -> tuple[str, ...]:
    """Return the names of all studies, sorted; none where the database does not exist yet.

    Raises:
        TrackingError: MLflow failed.
    """
    if is_absent(uri):
        return ()
    return tuple(sorted(name for name in _study_names(uri) if name != _DEFAULT))


def is_absent(uri: str) -> bool:
    """Return whether this is a database that does not exist yet."""
    database = database_file(uri)
    return database is not None and not database.is_file()


def study_runs(uri: str, study: str, files: RunFiles) -> tuple[RunRecord, ...]:
    """Return every run of a study; none where it does not exist.

    Args:
        uri: MLflow tracking URI.
        study: The study's name.
        files: Whose folder may hold what a server said the last time.

    Raises:
        TrackingError: MLflow failed.
    """
    database = database_file(uri)
    if database is not None:
        try:
            return read_runs(database, study)
        except sqlite3.Error:
            pass  # MLflow knows what to do with it, or says what is wrong
    if is_server(uri):
        from longact_cli.tracking.listing import listed_runs

        return listed_runs(uri, study, files.folder, files.progress)
    from longact_cli.tracking.client import connect, translated

    with translated(uri):
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            return ()
        return tuple(_search(client, experiment.experiment_id))


def run_points(
    uri: str, run_ids: Sequence[str], name: str, progress: Progress | None = None
) -> list[Points]:
    """Return the points of one metric of each run.

    Raises:
        TrackingError: MLflow failed.
    """
    database = database_file(uri)
    if database is not None:
        try:
            return [read_points(database, run_id, name) for run_id in run_ids]
        except sqlite3.Error:
            pass
    from longact_cli.tracking.client import connect, translated

    with translated(uri):
        client = connect(uri)

        def read(run_id: str) -> Points:
            history = client.get_metric_history(run_id, name)
            return tuple((int(p.timestamp), int(p.step), float(p.value)) for p in history)

        return each(uri, read, run_ids, progress=progress, what="curves")


def _study_names(uri: str) -> tuple[str, ...]:
    database = database_file(uri)
    if database is not None:
        try:
            return study_names(database)
        except sqlite3.Error:
            pass
    from longact_cli.tracking.client import connect, translated

    with translated(uri):
        client = connect(uri)
        names: list[str] = []
        token = None
        while True:
            page = client.search_experiments(max_results=_PAGE, page_token=token)
            names += [found.name for found in page if _holds_cells(found)]
            token = page.token
            if not token:
                return tuple(names)


def _search(client: "MlflowClient", experiment: str) -> Iterator[RunRecord]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=_PAGE, page_token=token)
        for run in page:
            info, data = run.info, run.data
            yield RunRecord(
                info.run_id,
                info.status,
                info.start_time,
                info.end_time,
                data.tags,
                data.params,
                data.metrics,
            )
        token = page.token
        if not token:
            return


def _holds_cells(experiment: "Experiment") -> bool:
    """Return whether this is a study: analyses have an experiment of their own."""
    return bool(experiment.tags.get("longact.kind") != "analysis")
