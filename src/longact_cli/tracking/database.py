"""Runs read straight from MLflow's sqlite file: the same answers as its client, 100 times sooner.

MLflow builds an object for every tag, parameter and metric, and takes seconds to import. The tables
read here (experiments, runs, tags, params, latest_metrics, metrics) have kept these columns since
MLflow 2; where they are not found the caller asks MLflow itself. Nothing is ever written.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

_SECONDS = 20.0
_ACTIVE = "lifecycle_stage = 'active'"


class RunRecord(NamedTuple):
    """One run; times are milliseconds since the epoch, `metrics` holds last values."""

    run_id: str
    status: str
    started: int | None
    ended: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class RunHead(NamedTuple):
    """Which run this is: of which study, how it stands, a plan or a cell, and which stage."""

    study: str
    run_id: str
    status: str
    kind: str | None
    stage: str | None


def study_names(database: Path) -> tuple[str, ...]:
    """Return the names of all experiments that are not deleted and hold cells.

    Raises:
        sqlite3.Error: This is not a database as MLflow writes it, or it is locked for long.
    """
    with _opened(database) as sql:
        rows = sql.execute(
            f"SELECT name FROM experiments WHERE {_ACTIVE} AND experiment_id NOT IN "
            "(SELECT experiment_id FROM experiment_tags "
            "WHERE key = 'longact.kind' AND value = 'analysis')"
        )
        return tuple(str(name) for (name,) in rows)


def read_runs(database: Path, study: str) -> tuple[RunRecord, ...]:
    """Return every run of a study that is not deleted; none where there is no such study.

    Raises:
        sqlite3.Error: This is not a database as MLflow writes it, or it is locked for long.
    """
    with _opened(database) as sql:
        found = sql.execute(
            f"SELECT experiment_id FROM experiments WHERE name = ? AND {_ACTIVE}", (study,)
        ).fetchone()
        if found is None:
            return ()
        tags = _texts(sql, "tags", found)
        params = _texts(sql, "params", found)
        metrics = _numbers(sql, found)
        runs = sql.execute(
            "SELECT run_uuid, status, start_time, end_time FROM runs "
            f"WHERE experiment_id = ? AND {_ACTIVE}",
            found,
        ).fetchall()
    return tuple(
        RunRecord(
            run_id,
            status,
            started,
            ended,
            tags.get(run_id, {}),
            params.get(run_id, {}),
            metrics.get(run_id, {}),
        )
        for run_id, status, started, ended in runs
    )


def read_points(database: Path, run_id: str, name: str) -> tuple[tuple[int, int, float], ...]:
    """Return timestamp, step and value of every point of one metric.

    Raises:
        sqlite3.Error: This is not a database as MLflow writes it, or it is locked for long.
    """
    with _opened(database) as sql:
        rows = sql.execute(
            "SELECT timestamp, step, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics "
            "WHERE run_uuid = ? AND +key = ?",  # by the index of runs: all runs have the same keys
            (run_id, name),
        )
        return tuple((int(time), int(step), _number(value)) for time, step, value in rows)


def read_run_heads(database: Path, studies: Sequence[str]) -> tuple[RunHead, ...]:
    """Return every run of these studies that is not deleted, without what it holds.

    Raises:
        sqlite3.Error: This is not a database as MLflow writes it, or it is locked for long.
    """
    with _opened(database) as sql:
        rows = sql.execute(
            "SELECT e.name, r.run_uuid, r.status, k.value, s.value FROM runs r "
            "JOIN experiments e ON e.experiment_id = r.experiment_id "
            "LEFT JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = 'longact.kind' "
            "LEFT JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = 'longact.stage' "
            f"WHERE r.{_ACTIVE} AND e.name IN ({','.join('?' * len(studies))})",
            tuple(studies),
        )
        return tuple(RunHead(*row) for row in rows)


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    address = f"file:{quote(str(database.resolve()))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_SECONDS)) as sql:
        yield sql


def _texts(
    sql: sqlite3.Connection, table: str, experiment: tuple[int]
) -> dict[str, dict[str, str]]:
    """Return keys and values of each run; one row per run is twice as fast as one per value."""
    rows = sql.execute(
        f"SELECT run_uuid, (SELECT json_group_object(key, value) FROM {table} t "
        "WHERE t.run_uuid = r.run_uuid) FROM runs r WHERE experiment_id = ?",
        experiment,
    )
    return {run_id: json.loads(found) for run_id, found in rows}


def _numbers(sql: sqlite3.Connection, experiment: tuple[int]) -> dict[str, dict[str, float]]:
    """Return the last values of each run; row by row, since sqlite's JSON rounds numbers."""
    rows = sql.execute(
        "SELECT t.run_uuid, t.key, CASE WHEN t.is_nan THEN NULL ELSE t.value END "
        "FROM latest_metrics t JOIN runs r ON r.run_uuid = t.run_uuid WHERE r.experiment_id = ?",
        experiment,
    )
    found: dict[str, dict[str, float]] = {}
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = _number(value)
    return found


def _number(value: object) -> float:
    return float("nan") if value is None else float(str(value))
