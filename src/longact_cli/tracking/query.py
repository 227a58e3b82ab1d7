"""The reader: a study's cells, scores, samples and curves, from MLflow alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from longact_cli.files import read_json, read_lines
from longact_cli.results import EvalResult, MetricPoint, SampleResult, Stage
from longact_cli.tracking import WRITTEN_TAG
from longact_cli.tracking.artifacts import PLAN, RESULTS, SAMPLES, Artifacts, each
from longact_cli.tracking.database import RunRecord
from longact_cli.tracking.run_files import Answers, RunFiles, answers_of
from longact_cli.tracking.source import is_absent, list_studies, run_points, study_runs

__all__ = [
    "MEASURE_TAGS",
    "TrackedCell",
    "list_studies",
    "read_answers",
    "read_curve",
    "read_curves",
    "read_samples",
    "read_study",
]

# What a cell measures about itself: name for readers, tag in MLflow.
MEASURE_TAGS = {
    "tokens": "longact.tokens",
    "training_seconds": "longact.seconds",
    "peak_memory_bytes": "longact.peak_memory_bytes",
}


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


def read_study(uri: str, study: str, files: RunFiles | None = None) -> tuple[TrackedCell, ...]:
    """Return every cell that a plan of this study asked for or that has a run, by label.

    Empty where the study does not exist.

    Args:
        uri: MLflow tracking URI.
        study: The study's name.
        files: Where runs and their scores may be known already.

    Raises:
        TrackingError: MLflow failed.
    """
    if is_absent(uri):
        return ()
    artifacts, files = Artifacts.of(uri, study), files or RunFiles(None)
    runs = study_runs(uri, study, files)
    ran = {run.tags.get("longact.cell", "") for run in runs}
    cells: dict[str, TrackedCell] = {}
    commands: dict[str, str | None] = {}
    for run in _by_start(runs, "plan"):
        asked, absent = _planned(artifacts, run, ran, files)
        commands |= dict.fromkeys(asked, run.tags.get("longact.command"))
        cells |= {cell.digest: cell for cell in absent}
    for run in _by_start(runs, "cell"):
        cell = _cell(run.tags, run.params, run)
        cells[cell.digest] = cell

    def complete(cell: TrackedCell) -> TrackedCell:
        results = _results(artifacts, cell, files)
        return replace(cell, command=commands.get(cell.digest), results=results)

    found = each(uri, complete, list(cells.values()), progress=files.progress, what="scores")
    return tuple(sorted(found, key=lambda cell: (cell.label, cell.digest)))


def read_answers(
    uri: str, study: str, cells: Sequence[TrackedCell], files: RunFiles
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

    return each(uri, read, cells, progress=files.progress, what="answers")


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
    return read_curves(uri, (run_id,), name)[run_id]


def read_curves(
    uri: str, run_ids: Sequence[str], name: str
) -> Mapping[str, tuple[MetricPoint, ...]]:
    """Return one metric of several runs, each as `read_curve` does.

    Raises:
        TrackingError: MLflow failed.
    """
    found = {}
    for run_id, points in zip(run_ids, run_points(uri, run_ids, name), strict=True):
        latest = {step: value for _, step, value in sorted(points)}
        found[run_id] = tuple(MetricPoint(step, name, latest[step]) for step in sorted(latest))
    return found


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


def _planned(
    artifacts: Artifacts, run: RunRecord, ran: Collection[str], files: RunFiles
) -> tuple[tuple[str, ...], list[TrackedCell]]:
    """Return the digests of all cells of a plan, and those of its cells that have no run.

    The file of a large sweep is large; it is read only where something of it is not known.
    """
    cells: list[Any] = []

    def read() -> tuple[str, ...]:
        if not cells:
            with artifacts.opened(run.run_id, PLAN) as path:
                plan: dict[str, Any] = read_json(path) or {"cells": []}
                cells.extend(plan["cells"])
        return tuple(cell["tags"]["longact.cell"] for cell in cells)

    signature = artifacts.signature(run.run_id, PLAN, run.tags.get(WRITTEN_TAG))
    digests = files.plan(run.run_id, signature, read)
    if any(digest not in ran for digest in digests):
        read()
    absent = [cell for cell in cells if cell["tags"]["longact.cell"] not in ran]
    return digests, [_cell(cell["tags"], cell["params"]) for cell in absent]


def _results(artifacts: Artifacts, cell: TrackedCell, files: RunFiles) -> tuple[EvalResult, ...]:
    if cell.status != "FINISHED" or cell.stage != "eval":
        return ()
    run_id = str(cell.run_id)

    def read() -> tuple[EvalResult, ...]:
        with artifacts.opened(run_id, RESULTS) as path:
            return tuple(EvalResult(**row) for row in read_json(path) or [])

    return files.results(run_id, artifacts.signature(run_id, RESULTS, cell.copied), read)
