"""The process of one cell: take the lease, run the stage, write DONE last."""

import logging
import os
import signal
import stat
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace

from longact_cli.cells import (
    CellDir,
    Status,
    cell_dir,
    damage,
    is_done,
    mark_done,
    read_cell,
    read_samples,
    read_status,
    write_results,
    write_status,
)
from longact_cli.config.schema import ModelConfig
from longact_cli.errors import CellFailedError, CellHeldError, CellStoppedError, LongActError
from longact_cli.execution.base import EXIT_HELD
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.disk import disk_full_message, is_disk_full
from longact_cli.execution.failures import classify
from longact_cli.execution.imports import import_for
from longact_cli.execution.progress import ProgressWriter
from longact_cli.execution.provenance import (
    add_provenance,
    peak_memory_bytes,
    write_provenance,
)
from longact_cli.execution.revision import revision
from longact_cli.execution.system import sampling
from longact_cli.files import read_json, sha256_json
from longact_cli.holding import hold
from longact_cli.lease import Claim
from longact_cli.plan import Cell, InputFile, input_files, train_cell
from longact_cli.plan import eval_cell as plan_eval_cell
from longact_cli.redaction import redact

_LOG = logging.getLogger(__name__)


def run_cell(directory: CellDir) -> int:
    """Run the cell in `directory` and return the exit code of its process."""
    _die_with_parent()
    # A cluster's notice to the job that looks after this process, not to this process.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    logging.getLogger("longact_cli").setLevel(logging.INFO)
    try:
        with hold(directory, each_tick=_CancelWatch(directory)) as claim:
            return _attempt(directory, claim)
    except CellHeldError as error:
        # The cell belongs to another process, and so does its status.
        sys.stderr.write(f"error: {error}\n")
        return EXIT_HELD
    except OSError as error:
        # Not even a lease can be written.
        return _fail(directory, error, code=1)


def _attempt(directory: CellDir, claim: Claim) -> int:
    """Run the stage and write how it ended, both while the cell is owned."""
    try:
        reason = damage(directory)
        if reason is not None:
            _mark_running(directory, reason)
            with sampling(directory.system):
                _run(directory, claim)
        status = read_status(directory)
        finished = status.finished or time.time()
        write_status(directory, replace(status, state="done", finished=finished, error=None))
    except CellHeldError:
        raise
    except CellStoppedError as error:
        _LOG.info(str(error))
        status = read_status(directory)
        write_status(
            directory,
            replace(status, state="interrupted", error=str(error), exit_code=error.exit_code),
        )
        return error.exit_code
    except LongActError as error:
        return _fail(directory, error, code=error.exit_code)
    except Exception as error:  # noqa: BLE001 - the boundary of the process: recorded, then failed
        if not is_disk_full(error, directory.path):
            traceback.print_exc()
        return _fail(directory, error, code=1)
    return 0


def _mark_running(directory: CellDir, reason: str) -> None:
    """Note that the cell has left the queue; one that was finished once says why it runs again."""
    status = read_status(directory)
    if status.state != "running":
        attempt = max(1, status.attempt)
        running = Status("running", attempt, started=time.time(), retries=status.retries)
        write_status(directory, running)
    if directory.done.exists():
        _LOG.warning("%s; running the cell again", reason)
        directory.done.unlink()


class _CancelWatch:
    """Ends this process, politely and once, when a person calls its cell off."""

    def __init__(self, directory: CellDir) -> None:
        self._name = directory.path.name
        self._cancelled = CellsCancelled(directory.runs_dir)
        self._asked = False

    def __call__(self) -> None:
        if self._asked or self._name not in self._cancelled.names():
            return
        self._asked = True
        sys.stderr.write("cancelled\n")
        sys.stderr.flush()
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGTERM)
        else:
            os.kill(os.getpid(), signal.SIGTERM)


def _run(directory: CellDir, claim: Claim) -> None:
    cell = read_cell(directory)
    _verify(cell, directory)
    import_for(cell)
    progress = ProgressWriter(directory.progress)
    if cell.stage == "train":
        _train(cell, directory, progress)
    else:
        _evaluate(cell, directory, progress)
    note_memory(directory)
    claim.confirm()
    mark_done(directory)


def note_memory(directory: CellDir) -> None:
    """Record the peak memory of this process, unless those that it started told theirs."""
    if "peak_memory_bytes" not in (read_json(directory.provenance) or {}):
        add_provenance(directory, peak_memory_bytes=peak_memory_bytes())


def _train(cell: Cell, directory: CellDir, progress: "ProgressWriter") -> None:
    from longact_cli.execution.ranks import launch_ranks
    from longact_cli.execution.resources import check_machine, limit_gpus, rollout_server
    from longact_cli.training.stopping import stoppable
    from longact_cli.training.train import StartPoint, train_share

    check_machine(cell.config)
    start = StartPoint.of(cell.config, directory.path)
    write_provenance(directory, checkpoint=start.checkpoint)
    processes = cell.config.parallel.processes
    server = rollout_server(cell.config, directory, checkpoint=start.checkpoint)
    with server, stoppable(directory.path):
        if limit_gpus(processes):
            launch_ranks(
                directory, processes=processes, checkpoint=start.checkpoint, resume=start.resume
            )
            return
        result = train_share(cell.config, out=directory.path, start=start, progress=progress)
    add_provenance(directory, **result._asdict())


def _evaluate(cell: Cell, directory: CellDir, progress: "ProgressWriter") -> None:
    from longact_cli.evaluation.evaluate import evaluate
    from longact_cli.models.loading import local_checkpoint

    if cell.parent is None:
        checkpoint = local_checkpoint(cell.config.model)
    else:
        checkpoint = str(_parent(directory, cell.parent).model)
    write_provenance(directory, checkpoint=checkpoint)
    results = evaluate(
        checkpoint,
        model=cell.config.model,
        benchmark=cell.config.benchmark,
        samples_path=directory.samples,
        progress=progress,
    )
    write_results(directory, results)
    add_provenance(directory, data_sha256=prompts_sha256(directory))


def prompts_sha256(directory: CellDir) -> str:
    """Return one hash over the prompts of an evaluation, in the order of its samples."""
    return sha256_json([sample.prompt_sha256 for sample in read_samples(directory)])


def _parent(directory: CellDir, digest: str) -> CellDir:
    parent = cell_dir(directory.path.parents[1], digest)
    if not is_done(parent):
        raise CellFailedError(
            f"the checkpoint of {parent.path} is missing or damaged; run the sweep again"
        )
    return parent


def _verify(cell: Cell, directory: CellDir) -> None:
    """Refuse a description that was edited: its directory would claim another experiment."""
    inputs = dict(cell.inputs)

    def stored(source: ModelConfig | InputFile) -> str:
        return inputs.get(source.key, "") if isinstance(source, InputFile) else cell.model_revision

    for file in input_files(cell.config) if cell.stage == "train" else ():
        if revision(file) != inputs.get(file.key):
            raise CellFailedError(
                f"{file.key} {file.path} was changed after this cell was planned; "
                "run the sweep again"
            )
    if cell.stage == "train":
        digest = train_cell(cell.config, stored).digest
    elif cell.parent is None:
        digest = plan_eval_cell(cell.config, stored, parent=None).digest
    else:
        parent = read_cell(cell_dir(directory.path.parents[1], cell.parent))
        digest = plan_eval_cell(cell.config, stored, parent=parent).digest
    if digest != cell.digest:
        raise CellFailedError(
            f"{directory.path}/cell.json was changed: its digest is {digest[:12]}, "
            f"not {cell.digest[:12]}; remove the folder and run the sweep again"
        )


def _fail(directory: CellDir, error: Exception, *, code: int) -> int:
    message = str(error) if isinstance(error, LongActError) else f"{type(error).__name__}: {error}"
    if is_disk_full(error, directory.path):
        message = disk_full_message(directory.path)
    line = redact(" ".join(message.split()))
    with suppress(OSError):
        sys.stderr.write(f"error: {line}\n")
    failed = replace(
        read_status(directory),
        state="failed",
        error=line,
        exit_code=code,
        failure=classify(error, line),
        finished=time.time(),
    )
    with suppress(OSError):
        # On a full disk the exit code alone says it.
        write_status(directory, failed)
    return code


def _die_with_parent() -> None:
    """Stop this process group when the lifeline (standard input) closes.

    Only in a process that was started with a pipe, so that a cell can be run by hand.
    """
    if sys.stdin is None or sys.stdin.isatty() or not _is_pipe():
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="lifeline").start()


def _is_pipe() -> bool:
    return stat.S_ISFIFO(os.fstat(0).st_mode) and os.getpgrp() == os.getpid()
