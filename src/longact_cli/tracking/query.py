"""The reader: a study's cells, scores, samples and curves, from MLflow alone.

A sqlite store is read without MLflow, which is imported only where it has to answer.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from longact_cli.files import read_json, read_lines
from longact_cli.results import EvalResult, MetricPoint, SampleResult, Stage
from longact_cli.tracking import database_file
from longact_cli.tracking.artifacts import PLAN, RESULTS, SAMPLES, Artifacts
from longact_cli.tracking.database import RunRecord, read_points, read_runs, study_names
from longact_cli.tracking.run_files import Answers, RunFiles, answers_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# What a cell measures about itself: name for readers, tag in MLflow.
MEASURE_TAGS = {
    "tokens": "longact.tokens",
    "training_seconds": "longact.seconds",
    "peak_memory_bytes": "longact.peak_memory_bytes",
}
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
        copied: Which end of the cell its files in MLflow are of; None where that is not recorded.
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
    copied: str | None = None


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


def read_study(uri: str, study: str, files: RunFiles | None = None) -> tuple[TrackedCell, ...]:
    """Return every cell that a plan of this study asked for or that has a run, by label.

    Empty where the study does not exist. All runs are asked for each time, also of a server: MLflow
    filters by when a run ended, not by when it was last written, so that a tag that was changed, a
    run that was deleted and a cell that was copied late would be missed.

    Args:
        uri: MLflow tracking URI.
        study: The study's name.
        files: Where the scores of runs may be known already.

    Raises:
        TrackingError: MLflow failed.
    """
    if _is_absent(uri):
        return ()
    artifacts, files = Artifacts.of(uri, study), files or RunFiles(None)
    runs = _runs(uri, study)
    ran = {run.tags.get("longact.cell") for run in runs}
    cells: dict[str, TrackedCell] = {}
    commands: dict[str, str | None] = {}
    for run in _by_start(runs, "plan"):
        for planned in _planned(artifacts, run):
            digest = planned["tags"]["longact.cell"]
            commands[digest] = run.tags.get("longact.command")
            if digest not in ran:
                cells[digest] = _cell(planned["tags"], planned["params"])
    for run in _by_start(runs, "cell"):
        cell = _cell(run.tags, run.params, run)
        cells[cell.digest] = cell

    def complete(cell: TrackedCell) -> TrackedCell:
        results = _results(artifacts, cell, files)
        return replace(cell, command=commands.get(cell.digest), results=results)

    known = artifacts.each(complete, cells.values())
    return tuple(sorted(known, key=lambda cell: (cell.label, cell.digest)))


def read_answers(
    uri: str, study: str, cells: Iterable[TrackedCell], files: RunFiles
) -> list[Answers]:
    """Return the answers of cells that have a run, without their texts.

    Raises:
        TrackingError: MLflow failed, or a run has no such file.
    """
    artifacts = Artifacts.of(uri, study)

    def read(cell: TrackedCell) -> Answers:
        run_id = str(cell.run_id)
        signature = artifacts.signature(run_id, SAMPLES, cell.copied)
        return files.answers(run_id, signature, lambda: answers_of(_samples(artifacts, run_id)))

    return artifacts.each(read, cells)


def read_samples(uri: str, study: str, run_id: str) -> tuple[SampleResult, ...]:
    """Return the answered questions of one eval run.

    Raises:
        TrackingError: MLflow failed, or the run has no such file.
    """
    return _samples(Artifacts.of(uri, study), run_id)


def _samples(artifacts: Artifacts, run_id: str) -> tuple[SampleResult, ...]:
    with artifacts.opened(run_id, SAMPLES) as path:
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


def _cell(
    tags: Mapping[str, str], params: Mapping[str, str], run: RunRecord | None = None
) -> TrackedCell:
    """Return the cell of a run without its results; without a run, as its plan has it."""

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
        run_id=run.run_id if run else None,
        git_commit=tag("git_commit"),
        version=tag("version"),
        status=run.status if run else "SCHEDULED",
        state=tag("state") or "pending",
        error=tag("error") or None,
        params=params,
        results=(),
        seconds=_seconds(run) if run else None,
        metrics=_last_values(run) if run else {},
        copied=tags.get("longact.replicated"),
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


def _planned(artifacts: Artifacts, run: RunRecord) -> list[dict[str, dict[str, str]]]:
    with artifacts.opened(run.run_id, PLAN) as path:
        plan: dict[str, Any] = read_json(path) or {"cells": []}
        return list(plan["cells"])


def _results(artifacts: Artifacts, cell: TrackedCell, files: RunFiles) -> tuple[EvalResult, ...]:
    if cell.status != "FINISHED" or cell.stage != "eval":
        return ()
    run_id = str(cell.run_id)

    def read() -> tuple[EvalResult, ...]:
        with artifacts.opened(run_id, RESULTS) as path:
            return tuple(EvalResult(**row) for row in read_json(path) or [])

    return files.results(run_id, artifacts.signature(run_id, RESULTS, cell.copied), read)


def _holds_cells(experiment: "Experiment") -> bool:
    """Return whether this is a study: analyses have an experiment of their own."""
    return bool(experiment.tags.get("longact.kind") != "analysis")


def _is_absent(uri: str) -> bool:
    database = database_file(uri)
    return database is not None and not database.is_file()
