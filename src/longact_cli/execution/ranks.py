"""The processes that train one cell together: started by torch's launcher, ended with the cell."""

import gc
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from longact_cli.cells import CellDir, read_cell
from longact_cli.errors import CellFailedError, CellStoppedError, LongActError
from longact_cli.execution.imports import import_for
from longact_cli.execution.leash import die_with
from longact_cli.execution.provenance import add_provenance, peak_memory_bytes
from longact_cli.files import read_json, write_json

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

_PARENT = "LONGACT_CELL_PROCESS"
# A process of the cell ignores SIGTERM, with which torch's launcher begins.
_SHUTDOWN_SECONDS = 1
# All but SIGTERM, which the cell turns into a stop with a checkpoint.
_LAUNCHER_SIGNALS = "SIGINT,SIGHUP,SIGQUIT"
# Signals that nobody else's end causes: a process that lost another one may abort.
_FATAL = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


class RankFailure(NamedTuple):
    """Why one process ended, in its own words.

    Attributes:
        rank: Its place.
        time: Seconds since the epoch.
        message: One line.
        exit_code: What the cell's process is to end with.
    """

    rank: int
    time: float
    message: str
    exit_code: int


class RanksFailedError(CellFailedError):
    """A process of the cell failed; carries its line and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Say `message` and end with `exit_code`."""
        super().__init__(message)
        self.exit_code = exit_code


def launch_ranks(
    directory: CellDir, *, processes: int, checkpoint: str, resume: Path | None
) -> None:
    """Train the cell in `directory` with so many processes and wait for them.

    Args:
        directory: The cell.
        processes: How many.
        checkpoint: Local folder of the starting weights.
        resume: The checkpoint to continue from; None at the beginning.

    Raises:
        RanksFailedError: One of them failed; the error is that of the first.
        CellStoppedError: They were asked to stop and have saved a checkpoint.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for path in _failures(directory).glob("rank-*.json"):
        path.unlink()
    os.environ[_PARENT] = str(os.getpid())
    command = ["-m", "longact_cli", "_rank", str(directory.path), checkpoint]
    command += [] if resume is None else [str(resume)]
    try:
        with TemporaryDirectory(prefix="longact-ranks-") as logs:
            elastic_launch(_launch_config(processes, directory, logs), sys.executable)(*command)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        raise first_failure(read_failures(directory), codes) from None
    except SignalException as caught:
        # The launcher has stopped the ranks; this process ends as it would have without them.
        signal.signal(caught.sigval, signal.SIG_DFL)
        os.kill(os.getpid(), caught.sigval)
    for stopped in read_failures(directory):
        raise CellStoppedError(stopped.message)


def run_rank(directory: CellDir, *, checkpoint: str, resume: Path | None) -> None:
    """Do one process's share of the cell in `directory`; does not return where it fails."""
    # A cluster may tell every process of a job to end; when they do is up to the cell's process.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(int(os.environ[_PARENT]))
    rank = int(os.environ["RANK"])
    if rank == 0:
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
        logging.getLogger("longact_cli").setLevel(logging.INFO)
    try:
        run_share(directory, checkpoint=checkpoint, resume=resume, first=rank == 0)
    except CellStoppedError as error:
        # An orderly end: others may still write to the checkpoint.
        if rank == 0:
            _tell(directory, RankFailure(rank, time.time(), str(error), error.exit_code))
        _leave()
    except LongActError as error:
        _fail(directory, RankFailure(rank, time.time(), str(error), error.exit_code))
    except Exception as error:  # noqa: BLE001 - the boundary of the process: recorded, then failed
        traceback.print_exc()
        message = f"rank {rank}: {type(error).__name__}: {error}"
        _fail(directory, RankFailure(rank, time.time(), message, 1))


def run_share(directory: CellDir, *, checkpoint: str, resume: Path | None, first: bool) -> None:
    """Train and record, in the process `first`, what came of it."""
    cell = read_cell(directory)
    import_for(cell)
    from accelerate.utils import gather_object

    from longact_cli.execution.progress import ProgressWriter
    from longact_cli.training.train import StartPoint, train_share

    result = train_share(
        cell.config,
        out=directory.path,
        start=StartPoint(checkpoint, resume),
        progress=ProgressWriter(directory.progress) if first else None,
    )
    # Of the process that held the most: each has a device of its own.
    peak = max(gather_object([peak_memory_bytes()]))
    if first:
        add_provenance(directory, **result._asdict(), peak_memory_bytes=peak)
    _leave()


def _leave() -> None:
    from accelerate import PartialState

    # While DDP holds the group, its end would wait for gloo's threads and they for Python.
    gc.collect()
    PartialState().destroy_process_group()


def _launch_config(processes: int, directory: CellDir, logs: str) -> "LaunchConfig":
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=directory.path.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        signals_to_handle=_LAUNCHER_SIGNALS,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )


def _failures(directory: CellDir) -> Path:
    return directory.path / "ranks"


def _fail(directory: CellDir, failure: RankFailure) -> NoReturn:
    """Leave the last words and end at once: an orderly end could wait for the other processes."""
    line = _tell(directory, failure)
    sys.stderr.write(f"error: {line}\n")
    sys.stderr.flush()
    os._exit(failure.exit_code)


def _tell(directory: CellDir, failure: RankFailure) -> str:
    line = " ".join(failure.message.split())
    told = failure._replace(message=line)._asdict()
    write_json(_failures(directory) / f"rank-{failure.rank}.json", told)
    return line


def read_failures(directory: CellDir) -> tuple[RankFailure, ...]:
    """Return what the processes of a cell wrote before they ended, the earliest first."""
    told = [read_json(path) for path in _failures(directory).glob("rank-*.json")]
    return tuple(sorted((RankFailure(**one) for one in told if one), key=lambda one: one.time))


def first_failure(told: Sequence[RankFailure], codes: Mapping[int, int]) -> RanksFailedError:
    """Return the error that the others follow from.

    Args:
        told: What processes said, the earliest first.
        codes: Exit code of each process that failed; negative for a signal.
    """
    killed = next((rank for rank, code in codes.items() if -code in _FATAL), None)
    if killed is None and told:
        return RanksFailedError(told[0].message, told[0].exit_code)
    rank = next(iter(codes)) if killed is None else killed
    code = codes[rank]
    how = f"ended with exit code {code}" if code >= 0 else f"died of {signal.Signals(-code).name}"
    hint = " (often a lack of memory)" if code == -signal.SIGKILL else ""
    return RanksFailedError(
        f"rank {rank} {how}{hint}; see stderr.log. The same command continues from the last "
        "checkpoint",
        1,
    )
