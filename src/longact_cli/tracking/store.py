"""The one writer: copies plans and cells from the disk to MLflow, as often as one likes."""

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from longact_cli.cells import CellDir, Status, read_status
from longact_cli.plan import Cell, Plan
from longact_cli.tracking import TrackingError, artifact_folder, database_file
from longact_cli.tracking.client import connect, translated
from longact_cli.tracking.sync import (
    ENDED,
    RUN_STATUS,
    PointKey,
    Stored,
    cell_params,
    identity_tags,
    new_points,
    replicated_mark,
    state_tags,
)

PLAN_FILE = "plan.json"
_REPLICATED = "longact.replicated"
_PARENT = "mlflow.parentRunId"
_ASKED_BY = "longact.asked_by"
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100

T = TypeVar("T")


class AnalysisRecord(NamedTuple):
    """An analysis as MLflow keeps it.

    Attributes:
        digest: Of its settings and models: one run each.
        name: Of the run.
        command: The command line.
        params: Settings.
        metrics: Numbers.
    """

    digest: str
    name: str
    command: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class TrackingStore:
    """One study in MLflow: a run per plan, and below it one run per cell.

    Every method may be repeated after a crash at any point: runs are found by the digest of their
    cell or plan, and only what MLflow lacks is sent.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: str, lock: Path) -> None:
        """Use the existing experiment with this id; `lock` is a file all writers agree on."""
        self._client = client
        self._uri = uri
        self._experiment = experiment
        self._lock = lock
        self._stored: dict[str, dict[PointKey, Stored]] = {}

    def start_plan(self, plan: Plan, command: str) -> str:
        """Return the run of this plan, marked as running, with the list of its cells.

        Raises:
            TrackingError: MLflow failed.
        """
        tags = {"longact.kind": "plan", "longact.plan": plan.digest, "longact.command": command}
        with translated(self._uri):
            run = self._find_or_create("longact.plan", f"plan {plan.digest[:12]}", tags)
            run_id = str(run.info.run_id)
            self._send_tags(run, tags)
            cells = [_planned(cell) for cell in plan.cells]
            self._client.log_dict(run_id, {"study": plan.study, "cells": cells}, PLAN_FILE)
            self._client.update_run(run_id, status="RUNNING")
        return run_id

    def finish_plan(self, run_id: str, ok: bool) -> None:
        """Close a plan's run; `ok` says whether every cell is done.

        Raises:
            TrackingError: MLflow failed.
        """
        with translated(self._uri):
            self._client.set_terminated(run_id, "FINISHED" if ok else "FAILED")

    def sync_cell(self, cell: Cell, directory: CellDir, *, parent_run: str) -> None:
        """Bring the cell's run up to what its directory says now.

        A cell that has not started gets no run. A run is FINISHED only after all its files are in.

        Raises:
            TrackingError: MLflow failed; repeat the call later.
        """
        status = read_status(directory)
        with translated(self._uri):
            run = self._find("longact.cell", cell.digest)
            if run is None and status.state == "pending":
                return
            tags = identity_tags(cell) | state_tags(status, directory)
            if run is None:
                run = self._find_or_create("longact.cell", cell.label, tags, _started(status))
            tags |= {_PARENT: parent_run, _ASKED_BY: _union(run.data.tags.get(_ASKED_BY), cell)}
            self._send_tags(run, tags)
            if run.data.tags.get(_REPLICATED) != replicated_mark(status):
                self._replicate(run, cell, directory, status)

    def log_analysis(self, record: AnalysisRecord, folder: Path) -> str:
        """Return the run of an analysis, with its settings, numbers and files.

        The same analysis again has the same run.

        Raises:
            TrackingError: MLflow failed.
        """
        tags = {
            "longact.kind": "analysis",
            "longact.analysis": record.digest,
            "longact.command": record.command,
        }
        with translated(self._uri):
            self._client.set_experiment_tag(self._experiment, "longact.kind", "analysis")
            run = self._find_or_create("longact.analysis", record.name, tags)
            run_id = str(run.info.run_id)
            self._send_tags(run, tags)
            self._send_params(run, record.params)
            now = int(time.time() * 1000)
            points = [Metric(key, value, now, 0) for key, value in record.metrics.items()]
            for part in _parts(points, _METRICS_PER_CALL):
                self._client.log_batch(run_id, metrics=part)
            self._client.log_artifacts(run_id, str(folder))
            self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def _replicate(self, run: Run, cell: Cell, directory: CellDir, status: Status) -> None:
        run_id = str(run.info.run_id)
        self._send_params(run, cell_params(cell))
        self._send_points(run, directory)
        if status.state not in ENDED:
            self._client.update_run(run_id, status=RUN_STATUS[status.state])
            return
        self._send_files(run_id, cell, directory)
        finished = None if status.finished is None else int(status.finished * 1000)
        self._client.set_terminated(run_id, RUN_STATUS[status.state], finished)
        self._client.set_tag(run_id, _REPLICATED, replicated_mark(status))

    def _find(self, key: str, digest: str) -> Run | None:
        query = f"tags.`{key}` = '{digest}'"
        found = self._client.search_runs([self._experiment], query, max_results=1)
        return found[0] if found else None

    def _find_or_create(
        self, key: str, name: str, tags: Mapping[str, str], started: int | None = None
    ) -> Run:
        with _locked(self._lock):
            found = self._find(key, tags[key])
            return found or self._client.create_run(
                self._experiment, start_time=started, tags=dict(tags), run_name=name
            )

    def _send_tags(self, run: Run, tags: Mapping[str, str]) -> None:
        known = run.data.tags
        fresh = [RunTag(key, value) for key, value in tags.items() if known.get(key) != value]
        for part in _parts(fresh, _PARAMS_PER_CALL):
            self._client.log_batch(run.info.run_id, tags=part)

    def _send_params(self, run: Run, params: Mapping[str, str]) -> None:
        fresh = [Param(key, value) for key, value in params.items() if key not in run.data.params]
        for part in _parts(fresh, _PARAMS_PER_CALL):
            self._client.log_batch(run.info.run_id, params=part)

    def _send_points(self, run: Run, directory: CellDir) -> None:
        run_id = str(run.info.run_id)
        if run_id not in self._stored:
            self._stored[run_id] = self._load_points(run)
        stored = self._stored[run_id]
        for part in _parts(new_points(directory, stored), _METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=part)
            stored |= {(p.key, p.step): Stored(p.timestamp, p.value) for p in part}

    def _load_points(self, run: Run) -> dict[PointKey, Stored]:
        stored: dict[PointKey, Stored] = {}
        for name in run.data.metrics:
            history: Sequence[Metric] = self._client.get_metric_history(run.info.run_id, name)
            for point in sorted(history, key=lambda point: int(point.timestamp)):
                stored[name, point.step] = Stored(point.timestamp, point.value)
        return stored

    def _send_files(self, run_id: str, cell: Cell, directory: CellDir) -> None:
        self._client.log_dict(run_id, cell.config.model_dump(mode="json"), "config.json")
        beside = [*sorted(directory.path.glob("samples.*.json")), directory.path / "samples.html"]
        for path in (directory.results, directory.samples, directory.provenance, *beside):
            if path.exists():
                self._client.log_artifact(run_id, str(path))
        if directory.completions.is_dir():
            self._client.log_artifacts(run_id, str(directory.completions), "completions")


def open_store(uri: str, *, runs_dir: Path, study: str) -> TrackingStore:
    """Open the study called `study`, creating database and experiment where they are missing.

    MLflow breaks when two processes create its database at once, so this happens under a lock.

    Raises:
        TrackingError: MLflow failed, or the store was moved and would write to its old place.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    lock = runs_dir / ".mlflow.lock"
    local = database_file(uri)
    location = artifact_folder(runs_dir, study).as_uri() if local else None
    with translated(uri), _locked(lock):
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return TrackingStore(client, uri, client.create_experiment(study, location), lock)
    moved = experiment.artifact_location != location
    if local and moved and local.parent.resolve() == runs_dir.resolve():
        raise TrackingError(
            f"study '{study}' keeps its files in {experiment.artifact_location}, but the store is "
            f"now at {runs_dir.resolve()}; move it back, or give the study a new name"
        )
    return TrackingStore(client, uri, experiment.experiment_id, lock)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _started(status: Status) -> int | None:
    return None if status.started is None else int(status.started * 1000)


def _planned(cell: Cell) -> dict[str, dict[str, str]]:
    tags = identity_tags(cell) | {_ASKED_BY: ",".join(cell.asked_by)}
    return {"tags": tags, "params": cell_params(cell)}


def _union(known: str | None, cell: Cell) -> str:
    return ",".join(sorted({*(known.split(",") if known else ()), *cell.asked_by}))


def _parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
