"""Cells as child processes of this machine, each in its own process group."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from longact_cli.cells import CellDir
from longact_cli.errors import PrerequisiteError

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


class LocalExecutor:
    """Runs up to `workers` cells side by side with `threads` compute threads each."""

    def __init__(
        self, workers: int, threads: int, *, gpus_per_cell: int = 0, gpus: Sequence[str] = ()
    ) -> None:
        """Share `gpus` out, `gpus_per_cell` to each cell; 0 leaves their visibility alone.

        Raises:
            PrerequisiteError: A cell asks for more GPUs than there are.
        """
        if gpus_per_cell > len(gpus):
            raise PrerequisiteError(
                f"executor.gpus_per_cell is {gpus_per_cell}; this machine has {len(gpus)} GPUs: "
                f"set executor.gpus_per_cell={len(gpus)} or less; 0 runs without a share of them"
            )
        self._workers = workers
        self._threads = threads
        self._gpus_per_cell = gpus_per_cell
        self._gpus = tuple(gpus)
        self._taken: list[tuple[LocalHandle, tuple[str, ...]]] = []

    @property
    def slots(self) -> int:
        """How many cells may run at the same time."""
        if self._gpus_per_cell == 0:
            return self._workers
        return min(self._workers, len(self._gpus) // self._gpus_per_cell)

    def start(self, directory: CellDir) -> LocalHandle:
        """Start the cell's process; its output goes to the cell's logs."""
        self._taken = [(handle, own) for handle, own in self._taken if handle.poll() is None]
        taken = {gpu for _, own in self._taken for gpu in own}
        own = tuple(gpu for gpu in self._gpus if gpu not in taken)[: self._gpus_per_cell]
        handle = spawn(directory, threads=self._threads, gpus=own if own else None)
        self._taken.append((handle, own))
        return handle


def spawn(directory: CellDir, *, threads: int, gpus: Sequence[str] | None = None) -> LocalHandle:
    """Start the process of one cell in its own process group.

    Args:
        directory: The cell.
        threads: Compute threads of the process.
        gpus: The GPUs it may see; None leaves that as it is.
    """
    variables = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    if gpus is not None:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    with directory.stdout.open("ab") as out, directory.stderr.open("ab") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "longact_cli", "_cell", str(directory.path)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            env={**os.environ, **variables, "TOKENIZERS_PARALLELISM": "false", "NO_COLOR": "1"},
            start_new_session=True,
        )
    assert process.stdin is not None
    return LocalHandle(process, process.stdin)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs this process may use: CUDA_VISIBLE_DEVICES, else all the driver lists."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(part.strip() for part in chosen.split(",") if part.strip())
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return tuple(str(number) for number in range(len(lines)))
