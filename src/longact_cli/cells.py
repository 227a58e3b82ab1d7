"""A cell's directory: what it holds, and when it counts as done."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from longact_cli.config.describe import complaints
from longact_cli.config.schema import RunConfig
from longact_cli.errors import CellFailedError
from longact_cli.files import read_json, read_lines, sha256_file, write_json
from longact_cli.plan import SCHEMA_VERSION, Cell
from longact_cli.results import EvalResult, MetricPoint, SampleResult

State = Literal["pending", "running", "done", "failed", "interrupted", "blocked"]
_WHOLE_CHECK_BYTES = 64 << 20


@dataclass(frozen=True)
class Status:
    """Where a cell stands. Times are seconds since the epoch.

    Attributes:
        state: What it is doing, or how it ended.
        attempt: How many times it was started.
        exit_code: Of its process, negative for a signal.
        error: One line.
        started: When the last attempt began.
        finished: When it ended.
        failure: Class of the failure: `signal`, `preempted`, `accelerator`, `oom`, `config`,
            `environment` or `error`.
        retries: Classes of the failures after which it was tried again by itself.
    """

    state: State
    attempt: int = 0
    exit_code: int | None = None
    error: str | None = None
    started: float | None = None
    finished: float | None = None
    failure: str | None = None
    retries: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellDir:
    """The directory of one cell and the names of the files in it."""

    path: Path

    @property
    def metrics(self) -> Path:
        """Training metrics, one `MetricPoint` per line."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Answered questions, one `SampleResult` per line."""
        return self.path / "samples.jsonl"

    @property
    def results(self) -> Path:
        """Scores, a list of `EvalResult`."""
        return self.path / "results.json"

    @property
    def model(self) -> Path:
        """The trained checkpoint: a plain Hugging Face folder."""
        return self.path / "model"

    @property
    def completions(self) -> Path:
        """Rollouts as the trainer logged them, Parquet files."""
        return self.path / "completions"

    @property
    def provenance(self) -> Path:
        """Code version, packages, hashes."""
        return self.path / "provenance.json"

    @property
    def stdout(self) -> Path:
        """What the cell's process printed."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """What the cell's process printed as errors and warnings."""
        return self.path / "stderr.log"

    @property
    def done(self) -> Path:
        """Checksums of the results; written last."""
        return self.path / "DONE"

    @property
    def system(self) -> Path:
        """What the machine did while the cell ran, one sample per line."""
        return self.path / "system.jsonl"

    @property
    def progress(self) -> Path:
        """How far the running process is."""
        return self.path / "progress.json"

    @property
    def leases(self) -> Path:
        """Who has owned the cell."""
        return self.path / "lease"

    @property
    def job(self) -> Path:
        """Under which name a cluster knows the cell."""
        return self.path / "job.json"

    @property
    def runs_dir(self) -> Path:
        """The store that the cell belongs to."""
        return self.path.parents[1]


def cell_dir(runs_dir: Path, digest: str) -> CellDir:
    """Return the directory of the cell with this digest."""
    return CellDir(runs_dir / "cells" / digest[:12])


def create(directory: CellDir, cell: Cell) -> None:
    """Write the cell's description once; an existing directory of the same cell is kept.

    Raises:
        CellFailedError: The directory belongs to a cell with another digest.
    """
    known = read_json(directory.path / "cell.json")
    if known is not None and known["digest"] != cell.digest:
        raise CellFailedError(
            f"{directory.path} holds cell {known['digest']}, not {cell.digest}; "
            "move that folder away and run again"
        )
    write_json(directory.path / "cell.json", _describe(cell))
    if not (directory.path / "status.json").exists():
        write_status(directory, Status("pending"))


def _describe(cell: Cell) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "digest": cell.digest,
        "stage": cell.stage,
        "label": cell.label,
        "arm": cell.arm,
        "model_revision": cell.model_revision,
        "parent": cell.parent,
        "asked_by": list(cell.asked_by),
        "inputs": dict(cell.inputs),
        "config": cell.config.model_dump(mode="json"),
    }


def read_cell(directory: CellDir) -> Cell:
    """Read a cell's description back.

    Raises:
        CellFailedError: There is no readable description, or another version has written it.
    """
    data = read_json(directory.path / "cell.json")
    if not isinstance(data, dict):
        raise CellFailedError(f"{directory.path} has no readable cell.json; it is not a cell")
    try:
        return Cell(
            stage=data["stage"],
            config=RunConfig.model_validate(data["config"]),
            model_revision=data["model_revision"],
            parent=data["parent"],
            digest=data["digest"],
            asked_by=tuple(data["asked_by"]),
            inputs=tuple(data.get("inputs", {}).items()),
        )
    except ValidationError as error:
        reason = "; ".join(complaints(error))
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise CellFailedError(
        f"{directory.path} is a cell of another version of longact ({reason}); read it with that "
        "version, or run the sweep again in another --runs-dir"
    )


def read_status(directory: CellDir) -> Status:
    """Return the cell's status; a finished cell is `done` whatever its last status says.

    An empty or torn status is `pending`; so is `done` with a result that is missing or damaged.
    """
    status = peek_status(directory)
    if status.state == "done":
        reason = damage(directory)
        if reason is not None:
            return Status("pending", attempt=status.attempt, error=f"run again: {reason}")
    return status


def peek_status(directory: CellDir) -> Status:
    """Return what the cell's status file says, without looking at its results: for overviews.

    What another version has added to it is left out.
    """
    data = read_json(directory.path / "status.json")
    if not isinstance(data, dict) or data.get("state") not in get_args(State):
        return Status("pending")
    known = {key: value for key, value in data.items() if key in Status.__dataclass_fields__}
    retries = known.pop("retries", ())
    return Status(**known, retries=tuple(retries) if isinstance(retries, list) else ())


def write_status(directory: CellDir, status: Status) -> None:
    """Replace the cell's status."""
    write_json(directory.path / "status.json", vars(status))


def mark_done(directory: CellDir) -> None:
    """Write DONE: size and checksum of every result. Nothing may be written after it."""
    names = [directory.results, directory.samples, directory.metrics, directory.provenance]
    files = [path for path in names if path.exists()]
    if directory.model.is_dir():
        files += sorted(path for path in directory.model.iterdir() if path.is_file())
    entries = {
        str(path.relative_to(directory.path)): {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in files
    }
    write_json(directory.done, {"files": entries})


def is_done(directory: CellDir) -> bool:
    """Return whether every file that DONE names is there and unchanged.

    Files above 64 MiB are checked by size only.
    """
    return damage(directory) is None


def damage(directory: CellDir) -> str | None:
    """Return why a cell does not count as finished, or None where it does."""
    record = read_json(directory.done)
    if not isinstance(record, dict) or "files" not in record:
        return "DONE is damaged" if directory.done.exists() else "DONE is missing"
    for name, entry in record["files"].items():
        if not _matches(directory.path / name, entry):
            there = (directory.path / name).exists()
            return f"{name} is {'damaged' if there else 'missing'}"
    return None


def _matches(path: Path, entry: dict[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    return bool(entry["bytes"] > _WHOLE_CHECK_BYTES or sha256_file(path) == entry["sha256"])


def write_results(directory: CellDir, results: tuple[EvalResult, ...]) -> None:
    """Write the scores of an eval cell."""
    write_json(directory.results, [result._asdict() for result in results])


def read_results(directory: CellDir) -> tuple[EvalResult, ...]:
    """Return the scores of an eval cell, empty where there are none."""
    return tuple(EvalResult(**row) for row in read_json(directory.results) or [])


def read_samples(directory: CellDir) -> Iterator[SampleResult]:
    """Yield the answered questions of an eval cell."""
    for row in read_lines(directory.samples):
        yield SampleResult(**{**row, "references": tuple(row["references"])})


def read_metrics(directory: CellDir) -> Iterator[MetricPoint]:
    """Yield the training metrics of a train cell in the order they were logged."""
    for row in read_lines(directory.metrics):
        yield MetricPoint(**row)


def list_cells(runs_dir: Path) -> tuple[CellDir, ...]:
    """Return every cell directory of a store, sorted by digest."""
    root = runs_dir / "cells"
    if not root.is_dir():
        return ()
    found = (CellDir(Path(entry.path)) for entry in os.scandir(root) if entry.is_dir())
    return tuple(sorted(found, key=lambda directory: directory.path.name))
