"""What a cell's directory says, in MLflow's terms: tags, parameters, metrics. Sends nothing."""

import json
import math
import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from longact_cli.cells import CellDir, State, Status, read_metrics, read_results
from longact_cli.files import read_json, read_lines
from longact_cli.plan import BASE_ARM, Cell, flat_config
from longact_cli.redaction import redact
from longact_cli.results import EvalResult
from longact_cli.tracking.query import MEASURE_TAGS

_RUN_STATUS: dict[State, str] = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "blocked": "KILLED",
}
ENDED = ("done", "failed", "interrupted", "blocked")

_MAX_TAG = 5000
_MAX_PARAM = 6000
_MAX_NAME = 250
_MAX_DIGEST = 36
# What a shell or a scheduler reports for a process that SIGINT, SIGKILL or SIGTERM ended.
_KILLED_CODES = (130, 137, 143)

_EVALUATION_TAGS = ("protocol", "scorer", "backend", "data_sha256")

PointKey = tuple[str, int]


class Stored(NamedTuple):
    """The value of one metric at one step as MLflow has it."""

    timestamp: int
    value: float


def run_status(status: Status) -> str:
    """Return MLflow's word: a process that a signal ended is KILLED, one that failed is FAILED."""
    code = status.exit_code
    if status.state == "failed" and code is not None and (code < 0 or code in _KILLED_CODES):
        return "KILLED"
    return _RUN_STATUS[status.state]


def metric_name(name: str) -> str:
    """Return the name in MLflow's alphabet: letters, digits and `_-. :/`."""
    clean = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    return posixpath.normpath(clean).lstrip("./")[:_MAX_NAME] or "_"


def new_points(directory: CellDir, stored: dict[PointKey, Stored]) -> tuple[Metric, ...]:
    """Return the points on disk that MLflow lacks, and corrections of those it has otherwise.

    MLflow keeps every point it is given, so a correction (a step repeated after a resume) carries a
    later timestamp. Timestamps count from the step, not from the clock: a repeated sync writes the
    same rows. Values that are not finite are left out, since MLflow changes them.
    """
    latest = {
        (metric_name(point.name), point.step): point.value for point in read_metrics(directory)
    }
    latest |= {(name, 0): value for name, value in _result_points(read_results(directory))}
    points = []
    for (name, step), value in latest.items():
        known = stored.get((name, step))
        if not math.isfinite(value) or (known and known.value == value):
            continue
        timestamp = known.timestamp + 1 if known else step
        points.append(Metric(name, float(value), timestamp, step))
    return (*points, *_system_points(directory, stored))


def _system_points(directory: CellDir, stored: dict[PointKey, Stored]) -> Iterator[Metric]:
    """Yield what the machine did while the cell ran, by the clock: MLflow shows it that way."""
    for step, row in enumerate(read_lines(directory.system)):
        for key, value in row.items():
            name = metric_name(f"system/{key}")
            if key != "time" and (name, step) not in stored:
                yield Metric(name, float(value), int(row["time"] * 1000), step)


def dataset_input(cell: Cell, directory: CellDir) -> DatasetInput | None:
    """Return the data a finished cell has used, named and hashed; None where that is unknown."""
    digest = (read_json(directory.provenance) or {}).get("data_sha256")
    if digest is None:
        return None
    data, benchmark = cell.config.data, cell.config.benchmark
    trained = cell.stage == "train"
    name = (data.path or data.name) if trained else benchmark.name
    source = (data.path if trained else benchmark.data_dir) or "generated"
    schema = ",".join(data.tasks if trained else benchmark.tasks)
    return DatasetInput(
        Dataset(
            name=redact(name)[:500],
            digest=str(digest)[:_MAX_DIGEST],
            source_type="local" if source != "generated" else "code",
            source=json.dumps({"uri": redact(source), "tasks": schema}),
        ),
        [InputTag("mlflow.data.context", "training" if trained else "evaluation")],
    )


def _result_points(results: tuple[EvalResult, ...]) -> Iterator[tuple[str, float]]:
    for result in results:
        name = metric_name(f"{result.benchmark}/{result.task}/{result.context_length}")
        if result.score is not None:
            yield name, result.score
        if result.score_all is not None:
            yield f"{name}/score_all", result.score_all
        yield f"{name}/n_scored", result.n_scored
        yield f"{name}/n_failed", result.n_failed


def cell_params(cell: Cell) -> dict[str, str]:
    """Return the configuration this cell depends on, flat, as text."""
    sections = {"model", "benchmark"} if cell.arm == BASE_ARM else None
    return {
        key: ("null" if value is None else redact(str(value)))[:_MAX_PARAM]
        for key, value in flat_config(cell.config).items()
        if sections is None or key.split(".")[0] in sections
    }


def identity_tags(cell: Cell) -> dict[str, str]:
    """Return the tags that say which cell this is; settings without meaning for it are absent."""
    tags: dict[str, str | None] = {
        "kind": "cell",
        "cell": cell.digest,
        "label": cell.label,
        "stage": cell.stage,
        "arm": cell.arm,
        "model": cell.config.model.name,
        "model_revision": cell.model_revision,
        "parent_cell": cell.parent,
        "benchmark": cell.config.benchmark.name if cell.stage == "eval" else None,
    }
    if cell.arm != BASE_ARM:
        tags |= {
            "sparsity": repr(cell.sparsity),
            "seed": str(cell.config.seed),
            "algorithm": cell.config.algorithm.name,
        }
    return {f"longact.{key}": value for key, value in tags.items() if value is not None}


def state_tags(status: Status, directory: CellDir) -> dict[str, str]:
    """Return the tags that change while a cell runs: its state, code version and packages."""
    tags = {
        "longact.state": status.state,
        "longact.attempt": str(status.attempt),
        "longact.error": redact(status.error or "")[:_MAX_TAG],
    }
    provenance = read_json(directory.provenance) or {}
    if commit := provenance.get("git_commit"):
        dirty = "-dirty" if provenance.get("git_dirty") else ""
        tags |= {"longact.git_commit": commit + dirty, "mlflow.source.git.commit": commit}
    if version := provenance.get("longact"):
        tags["longact.version"] = version
    measured = {tag: provenance.get(tag.removeprefix("longact.")) for tag in MEASURE_TAGS.values()}
    tags |= {tag: str(value) for tag, value in measured.items() if value is not None}
    packages = provenance.get("packages", {})
    described = read_json(directory.samples.with_suffix(".protocol.json")) or {}
    tags |= {f"longact.{key}": described[key] for key in _EVALUATION_TAGS if key in described}
    return tags | {f"longact.package.{name}": value for name, value in packages.items()}


def replicated_mark(status: Status) -> str:
    """Return the text that stands for one end of a cell, so that it is copied only once."""
    return f"{status.state} {status.attempt} {status.finished}"
