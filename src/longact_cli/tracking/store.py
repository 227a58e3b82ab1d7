"""The one writer: copies plans and cells from the disk to MLflow, as often as one likes."""

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from longact_cli.cells import CellDir, Status, read_status
from longact_cli.plan import Cell, Plan
from longact_cli.redaction import redact
from longact_cli.tracking import WRITTEN_TAG, PlanStatus, artifact_folder, database_file
from longact_cli.tracking.client import connect, create_database, send, translated
from longact_cli.tracking.clock import clock_of
from longact_cli.tracking.records import AnalysisRecord, Unfinished
from longact_cli.tracking.relocate import relocate
from longact_cli.tracking.sync import (
    ENDED,
    PointKey,
    Stored,
    cell_params,
    dataset_input,
    identity_tags,
    new_points,
    replicated_mark,
    run_status,
    state_tags,
)

PLAN_FILE = "plan.json"
_REPLICATED = "longact.replicated"
_PARENT = "mlflow.parentRunId"
_ASKED_BY = "longact.asked_by"
# MLflow takes 1000 values in one call, of them 100 parameters and 100 tags.
_METRICS_PER_CALL = 900
_PARAMS_PER_CALL = 100
_TAGS_PER_CALL = 100
_TWINS = 10

_RUNS_PER_CALL = 1000

T = TypeVar("T")


class TrackingStore:
    """One study in MLflow: a run per plan, and below it one run per cell.

    Every method may be repeated after a crash at any point: runs are found by the digest of their
    cell or plan, and only what MLflow lacks is sent. One thread uses it at a time.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: str, lock: Path) -> None:
        """Use the existing experiment with this id; `lock` is a file all writers agree on."""
        self._now = clock_of(uri)
        self._client = client
        self._uri = uri
        self._experiment = experiment
        self._lock = lock
        self._stored: dict[str, dict[PointKey, Stored]] = {}
        self._known: dict[str, Run] = {}

    def start_plan(self, plan: Plan, command: str) -> str:
        """Return the run of this plan, marked as running, with the list of its cells.

        Raises:
            TrackingError: MLflow failed.
        """
        run_id = self.keep_plan(plan, command)
        with translated(self._uri):
            self._client.update_run(run_id, status="RUNNING")
        return run_id

    def keep_plan(self, plan: Plan, command: str, *, digest: str | None = None) -> str:
        """Return the run of this plan, made where there is none, with the list of its cells.

        Args:
            plan: The plan.
            command: The command line that made it.
            digest: Its digest, where some of its cells are lost.

        Raises:
            TrackingError: MLflow failed.
        """
        digest = digest or plan.digest
        tags = {
            "longact.kind": "plan",
            "longact.plan": digest,
            "longact.command": redact(command),
        }
        with translated(self._uri):
            run = self._find_or_create("longact.plan", f"plan {digest[:12]}", tags)
            run_id = str(run.info.run_id)
            self._send_tags(run, tags)
            cells = [_planned(cell) for cell in plan.cells]
            self._client.log_dict(run_id, {"study": plan.study, "cells": cells}, PLAN_FILE)
            send(self._client.log_batch, run_id, tags=[self._stamp()])
        return run_id

    def close(self, run_id: str, status: PlanStatus) -> None:
        """Close a run as FINISHED, FAILED or KILLED, unless it is closed that way.

        Raises:
            TrackingError: MLflow failed.
        """
        with translated(self._uri):
            if self._client.get_run(run_id).info.status != status:
                self._client.set_terminated(run_id, status)

    def unfinished(self) -> tuple[Unfinished, ...]:
        """Return the runs that MLflow takes for running.

        Raises:
            TrackingError: MLflow failed.
        """
        with translated(self._uri):
            found = self._client.search_runs(
                [self._experiment], "attributes.status = 'RUNNING'", max_results=_RUNS_PER_CALL
            )
        return tuple(
            Unfinished(
                run.info.run_id,
                run.data.tags.get("longact.kind", ""),
                run.data.tags.get("longact.plan") or run.data.tags.get("longact.cell", ""),
            )
            for run in found
        )

    def sync_cell(
        self, cell: Cell, directory: CellDir, *, parent_run: str, status: Status | None = None
    ) -> bool:
        """Bring the cell's run up to what its directory says now; return whether that took writing.

        A cell that has not started gets no run. A run is FINISHED only after all its files are in.

        Args:
            cell: The cell.
            directory: Its directory.
            parent_run: The run of the plan below which it is shown.
            status: Where it stands; default: what its directory says.

        Raises:
            TrackingError: MLflow failed; repeat the call later.
        """
        status = status or read_status(directory)
        with translated(self._uri):
            tags = identity_tags(cell) | state_tags(status, directory)
            tags |= {_PARENT: parent_run, _ASKED_BY: _union(None, cell)}
            run = self._known.get(cell.digest)
            if run is None and status.state == "pending":
                run = self._find("longact.cell", cell.digest)
                if run is None:
                    return False
            run = run or self._find_or_create("longact.cell", cell.label, tags, _started(status))
            self._known[cell.digest] = run
            tags |= {_ASKED_BY: _union(run.data.tags.get(_ASKED_BY), cell)}
            changed = self._send_tags(run, tags)
            complete = run.data.tags.get(_REPLICATED) == replicated_mark(status)
            if complete and run.info.status == run_status(status):
                return changed
            self._replicate(run, cell, directory, status)
            return True

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
            send(self._client.set_experiment_tag, self._experiment, "longact.kind", "analysis")
            run = self._find_or_create("longact.analysis", record.name, tags)
            run_id = str(run.info.run_id)
            self._send_tags(run, tags)
            known = run.data.params
            params = [Param(k, v) for k, v in record.params.items() if k not in known]
            now = int(time.time() * 1000)
            points = [Metric(key, value, now, 0) for key, value in record.metrics.items()]
            while params or points:
                some, part = params[:_PARAMS_PER_CALL], points[:_METRICS_PER_CALL]
                send(self._client.log_batch, run_id, params=some, metrics=part)
                params, points = params[_PARAMS_PER_CALL:], points[_METRICS_PER_CALL:]
            self._client.log_artifacts(run_id, str(folder))
            self._client.set_terminated(run_id, "FINISHED")
        return run_id

    def _replicate(self, run: Run, cell: Cell, directory: CellDir, status: Status) -> None:
        run_id, word = str(run.info.run_id), run_status(status)
        if status.state not in ENDED:
            self._send_values(run, cell, directory)
            if run.info.status != word:
                self._client.update_run(run_id, status=word)
                self._known.pop(cell.digest, None)
            return
        self._send_files(run_id, cell, directory)
        used = dataset_input(cell, directory)
        if used is not None:
            send(self._client.log_inputs, run_id, [used])
        mark = RunTag(_REPLICATED, replicated_mark(status))
        self._send_values(run, cell, directory, mark=mark)
        finished = None if status.finished is None else int(status.finished * 1000)
        self._client.set_terminated(run_id, word, finished)
        self._known.pop(cell.digest, None)
        self._stored.pop(run_id, None)

    def _find(self, key: str, digest: str) -> Run | None:
        """Return the run with this digest; a second one is removed.

        A server that dies between storing a run and saying so is asked again by MLflow's client,
        and then holds the run twice.
        """
        query = f"tags.`{key}` = '{digest}'"
        found = self._client.search_runs([self._experiment], query, max_results=_TWINS)
        found = sorted(found, key=lambda run: (_REPLICATED not in run.data.tags, run.info.run_id))
        for twin in found[1:]:
            self._client.delete_run(twin.info.run_id)
        return found[0] if found else None

    def _find_or_create(
        self, key: str, name: str, tags: Mapping[str, str], started: int | None = None
    ) -> Run:
        with _locked(self._lock):
            found = self._find(key, tags[key])
            if found is not None:
                return found
            made = self._client.create_run(
                self._experiment,
                start_time=started,
                tags={**tags, WRITTEN_TAG: str(self._now())},
                run_name=name,
            )
            if database_file(self._uri) is None:
                return self._find(key, tags[key]) or made
            return made

    def _send_tags(self, run: Run, tags: Mapping[str, str]) -> bool:
        known = run.data.tags
        fresh = [RunTag(key, value) for key, value in tags.items() if known.get(key) != value]
        if fresh or WRITTEN_TAG not in known:
            fresh.append(self._stamp())
        for part in _parts(fresh, _TAGS_PER_CALL):
            send(self._client.log_batch, run.info.run_id, tags=part)
            known |= {tag.key: tag.value for tag in part}
        return bool(fresh)

    def _send_values(
        self, run: Run, cell: Cell, directory: CellDir, *, mark: RunTag | None = None
    ) -> None:
        """Send the parameters and points that MLflow lacks, and the mark with the last of them."""
        run_id, known = str(run.info.run_id), run.data.params
        if run_id not in self._stored:
            self._stored[run_id] = self._load_points(run)
        stored = self._stored[run_id]
        params = [Param(key, value) for key, value in cell_params(cell).items() if key not in known]
        points = list(new_points(directory, stored))
        while params or points or mark:
            some, params = params[:_PARAMS_PER_CALL], params[_PARAMS_PER_CALL:]
            part, points = points[:_METRICS_PER_CALL], points[_METRICS_PER_CALL:]
            last = [mark] if mark and not params and not points else []
            tags = [self._stamp(), *last]
            send(self._client.log_batch, run_id, metrics=part, params=some, tags=tags)
            mark = None if last else mark
            known |= {param.key: param.value for param in some}
            stored |= {(p.key, p.step): Stored(p.timestamp, p.value) for p in part}

    def _stamp(self) -> RunTag:
        """Return the tag that goes with whatever is written; reports look for changes by it."""
        return RunTag(WRITTEN_TAG, str(self._now()))

    def _load_points(self, run: Run) -> dict[PointKey, Stored]:
        stored: dict[PointKey, Stored] = {}
        for name in run.data.metrics:
            history: Sequence[Metric] = self._client.get_metric_history(run.info.run_id, name)
            for point in sorted(history, key=lambda point: int(point.timestamp)):
                stored[name, point.step] = Stored(point.timestamp, point.value)
        return stored

    def _send_files(self, run_id: str, cell: Cell, directory: CellDir) -> None:
        self._client.log_text(run_id, redact(cell.config.model_dump_json(indent=2)), "config.json")
        beside = [*sorted(directory.path.glob("samples.*.json")), directory.path / "samples.html"]
        for path in (directory.results, directory.samples, directory.provenance, *beside):
            if path.exists():
                self._client.log_artifact(run_id, str(path))
        if directory.completions.is_dir():
            self._client.log_artifacts(run_id, str(directory.completions), "completions")


def open_store(uri: str, *, runs_dir: Path, study: str) -> TrackingStore:
    """Open the study called `study`, creating database and experiment where they are missing.

    MLflow breaks when two processes create its database at once, so this happens under a lock.
    A store that was moved gets the paths of its new place.

    Raises:
        TrackingError: MLflow failed.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    lock = runs_dir / ".mlflow.lock"
    database = database_file(uri)
    location = artifact_folder(runs_dir, study).as_uri() if database else None
    with translated(uri), _locked(lock):
        if database is not None and not database.exists():
            create_database(database)
        client = connect(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return TrackingStore(client, uri, client.create_experiment(study, location), lock)
        own = database is not None and database.parent.resolve() == runs_dir.resolve()
        if database and location and own and experiment.artifact_location != location:
            relocate(database, experiment.artifact_location, location)
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
