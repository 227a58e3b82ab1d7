"""A cell's directory: what it holds, who may write it, and when it counts as done."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longact_cli.config.schema import RunConfig
from longact_cli.errors import CellFailedError, CellHeldError
from longact_cli.files import read_json, read_lines, sha256_file, write_json
from longact_cli.plan import SCHEMA_VERSION, Cell
from longact_cli.results import EvalResult, MetricPoint, SampleResult

State = Literal["pending", "running", "done", "failed", "interrupted", "blocked"]
_WHOLE_CHECK_BYTES = 64 << 20


@dataclass(frozen=True)
class Status:
    """Where a cell stands. Times are seconds since the epoch."""

    state: State
    attempt: int = 0
    exit_code: int | None = None
    error: str | None = None
    started: float | None = None
    finished: float | None = None


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
        CellFailedError: There is no readable description.
    """
    data = read_json(directory.path / "cell.json")
    if data is None:
        raise CellFailedError(f"{directory.path} has no readable cell.json; it is not a cell")
    return Cell(
        stage=data["stage"],
        config=RunConfig.model_validate(data["config"]),
        model_revision=data["model_revision"],
        parent=data["parent"],
        digest=data["digest"],
        asked_by=tuple(data["asked_by"]),
        inputs=tuple(data.get("inputs", {}).items()),
    )


def read_status(directory: CellDir) -> Status:
    """Return the cell's status; a finished cell is `done` whatever its last status says."""
    data = read_json(directory.path / "status.json")
    status = Status(**data) if data else Status("pending")
    if status.state == "done" and not is_done(directory):
        return Status("pending", attempt=status.attempt)
    return status


def peek_status(directory: CellDir) -> Status:
    """Return what the cell's status file says, without looking at its results: for overviews."""
    data = read_json(directory.path / "status.json")
    return Status(**data) if data else Status("pending")


def write_status(directory: CellDir, status: Status) -> None:
    """Replace the cell's status."""
    write_json(directory.path / "status.json", vars(status))


@contextmanager
def hold(directory: CellDir) -> Iterator[None]:
    """Own the cell while the block runs. The kernel lets go when the process dies.

    Raises:
        CellHeldError: Another live process owns the cell.
    """
    directory.path.mkdir(parents=True, exist_ok=True)
    with (directory.path / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CellHeldError(f"{directory.path} is being run by another process") from None
        yield


def is_held(directory: CellDir) -> bool:
    """Return whether a live process owns the cell."""
    lock = directory.path / "lock"
    if not lock.exists():
        return False
    with lock.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
    record = read_json(directory.done)
    if record is None:
        return False
    return all(_matches(directory.path / name, entry) for name, entry in record["files"].items())


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
