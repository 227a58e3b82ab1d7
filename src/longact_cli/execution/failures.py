"""Why a cell failed, whether another try can help, and what to change where it cannot."""

import re
import time
from dataclasses import replace

from longact_cli.cells import Status
from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.execution.base import EXIT_LOST
from longact_cli.results import Stage

# Nothing in the cell causes these; the same cell may well succeed next time.
TRANSIENT = frozenset({"signal", "preempted", "accelerator"})
_KILL = 9
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|can't allocate memory"
    r"|MemoryError|oom[-_ ]kill|No available memory for the cache blocks",
    re.IGNORECASE,
)
_RANK_KILLED = re.compile(r"rank \d+ died of SIG")
# NCCL's own errors, uncorrectable memory errors and GPUs that the driver has lost (Xid 48, 63, 79,
# https://docs.nvidia.com/deploy/xid-errors/).
_ACCELERATOR = re.compile(
    r"nccl\w*(System|Internal|Remote|UnhandledCuda)Error|NCCL (error|timeout)"
    r"|ProcessGroupNCCL.*(watchdog|timeout)|watchdog caught collective operation timeout"
    r"|uncorrectable ECC|ECC error|fallen off the bus|GPU is lost|hardware error",
    re.IGNORECASE,
)


def classify(error: BaseException | None, text: str) -> str:
    """Return the class of a failure that the cell's own process has seen.

    Args:
        error: What was raised, None where only the text is known.
        text: The message, and what was printed with it.
    """
    if isinstance(error, ConfigError):
        return "config"
    if isinstance(error, PrerequisiteError):
        return "environment"
    if _RANK_KILLED.match(text):
        return "signal"
    named = f"{type(error).__name__}: {text}" if error is not None else text
    if _OUT_OF_MEMORY.search(named):
        return "oom"
    return "accelerator" if _ACCELERATOR.search(named) else "error"


def memory_hint(stage: Stage, config: RunConfig) -> str:
    """Name the settings that lower the memory of a cell, with their values now."""
    if stage == "eval":
        return f"out of memory: lower benchmark.batch_size (now {config.benchmark.batch_size})"
    algorithm = config.algorithm
    key = "micro_batch_tokens" if algorithm.fills_tokens else "micro_batch_size"
    hint = f"out of memory: lower algorithm.{key} (now {getattr(algorithm, key)})"
    if not algorithm.gradient_checkpointing:
        hint += " or set algorithm.gradient_checkpointing=true"
    return hint


def ended(status: Status, code: int) -> Status:
    """Return the final status of a cell whose process ended with `code`.

    The child writes `done` or `failed` itself; a child that died without a word has failed, and
    an exit code of 0 without a finished cell is a failure too.
    """
    finished = status.finished or time.time()
    if status.state == "done" and code == 0:
        return replace(status, exit_code=0, finished=finished)
    if status.state == "interrupted":
        return replace(status, exit_code=code, finished=finished)
    if status.state == "failed" and status.failure is not None:
        return replace(status, exit_code=status.exit_code or code, finished=finished)
    error = status.error or f"{_reason(code)}; see stderr.log"
    return replace(
        status,
        state="failed",
        exit_code=code if code < EXIT_LOST else None,
        error=error,
        failure=_class_of(code),
        finished=finished,
    )


def cancelled(status: Status) -> Status:
    """Return the status of a cell that a person has called off; a finished one stays finished."""
    if status.state == "done":
        return status
    error = "cancelled; run the same command again to continue it"
    return replace(status, state="interrupted", error=error, failure=None)


def blocked(status: Status, parent: Status) -> Status:
    """Return the status of an evaluation whose training, in the state `parent`, is not done."""
    reason = "its training did not finish"
    if parent.state == "failed":
        reason += ": fix the cause, then the same command with --retry-failed goes on"
    else:
        reason += f" ({parent.state}): the same command goes on"
    return replace(status, state="blocked", error=reason, exit_code=None, failure=None)


def _class_of(code: int) -> str:
    if code == EXIT_LOST:
        return "preempted"
    return "signal" if code < 0 else "error"


def _reason(code: int) -> str:
    if code == EXIT_LOST:
        return "its job ended without a word (preempted, out of time, or its node was lost)"
    if code == -_KILL:
        return "killed by signal 9 (the kernel does this, too, when memory runs out)"
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
