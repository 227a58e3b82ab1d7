"""Stopping a training run between two steps with a checkpoint, when its process is told to end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from longact_cli.errors import CellStoppedError

_STOP = "STOP"


class StopCallback(TrainerCallback):  # type: ignore[misc]
    """Saves and ends the run once a stop was asked for.

    Only at a step at which a regular checkpoint could lie, so that the run that goes on is the one
    that would have been. Of several processes the first one looks, and the others do what it saw:
    a stop that is asked for between two looks would otherwise end some and leave the rest waiting.
    """

    def __init__(self, out: Path, *, every: int) -> None:
        """Stop the run in `out` at a multiple of `every` steps."""
        self._stop = out / _STOP
        self._every = every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Ask for a checkpoint and the end of the run."""
        last = state.global_step >= state.max_steps
        if last or state.global_step % self._every:
            return
        if _seen_by_first(self._stop, args):
            control.should_save = True
            control.should_training_stop = True


def _seen_by_first(marker: Path, args: TrainingArguments) -> bool:
    """Return whether the marker is there, as the first process sees it; a collective call."""
    if args.world_size == 1:
        return marker.exists()
    seen = torch.tensor([args.process_index == 0 and marker.exists()], device=args.device)
    dist.broadcast(seen, src=0)
    return bool(seen.item())


@contextmanager
def stoppable(out: Path) -> Iterator[None]:
    """Turn the first SIGTERM while the block runs into a stop at the next possible step.

    A second one ends the process at once. Must be entered by the main thread.
    """
    marker = out / _STOP
    marker.unlink(missing_ok=True)

    def ask(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        marker.touch()

    previous = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        marker.unlink(missing_ok=True)


def refuse_if_stopped(out: Path, *, step: int, steps: int) -> None:
    """End a run that was stopped before its last step.

    Raises:
        CellStoppedError: It was; its last step has a checkpoint.
    """
    if step < steps and (out / _STOP).exists():
        raise CellStoppedError(f"stopped with a checkpoint at step {step} of {steps}")
