"""Cells as jobs of a Slurm cluster, through submitit: one array for each shape of resources.

A whole plan is handed over at once. An evaluation waits in the queue until the job of its training
has ended (`afterany`: a requeued job has not), and leaves again if that training is not done. The
scheduler's states are only read to learn which jobs are still there (`squeue`); how a cell ended is
what its folder says.
"""

import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longact_cli.cells import CellDir, read_cell
from longact_cli.config.schema import ExecutorConfig
from longact_cli.errors import PrerequisiteError
from longact_cli.execution.base import HandOver
from longact_cli.execution.job import CellProcess, JobRecord, end_code, read_job, write_job
from longact_cli.execution.slurm_queue import Queue, begin_now, cancel_job, start_after

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_NAME = "slurm"
# A job at its time limit goes on in a new one; each makes progress, so this only bounds a mistake.
_MOST_REQUEUES = 100
_STOP_MARGIN_SECONDS = 15.0
# An array that waits for something begins after so long, or as soon as all is said.
_CHAIN_SECONDS = 120
# Limits on jobs of a user (an association or a quality of service) and on the size of an array.
_NO_ROOM = re.compile(r"MaxSubmit|job submit limit|Invalid job array spec", re.IGNORECASE)


class SlurmCell:
    """What a Slurm job runs; submitit calls it there, and `checkpoint` before it is preempted."""

    def __init__(self, path: str, *, threads: int, signal_seconds: int) -> None:
        """Run the cell in the folder `path`; stop it within `signal_seconds` when asked to."""
        self._path = path
        self._threads = threads
        self._signal_seconds = signal_seconds
        self._process: CellProcess | None = None

    def __call__(self) -> int:
        """Run the cell to its end."""
        self._process = CellProcess(self._path, threads=self._threads)
        return self._process.run()

    def checkpoint(self) -> "DelayedSubmission":
        """Stop the cell; its own checkpoints are what the requeued job continues from."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.stop(seconds=max(1.0, self._signal_seconds - _STOP_MARGIN_SECONDS))
        following = SlurmCell(
            self._path, threads=self._threads, signal_seconds=self._signal_seconds
        )
        return DelayedSubmission(following)


@dataclass(frozen=True)
class SlurmHandle:
    """A cell in a Slurm job."""

    directory: CellDir
    job: str
    queue: Queue
    since: float = 0.0

    def poll(self) -> int | None:
        """Return the exit code once the job has left the queue, else None."""
        if self.queue.holds(self.job, since=self.since):
            return None
        return end_code(self.directory)

    def terminate(self) -> None:
        """Cancel the job."""
        cancel_job(self.job)

    def kill(self) -> None:
        """Cancel the job at once."""
        cancel_job(self.job, "--signal=KILL", "--full")


class _NoRoomError(Exception):
    """Slurm takes no array of this size from this user now."""


class SlurmExecutor:
    """Hands cells to Slurm. They wait, run, are preempted and go on without this process."""

    name = _NAME
    outlives = True
    chains = True

    def __init__(
        self, config: ExecutorConfig, runs_dir: Path, *, queue: Queue | None = None
    ) -> None:
        """Prepare to submit with the settings of `config`; job files go below `runs_dir`."""
        self._config = config
        self._folder = runs_dir.resolve() / "slurm"
        self._queue = queue or Queue()
        self._in_use = False

    @property
    def slots(self) -> int:
        """How many jobs of one array run at the same time."""
        return self._config.workers

    def start(self, directory: CellDir) -> SlurmHandle:
        """Submit one cell.

        Raises:
            PrerequisiteError: Slurm refuses the job.
        """
        (handle,) = self.start_together([HandOver(directory)])
        if handle is None:
            raise PrerequisiteError("Slurm takes no more jobs of this user now; try again later")
        return handle

    def start_together(self, cells: Sequence[HandOver]) -> Sequence[SlurmHandle | None]:
        """Submit cells as one array for each shape of resources, as many as Slurm takes.

        Raises:
            PrerequisiteError: Slurm refuses the jobs; its reason is given.
        """
        shapes: dict[str, list[HandOver]] = {}
        for cell in cells:
            config = read_cell(cell.directory).config.executor
            shape = json.dumps(parameters(config), sort_keys=True)
            shapes.setdefault(shape, []).append(cell)
        handles: dict[Path, SlurmHandle] = {}
        for shape, members in shapes.items():
            for handle in self._submit_what_fits(members, json.loads(shape)):
                handles[handle.directory.path] = handle
        return [handles.get(cell.directory.path) for cell in cells]

    def _submit_what_fits(
        self, cells: Sequence[HandOver], shape: dict[str, Any]
    ) -> Iterator[SlurmHandle]:
        """Submit one array, or smaller ones where Slurm takes no array of that size."""
        left, size = list(cells), len(cells)
        while left:
            try:
                jobs = self._submit(left[:size], shape)
            except _NoRoomError as error:
                size = min(size, len(left)) // 2
                if size:
                    continue
                if not self._in_use:
                    raise _refused(str(error)) from None
                return
            self._in_use = True
            for cell, job in zip(left[:size], jobs, strict=True):
                yield SlurmHandle(cell.directory, job, self._queue, time.monotonic())
            left = left[size:]

    def _submit(self, cells: Sequence[HandOver], shape: dict[str, Any]) -> list[str]:
        """Submit an array and say what each of its jobs has to wait for; return their ids.

        The array begins once that is said. If this process dies before, it begins later: cells that
        come too early then find their training unfinished and leave, none is lost.
        """
        waits = any(cell.after is not None for cell in cells)
        more = shape["additional_parameters"]
        if waits and "begin" not in more:
            begin = f"now+{_CHAIN_SECONDS + len(cells)}"
            shape = {**shape, "additional_parameters": {**more, "begin": begin}}
        jobs = self._sbatch(cells, shape)
        for cell, job in zip(cells, jobs, strict=True):
            write_job(cell.directory, JobRecord(_NAME, job))
        if waits:
            array = jobs[0].partition("_")[0]
            try:
                _chain(cells, jobs)
                if "begin" not in more:
                    begin_now(array)
            except PrerequisiteError:
                cancel_job(array)
                raise
        return jobs

    def _sbatch(self, cells: Sequence[HandOver], shape: dict[str, Any]) -> list[str]:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        executor = submitit.SlurmExecutor(self._folder / "%j", max_num_timeout=_MOST_REQUEUES)
        executor.update_parameters(**shape)
        jobs: list[Callable[[], int]] = [
            SlurmCell(
                str(cell.directory.path.resolve()),
                threads=self._config.threads_per_worker,
                signal_seconds=self._config.signal_seconds or 0,
            )
            for cell in cells
        ]
        try:
            with redirect_stderr(io.StringIO()):
                return [job.job_id for job in executor.submit_array(jobs)]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            for left in self._folder.glob("*.pkl"):
                left.unlink(missing_ok=True)
            reason = " ".join(str(error).split())
            if _NO_ROOM.search(reason):
                raise _NoRoomError(reason) from None
            raise _refused(reason) from None

    def attach(self, directory: CellDir) -> SlurmHandle | None:
        """Return the handle of a cell whose job still waits or runs."""
        record = read_job(directory)
        if record is None or record.executor != _NAME or not self._queue.holds(record.job):
            return None
        self._in_use = True
        return SlurmHandle(directory, record.job, self._queue)


def _chain(cells: Sequence[HandOver], jobs: Sequence[str]) -> None:
    """Let each cell wait for the job of the cell it comes after."""
    children: dict[str, list[str]] = {}
    for cell, job in zip(cells, jobs, strict=True):
        parent = read_job(cell.after) if cell.after is not None else None
        if parent is not None and parent.executor == _NAME:
            children.setdefault(parent.job, []).append(job)
    for parent_job, waiting in children.items():
        start_after(waiting, parent_job)


def _refused(reason: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"Slurm refused the jobs: {reason}; see executor.partition, executor.account, "
        "executor.time_minutes and executor.memory_gb"
    )


def parameters(config: ExecutorConfig) -> dict[str, Any]:
    """Return the settings of a job as submitit's Slurm executor takes them."""
    chosen = {
        "job_name": "longact",
        "time": config.time_minutes,
        "cpus_per_task": config.threads_per_worker,
        "gpus_per_node": config.gpus_per_cell or None,
        "mem": None if config.memory_gb is None else f"{round(config.memory_gb * 1024)}M",
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "array_parallelism": config.array_parallelism or config.workers,
        "signal_delay_s": config.signal_seconds,
        "additional_parameters": {"requeue": True, **config.sbatch},
        # srun no longer takes this over from sbatch since Slurm 22.05.
        "setup": [*config.setup, "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"],
    }
    return {key: value for key, value in chosen.items() if value is not None}
