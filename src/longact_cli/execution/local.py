"""Cells as child processes of this machine, each in its own process group."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import IO

from longact_cli.cells import CellDir

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class LocalHandle:
    """A running child. Its standard input is a lifeline: it closes when this process dies."""

    process: subprocess.Popen[bytes]
    lifeline: IO[bytes]

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        code = self.process.poll()
        if code is not None:
            self.lifeline.close()
        return code

    def terminate(self) -> None:
        """Ask the process group to stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Stop the process group at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


@dataclass(frozen=True)
class LocalExecutor:
    """Runs up to `workers` cells side by side with `threads` compute threads each."""

    workers: int
    threads: int

    @property
    def slots(self) -> int:
        """How many cells may run at the same time."""
        return self.workers

    def start(self, directory: CellDir) -> LocalHandle:
        """Start the cell's process; its output goes to the cell's logs."""
        with directory.stdout.open("ab") as out, directory.stderr.open("ab") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "longact_cli", "_cell", str(directory.path)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=self._environment(),
                start_new_session=True,
            )
        assert process.stdin is not None
        return LocalHandle(process, process.stdin)

    def _environment(self) -> dict[str, str]:
        threads = dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        return {**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false", "NO_COLOR": "1"}
