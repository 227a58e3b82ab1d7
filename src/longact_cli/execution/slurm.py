"""Cells as jobs of a Slurm cluster, through submitit: one array for each shape of resources.

The scheduler's states are only read to learn which jobs are still there (`squeue`, which works
without an accounting database); how a cell ended is what its folder says.
"""

import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longact_cli.cells import CellDir, read_cell
from longact_cli.config.schema import ExecutorConfig
from longact_cli.errors import PrerequisiteError
from longact_cli.execution.job import CellProcess, JobRecord, end_code, read_job, write_job

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_NAME = "slurm"
_QUEUE_SECONDS = 5.0
_COMMAND_SECONDS = 60.0
# A job at its time limit goes on in a new one; each makes progress, so this only bounds a mistake.
_MOST_REQUEUES = 100
_STOP_MARGIN_SECONDS = 15.0
_JOB_ID = re.compile(r"\d+(_\d+)?")


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


class Queue:
    """The jobs of this user that wait or run, asked for at most every few seconds."""

    def __init__(self, *, seconds: float = _QUEUE_SECONDS) -> None:
        """Ask the scheduler at most every `seconds`."""
        self._seconds = seconds
        self._jobs: frozenset[str] = frozenset()
        self._asked: float | None = None

    def holds(self, job: str, *, since: float = 0.0) -> bool:
        """Return whether a job waits or runs; True while the scheduler does not answer.

        Args:
            job: Its id, `12` or `12_3`.
            since: Monotonic time at which the job was handed over; an older answer is no answer.
        """
        now = time.monotonic()
        if self._asked is None or now - self._asked >= self._seconds:
            found = _ask_queue()
            if found is None:
                return True
            self._jobs, self._asked = found, now
        return job in self._jobs or self._asked <= since


def _ask_queue() -> frozenset[str] | None:
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    return frozenset(done.stdout.split()) if done.returncode == 0 else None


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


def cancel_job(job: str, *options: str) -> None:
    """Cancel one job; one that has ended already is left alone."""
    if _JOB_ID.fullmatch(job):
        subprocess.run(
            ["scancel", *options, job], capture_output=True, check=False, timeout=_COMMAND_SECONDS
        )


class SlurmExecutor:
    """Hands cells to Slurm. They wait, run, are preempted and go on without this process."""

    name = _NAME
    outlives = True

    def __init__(
        self, config: ExecutorConfig, runs_dir: Path, *, queue: Queue | None = None
    ) -> None:
        """Prepare to submit with the settings of `config`; job files go below `runs_dir`."""
        self._config = config
        self._folder = runs_dir.resolve() / "slurm"
        self._queue = queue or Queue()

    @property
    def slots(self) -> int:
        """How many cells may wait or run at the same time."""
        return self._config.workers

    def start(self, directory: CellDir) -> SlurmHandle:
        """Submit one cell."""
        return self.start_together([directory])[0]

    def start_together(self, directories: Sequence[CellDir]) -> Sequence[SlurmHandle]:
        """Submit cells as one array for each shape of resources.

        Raises:
            PrerequisiteError: Slurm refuses the jobs; its reason is given.
        """
        shapes: dict[str, list[CellDir]] = {}
        for directory in directories:
            shape = json.dumps(parameters(read_cell(directory).config.executor), sort_keys=True)
            shapes.setdefault(shape, []).append(directory)
        handles: dict[Path, SlurmHandle] = {}
        for shape, members in shapes.items():
            for directory, job in zip(
                members, self._submit(members, json.loads(shape)), strict=True
            ):
                write_job(directory, JobRecord(_NAME, job))
                handles[directory.path] = SlurmHandle(directory, job, self._queue, time.monotonic())
        return [handles[directory.path] for directory in directories]

    def _submit(self, directories: Sequence[CellDir], shape: dict[str, Any]) -> list[str]:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        executor = submitit.SlurmExecutor(self._folder / "%j", max_num_timeout=_MOST_REQUEUES)
        executor.update_parameters(**shape)
        cells: list[Callable[[], int]] = [
            SlurmCell(
                str(directory.path.resolve()),
                threads=self._config.threads_per_worker,
                signal_seconds=self._config.signal_seconds or 0,
            )
            for directory in directories
        ]
        try:
            with redirect_stderr(io.StringIO()):
                return [job.job_id for job in executor.submit_array(cells)]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            for left in self._folder.glob("*.pkl"):
                left.unlink(missing_ok=True)
            reason = " ".join(str(error).split())
            raise PrerequisiteError(
                f"Slurm refused the jobs: {reason}; see executor.partition, executor.account, "
                "executor.time_minutes and executor.memory_gb"
            ) from None

    def attach(self, directory: CellDir) -> SlurmHandle | None:
        """Return the handle of a cell whose job still waits or runs."""
        record = read_job(directory)
        if record is None or record.executor != _NAME or not self._queue.holds(record.job):
            return None
        return SlurmHandle(directory, record.job, self._queue)


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
