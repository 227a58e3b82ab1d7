"""How faults are made and what a sweep must come to in spite of them."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import CellDir, list_cells
from longact_cli.files import read_json
from longact_cli.lease import current

ROOT = Path(__file__).resolve().parents[2]
Ready = Callable[[], bool]
_TABLES = (".md", ".tex", ".csv", ".html", ".json")
_TESTS = str(Path(__file__).resolve().parents[1])
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [_TESTS, os.environ.get("PYTHONPATH")])),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
MICRO = [
    "ablate", "--sparsity", "0.3", "--no-controls", "--steps", "6", "--study", "micro",
    "algorithm.checkpoint_every=2", "algorithm.prompts_per_step=2", "algorithm.group_size=4",
    "algorithm.micro_batch_size=8", "data.context_lengths=[256]", "benchmark.tasks=[niah_single_1]",
    "benchmark.context_lengths=[256]", "benchmark.limit=8", "benchmark.batch_size=2",
]  # fmt: skip


class Sweep(NamedTuple):
    """A sweep in its own folder and the command that runs it."""

    folder: Path
    command: list[str]
    study: str
    environment: Mapping[str, str] = ENVIRONMENT

    @property
    def runs(self) -> Path:
        """Its store."""
        return self.folder / "runs"

    def start(self) -> "subprocess.Popen[str]":
        """Start it, as the leader of a process group."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [sys.executable, *self.command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> str:
        """Run it to its end; return what it printed.

        Raises:
            RuntimeError: It did not end with every cell done.
        """
        process = self.start()
        printed, _ = process.communicate(timeout=900)
        if process.returncode != 0:
            raise RuntimeError(f"exit code {process.returncode}: {printed[-2000:]}")
        return printed

    def tables(self) -> dict[str, bytes]:
        """Return the bytes of every table of its report."""
        # Relative paths: a table names the command that made it.
        report = ["-m", "longact_cli", "report", "--experiment", self.study, "--out", "report"]
        done = subprocess.run(
            [sys.executable, *report],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        found = sorted((self.folder / "report").glob("s*.*"))
        return {path.name: path.read_bytes() for path in found if path.suffix in _TABLES}

    def cell(self, stage: str, *, trained: bool = True) -> CellDir:
        """Return the cell of a stage; `trained` tells its evaluation from the base model's."""
        for directory in list_cells(self.runs):
            text = (directory.path / "cell.json").read_text()
            if f'"stage": "{stage}"' in text and (
                stage == "train" or ('"parent": null' in text) != trained
            ):
                return directory
        raise LookupError(stage)


def micro(folder: Path, *more: str) -> Sweep:
    """A sweep of three micro cells: the untrained model, one training, its evaluation."""
    return Sweep(folder, ["-m", "longact_cli", *MICRO, *more], "micro")


def quick(folder: Path, *, seeds: int, workers: int) -> Sweep:
    """A sweep of 1 + 6 x `seeds` cells that take a moment each."""
    script = str(Path(__file__).with_name("orchestrate.py"))
    return Sweep(folder, [script, str(folder / "runs"), str(seeds), str(workers)], "quick")


def wait_for(ready: Ready, process: "subprocess.Popen[str]", *, seconds: float = 300.0) -> bool:
    """Wait until `ready`; return False if the sweep ended before that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return True
        except (LookupError, OSError):
            pass
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise TimeoutError("the moment for the fault never came")


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill the orchestrator without a warning."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def kill_cell(directory: CellDir) -> None:
    """Kill the process that owns a cell, and nothing else."""
    lease = current(directory.leases)
    if lease is None or lease.released:
        raise LookupError(f"nobody owns {directory.path}")
    os.kill(lease.pid, signal.SIGKILL)


def times_run(runs: Path) -> list[int]:
    """Return how often each quick cell has begun."""
    return [len((d.path / "runs.txt").read_text()) for d in list_cells(runs)]


def checksums(runs: Path) -> tuple[tuple[str, str], ...]:
    """Return file and checksum of all results; provenance and journals hold times and are not."""
    found = []
    for directory in list_cells(runs):
        for name, entry in read_json(directory.done)["files"].items():
            if not name.startswith(("provenance", "metrics")):
                found.append((f"{directory.path.name}/{name}", entry["sha256"]))
    return tuple(found)


def tracked(runs: Path) -> dict[str, int]:
    """Return how many finished MLflow runs each cell has."""
    query = (
        "select t.value, count(*) from tags t join runs r on r.run_uuid = t.run_uuid "
        "where t.key = 'longact.cell' and r.status = 'FINISHED' group by t.value"
    )
    with sqlite3.connect(runs / "mlflow.db") as database:
        return dict(database.execute(query).fetchall())


def cut(path: Path, *, keep: float = 0.6) -> None:
    """Cut the end of a file off, as a power cut may."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
