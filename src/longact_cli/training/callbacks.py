"""What a training run leaves behind while it runs: a journal of metrics, progress, mask reports."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from longact_cli.files import append_lines, read_json, read_lines, write_json, write_text
from longact_cli.masking.report import StepReport
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.results import MetricPoint
from longact_cli.training.dynamic_sampling import RefillPrompts

MASK_FILE = "mask.safetensors"
PROMPTS_FILE = "prompts.json"
Progress = Callable[[int, int], None]

_NAMES = {
    "rewards/accuracy/mean": "accuracy",
    "clip_ratio/region_mean": "clip_fraction",
    "clip_ratio/low_mean": "clip_fraction_low",
    "clip_ratio/high_mean": "clip_fraction_high",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_fraction",
    "step_time": "rollout_and_backward_seconds",
}
_DROPPED = ("epoch", "train_", "total_flos")


class JournalCallback(TrainerCallback):  # type: ignore[misc]
    """Appends every logged metric to a file, flushed to the disk at each log."""

    def __init__(self, path: Path) -> None:
        """Write to `path`; call `rewind` first where a run is resumed."""
        self._path = path
        self._started = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start the clock of this optimizer step."""
        self._started = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Append the finite numbers of one log."""
        if not state.is_world_process_zero or not logs or "grad_norm" not in logs:
            return
        seconds = time.perf_counter() - self._started
        points = [
            *metric_points(state.global_step, logs),
            MetricPoint(state.global_step, "step_seconds", seconds),
        ]
        append_lines(self._path, [point._asdict() for point in points])


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Reports finished and total optimizer steps."""

    def __init__(self, report: Progress) -> None:
        """Call `report(done, total)` after every step."""
        self._report = report

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Report the step that just ended."""
        self._report(state.global_step, state.max_steps)


class MaskCallback(TrainerCallback):  # type: ignore[misc]
    """Closes the row mask's step after the optimizer, saves the mask, removes the hooks."""

    def __init__(self, schedule: MaskSchedule) -> None:
        """Follow the masks of `schedule`."""
        self._schedule = schedule
        self._report: StepReport | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hold masked rows still where the mask's semantics are strict."""
        if self._schedule.settings.update_semantics == "strict":
            self._schedule.row_mask.hold(kwargs["optimizer"])

    def take_report(self) -> StepReport | None:
        """Return the report of the last step once."""
        report, self._report = self._report, None
        return report

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Compare the weights with those before the step."""
        self._report = self._schedule.finish_step()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Put the mask into the checkpoint."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._schedule.save(folder / MASK_FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Leave the model without hooks."""
        self._schedule.stop()


class PromptsCallback(TrainerCallback):  # type: ignore[misc]
    """Puts the position among the prompts of dynamic sampling into every checkpoint."""

    def __init__(self, refill: RefillPrompts) -> None:
        """Follow `refill`."""
        self._refill = refill

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Write the position."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / PROMPTS_FILE, {"position": self._refill.position})


def read_position(path: Path) -> int:
    """Return the position that a checkpoint holds; 0 where it has none."""
    stored = read_json(path)
    return int(stored["position"]) if stored else 0


def metric_points(step: int, logs: Mapping[str, object]) -> Iterator[MetricPoint]:
    """Yield the finite numbers of a trainer's log under this project's names."""
    for name, value in logs.items():
        if isinstance(value, int | float) and math.isfinite(value):
            if not name.startswith(_DROPPED):
                yield MetricPoint(step, _NAMES.get(name, name), float(value))


def rewind(path: Path, step: int) -> None:
    """Drop points after `step`: a resumed run logs them again."""
    rows = [row for row in read_lines(path) if row["step"] <= step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
