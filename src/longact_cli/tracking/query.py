"""The reader: a study's cells, scores, samples and curves, from MLflow alone."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from longact_cli.files import read_json, read_lines
from longact_cli.results import EvalResult, MetricPoint, SampleResult, Stage
from longact_cli.tracking import TrackingError, artifact_folder, database_file
from longact_cli.tracking.client import connect, translated
from longact_cli.tracking.store import PLAN_FILE

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


def list_studies(uri: str) -> tuple[str, ...]:
    """Return the names of all studies, sorted; none where the database does not exist yet.

    Raises:
        TrackingError: MLflow failed.
    """
    if _is_absent(uri):
        return ()
    with translated(uri):
        client = connect(uri)
        names, token = [], None
        while True:
            page = client.search_experiments(max_results=_PAGE, page_token=token)
            names += [
                found.name for found in page if found.name != "Default" and _holds_cells(found)
            ]
            token = page.token
            if not token:
                return tuple(sorted(names))


def read_study(uri: str, study: str) -> tuple[TrackedCell, ...]:
    """Return every cell that a plan of this study asked for or that has a run, by label.

    Empty where the study does not exist.

    Raises:
        TrackingError: MLflow failed.
    """
    if _is_absent(uri):
        return ()
    with translated(uri):
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return ()
        cells = {}
        for run in _runs(client, experiment.experiment_id, "plan"):
            for planned in _planned(uri, study, run):
                cell = _cell(planned["tags"], planned["params"])
                cells[cell.digest] = cell
        for run in _runs(client, experiment.experiment_id, "cell"):
            cell = _cell(run.data.tags, run.data.params)
            cells[cell.digest] = replace(
                cell,
                run_id=run.info.run_id,
                status=run.info.status,
                results=_results(uri, study, run),
            )
    return tuple(sorted(cells.values(), key=lambda cell: (cell.label, cell.digest)))


def read_samples(uri: str, study: str, run_id: str) -> tuple[SampleResult, ...]:
    """Return the answered questions of one eval run.

    Raises:
        TrackingError: MLflow failed, or the run has no such file.
    """
    with translated(uri), _artifact(uri, study, run_id, "samples.jsonl") as path:
        return tuple(
            SampleResult(**{**row, "references": tuple(row["references"])})
            for row in read_lines(path)
        )


def read_curve(uri: str, run_id: str, name: str) -> tuple[MetricPoint, ...]:
    """Return one metric of one run by step, with the latest value of a step that was repeated.

    Raises:
        TrackingError: MLflow failed.
    """
    with translated(uri):
        history = connect(uri).get_metric_history(run_id, name)
    latest = {point.step: point.value for point in sorted(history, key=lambda p: int(p.timestamp))}
    return tuple(MetricPoint(step, name, latest[step]) for step in sorted(latest))


def _runs(client: MlflowClient, experiment: str, kind: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`longact.kind` = '{kind}'", max_results=_PAGE, page_token=token
        )
        yield from page
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


def _planned(uri: str, study: str, run: Run) -> list[dict[str, dict[str, str]]]:
    with _artifact(uri, study, run.info.run_id, PLAN_FILE) as path:
        plan: dict[str, Any] = read_json(path) or {"cells": []}
        return list(plan["cells"])


def _results(uri: str, study: str, run: Run) -> tuple[EvalResult, ...]:
    if run.info.status != "FINISHED" or run.data.tags["longact.stage"] != "eval":
        return ()
    with _artifact(uri, study, run.info.run_id, "results.json") as path:
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
    with tempfile.TemporaryDirectory(prefix="longact-") as folder:
        found = Path(connect(uri).download_artifacts(run_id, name, folder))
        if not found.is_file():
            raise TrackingError(f"run {run_id} at {uri} has no {name}; run the sweep again")
        yield found


def _holds_cells(experiment: Experiment) -> bool:
    """Return whether this is a study: analyses have an experiment of their own."""
    return bool(experiment.tags.get("longact.kind") != "analysis")


def _is_absent(uri: str) -> bool:
    database = database_file(uri)
    return database is not None and not database.is_file()
