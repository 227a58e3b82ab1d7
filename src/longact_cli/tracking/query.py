"""The reader: a study's cells, scores, samples and curves, from MLflow alone.

A sqlite store is read without MLflow, which is imported only where it has to answer.
"""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longact_cli.files import read_json, read_lines
from longact_cli.results import EvalResult, MetricPoint, SampleResult, Stage
from longact_cli.tracking import TrackingError, artifact_folder, database_file
from longact_cli.tracking.database import RunRecord, read_points, read_runs, study_names

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# What a cell measures about itself: name for readers, tag in MLflow.
MEASURE_TAGS = {
    "tokens": "longact.tokens",
    "training_seconds": "longact.seconds",
    "peak_memory_bytes": "longact.peak_memory_bytes",
}
_PLAN_FILE = "plan.json"
_DEFAULT = "Default"
_PAGE = 500


@dataclass(frozen=True)
class TrackedCell:
    """A cell as MLflow knows it; one that was planned but never started has no run.

    Attributes:
        sparsity: Fraction of query/key rows that were updated; None for the untrained model.
        seed: None for the untrained model, as is `algorithm`.
        status: MLflow's word: FINISHED, FAILED, KILLED, RUNNING, SCHEDULED.
        state: Ours: done, failed, interrupted, blocked, running, pending.
        params: The configuration, dotted keys to text.
        results: Scores of a finished eval cell.
        command: The command whose plan asked for this cell; the last one where several did.
        seconds: From the start of the cell's process to its end.
        metrics: The last value of each training metric, and `tokens`, `training_seconds` and
            `peak_memory_bytes` where the cell recorded them.
    """

    digest: str
    label: str
    stage: Stage
    arm: str
    model: str
    model_revision: str
    sparsity: float | None
    seed: int | None
    algorithm: str | None
    benchmark: str | None
    parent: str | None
    asked_by: tuple[str, ...]
    run_id: str | None
    git_commit: str | None
    version: str | None
    status: str
    state: str
    error: str | None
    params: Mapping[str, str]
    results: tuple[EvalResult, ...]
    command: str | None = None
    seconds: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def list_studies(uri: str) -> tuple[str, ...]:
    """Return the names of all studies, sorted; none where the database does not exist yet.

    Raises:
        TrackingError: MLflow failed.
    """
    if _is_absent(uri):
        return ()
    return tuple(sorted(name for name in _study_names(uri) if name != _DEFAULT))


def _study_names(uri: str) -> tuple[str, ...]:
    database = database_file(uri)
    if database is not None:
        try:
            return study_names(database)
        except sqlite3.Error:
            pass  # MLflow knows what to do with it, or says what is wrong
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


def read_study(uri: str, study: str) -> tuple[TrackedCell, ...]:
    """Return every cell that a plan of this study asked for or that has a run, by label.

    Empty where the study does not exist.

    Raises:
        TrackingError: MLflow failed.
    """
    if _is_absent(uri):
        return ()
    runs = _runs(uri, study)
    cells: dict[str, TrackedCell] = {}
    commands: dict[str, str | None] = {}
    for run in _by_start(runs, "plan"):
        for planned in _planned(uri, study, run):
            cell = _cell(planned["tags"], planned["params"])
            cells[cell.digest] = cell
            commands[cell.digest] = run.tags.get("longact.command")
    for run in _by_start(runs, "cell"):
        cell = _cell(run.tags, run.params)
        cells[cell.digest] = replace(
            cell,
            run_id=run.run_id,
            status=run.status,
            results=_results(uri, study, run),
            seconds=_seconds(run),
            metrics=_last_values(run),
        )
    known = (replace(cell, command=commands.get(cell.digest)) for cell in cells.values())
    return tuple(sorted(known, key=lambda cell: (cell.label, cell.digest)))


def read_samples(uri: str, study: str, run_id: str) -> tuple[SampleResult, ...]:
    """Return the answered questions of one eval run.

    Raises:
        TrackingError: MLflow failed, or the run has no such file.
    """
    with _artifact(uri, study, run_id, "samples.jsonl") as path:
        return tuple(
            SampleResult(**{**row, "references": tuple(row["references"])})
            for row in read_lines(path)
        )


def read_curve(uri: str, run_id: str, name: str) -> tuple[MetricPoint, ...]:
    """Return one metric of one run by step, with the latest value of a step that was repeated.

    Raises:
        TrackingError: MLflow failed.
    """
    latest = {step: value for _, step, value in sorted(_points(uri, run_id, name))}
    return tuple(MetricPoint(step, name, latest[step]) for step in sorted(latest))


def _points(uri: str, run_id: str, name: str) -> tuple[tuple[int, int, float], ...]:
    """Return timestamp, step and value of every point of a metric."""
    database = database_file(uri)
    if database is not None:
        try:
            return read_points(database, run_id, name)
        except sqlite3.Error:
            pass
    from longact_cli.tracking.client import connect, translated

    with translated(uri):
        history = connect(uri).get_metric_history(run_id, name)
    return tuple((int(point.timestamp), int(point.step), float(point.value)) for point in history)


def _runs(uri: str, study: str) -> tuple[RunRecord, ...]:
    """Return every run of a study; none where it does not exist."""
    database = database_file(uri)
    if database is not None:
        try:
            return read_runs(database, study)
        except sqlite3.Error:
            pass
    from longact_cli.tracking.client import connect, translated

    with translated(uri):
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            return ()
        return tuple(_search(client, experiment.experiment_id))


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


def _cell(tags: Mapping[str, str], params: Mapping[str, str]) -> TrackedCell:
    def tag(name: str) -> str | None:
        return tags.get(f"longact.{name}")

    sparsity, seed = tag("sparsity"), tag("seed")
    return TrackedCell(
        digest=tags["longact.cell"],
        label=tags["longact.label"],
        stage="train" if tag("stage") == "train" else "eval",
        arm=tags["longact.arm"],
        model=tags["longact.model"],
        model_revision=tags["longact.model_revision"],
        sparsity=None if sparsity is None else float(sparsity),
        seed=None if seed is None else int(seed),
        algorithm=tag("algorithm"),
        benchmark=tag("benchmark"),
        parent=tag("parent_cell"),
        asked_by=tuple((tag("asked_by") or "").split(",")),
        run_id=None,
        git_commit=tag("git_commit"),
        version=tag("version"),
        status="SCHEDULED",
        state=tag("state") or "pending",
        error=tag("error") or None,
        params=params,
        results=(),
    )


def _by_start(runs: Iterable[RunRecord], kind: str) -> list[RunRecord]:
    chosen = (run for run in runs if run.tags.get("longact.kind") == kind)
    return sorted(chosen, key=lambda run: (run.started or 0, run.run_id))


def _seconds(run: RunRecord) -> float | None:
    if run.started is None or run.ended is None:
        return None
    return float(run.ended - run.started) / 1000


def _last_values(run: RunRecord) -> dict[str, float]:
    recorded = {name: float(run.tags[tag]) for name, tag in MEASURE_TAGS.items() if tag in run.tags}
    return dict(run.metrics) | recorded


def _planned(uri: str, study: str, run: RunRecord) -> list[dict[str, dict[str, str]]]:
    with _artifact(uri, study, run.run_id, _PLAN_FILE) as path:
        plan: dict[str, Any] = read_json(path) or {"cells": []}
        return list(plan["cells"])


def _results(uri: str, study: str, run: RunRecord) -> tuple[EvalResult, ...]:
    if run.status != "FINISHED" or run.tags["longact.stage"] != "eval":
        return ()
    with _artifact(uri, study, run.run_id, "results.json") as path:
        return tuple(EvalResult(**row) for row in read_json(path) or [])


@contextmanager
def _artifact(uri: str, study: str, run_id: str, name: str) -> Iterator[Path]:
    """Give one file of a run: beside the database where it lies there, else as a download.

    MLflow stores absolute paths; looking beside the database first keeps a moved store readable.
    """
    database = database_file(uri)
    if database is not None:
        beside = artifact_folder(database.parent, study) / run_id / "artifacts" / name
        if beside.is_file():
            yield beside
            return
    from longact_cli.tracking.client import connect, translated

    with tempfile.TemporaryDirectory(prefix="longact-") as folder, translated(uri):
        found = Path(connect(uri).download_artifacts(run_id, name, folder))
        if not found.is_file():
            raise TrackingError(f"run {run_id} at {uri} has no {name}; run the sweep again")
        yield found


def _holds_cells(experiment: "Experiment") -> bool:
    """Return whether this is a study: analyses have an experiment of their own."""
    return bool(experiment.tags.get("longact.kind") != "analysis")


def _is_absent(uri: str) -> bool:
    database = database_file(uri)
    return database is not None and not database.is_file()
