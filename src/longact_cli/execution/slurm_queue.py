"""Slurm's queue through its own commands: who is in it, and jobs that wait for other jobs.

Only `squeue`, `scancel` and `scontrol`, which work without an accounting database.
"""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence

from longact_cli.errors import PrerequisiteError

_QUEUE_SECONDS = 5.0
_COMMAND_SECONDS = 60.0
_JOB_ID = re.compile(r"\d+(_\d+)?")


class Queue:
    """The jobs of this user that wait or run, asked for at most every few seconds."""

    def __init__(self, *, seconds: float = _QUEUE_SECONDS) -> None:
        """Ask the scheduler at most every `seconds`."""
        self._seconds = seconds
        self._jobs: Mapping[str, str] = {}
        self._asked: float | None = None

    def holds(self, job: str, *, since: float = 0.0) -> bool:
        """Return whether a job waits or runs; True while the scheduler does not answer.

        Args:
            job: Its id, `12` or `12_3`.
            since: Monotonic time at which the job was handed over; an older answer is no answer.
        """
        now = time.monotonic()
        if self._asked is None or now - self._asked >= self._seconds:
            found = waiting_reasons()
            if found is None:
                return True
            self._jobs, self._asked = found, now
        return job in self._jobs or self._asked <= since


def waiting_reasons() -> Mapping[str, str] | None:
    """Return why each job of this user waits, by its id; None if the scheduler does not answer.

    A job that runs has the reason `None`, as Slurm calls it.
    """
    done = _run("squeue", "--me", "--noheader", "--array", "--format=%i %r")
    if done is None or done.returncode != 0:
        return None
    pairs = (line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
    return {pair[0]: pair[-1] for pair in pairs}


def cancel_job(job: str, *options: str) -> None:
    """Cancel one job; one that has ended already is left alone."""
    if _JOB_ID.fullmatch(job):
        _run("scancel", *options, job)


def start_after(jobs: Sequence[str], parent: str) -> None:
    """Let waiting jobs start only after `parent` has ended, however it ends.

    A parent that is requeued has not ended. One that left the queue long ago counts as ended.

    Raises:
        PrerequisiteError: Slurm refuses.
    """
    _update(f"JobId={','.join(jobs)}", f"Dependency=afterany:{parent}")


def begin_now(job: str) -> None:
    """Let a job, or a whole array, that was submitted for later begin.

    Raises:
        PrerequisiteError: Slurm refuses.
    """
    _update(f"JobId={job}", "StartTime=now")


def _update(*settings: str) -> None:
    done = _run("scontrol", "update", *settings)
    if done is None or done.returncode != 0:
        said = "no answer" if done is None else " ".join((done.stderr or done.stdout).split())
        raise PrerequisiteError(
            f"Slurm refused to let jobs wait for others (scontrol update: {said}); with "
            "--fail-fast a cell is submitted only when its training is done"
        )


def _run(*command: str) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return None
