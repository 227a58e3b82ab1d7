"""Progress while something runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longact_cli.cells import CellDir, State, Status, cell_dir
from longact_cli.console.output import STATE_STYLES, Output, duration
from longact_cli.files import read_json
from longact_cli.plan import Cell, Plan, plan_labels

_REFRESH_SECONDS = 0.5


class PlanProgress:
    """Follows a running plan: a live table on a terminal, plain lines elsewhere."""

    def __init__(self, output: Output, plan: Plan, runs_dir: Path, *, slots: int) -> None:
        """Prepare to follow `plan`."""
        self._output = output
        self._plan = plan
        self._runs_dir = runs_dir
        self._labels = plan_labels(plan)
        self._slots = slots
        self._states: dict[str, Status] = {}
        self._seconds: dict[str, list[float]] = {"train": [], "eval": []}
        self._failure = ""
        self._last = 0.0
        console = output.err
        self._lines = output.json or not console.is_terminal
        self._live = None if self._lines else Live(console=console, auto_refresh=False)

    def __enter__(self) -> "PlanProgress":
        """Start the live table."""
        if self._live and not self._output.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state of the table on the screen."""
        if self._live and not self._output.quiet:
            self._live.update(self._render(()), refresh=True)
            self._live.stop()

    def changed(self, cell: Cell, status: Status) -> None:
        """Take note of a cell's new state."""
        self._states[cell.digest] = status
        if status.state == "done" and status.started and status.finished:
            self._seconds[cell.stage].append(status.finished - status.started)
        if status.state == "failed":
            self._failure = f"{self._labels[cell.digest]}: {status.error}"
        if self._lines:
            self._line(cell, status)

    def tick(self, running: Sequence[Cell]) -> None:
        """Refresh the table, at most twice a second."""
        if self._live is None or self._output.quiet or time.time() - self._last < _REFRESH_SECONDS:
            return
        self._last = time.time()
        self._live.update(self._render(running), refresh=True)

    def stopping(self) -> None:
        """Say what is waited for."""
        self.warn("stopping: a training saves a checkpoint first; Ctrl-C again kills it")

    def warn(self, text: str) -> None:
        """Print a remark without tearing the live table; any thread may call it."""
        self._output.data({"event": "warning", "message": text})
        if self._live and self._live.is_started:
            self._live.console.print(Text(text), soft_wrap=True)
        else:
            self._output.note(text)

    def _line(self, cell: Cell, status: Status) -> None:
        label = self._labels[cell.digest]
        event = {"event": "state", "digest": cell.digest, "label": label}
        self._output.data({**event, "state": status.state, "error": status.error})
        finished = sum(s.state not in ("running", "pending") for s in self._states.values())
        text = f"[{finished}/{len(self._plan.cells)}] {label}: {status.state}"
        if status.state == "done" and status.started and status.finished:
            text += f" in {duration(status.finished - status.started)}"
            left = self._eta()
            text += f", about {duration(left)} left" if left else ""
        self._output.note(text + (f" ({status.error})" if status.error else ""))
        if status.state == "running":
            self._output.detail(f"    {cell_dir(self._runs_dir, cell.digest).path}")

    def _eta(self) -> float | None:
        """Estimate the remaining wall seconds from the median of finished cells."""
        left = [
            cell.stage
            for cell in self._plan.cells
            if self._states.get(cell.digest, Status("pending")).state in ("pending", "running")
        ]
        if any(not self._seconds[stage] for stage in left):
            return None
        return sum(median(self._seconds[stage]) for stage in left) / self._slots

    def _render(self, running: Sequence[Cell]) -> RenderableType:
        counts: dict[State, int] = {}
        for cell in self._plan.cells:
            state = self._states.get(cell.digest, Status("pending")).state
            counts[state] = counts.get(state, 0) + 1
        summary = Text(f"{self._plan.study}  ")
        for name, number in counts.items():
            summary.append(f"{name} {number}  ", style=STATE_STYLES[name])
        left = self._eta()
        if left:
            summary.append(f"about {duration(left)} left", style="dim")
        table = Table.grid(padding=(0, 2))
        for cell in running:
            directory = cell_dir(self._runs_dir, cell.digest)
            started = self._states[cell.digest].started
            table.add_row(
                Text(self._labels[cell.digest]), *progress_bar(directory, started=started)
            )
        parts: list[RenderableType] = [summary, table]
        if self._failure:
            parts.append(Text(f"last failure: {self._failure}", style="red"))
        return Group(*parts)


def progress_bar(directory: CellDir, *, started: float | None) -> tuple[RenderableType, str]:
    """Return a running cell's bar and its text: done of total, time spent, time left."""
    progress = read_json(directory.progress)
    elapsed = time.time() - (started or time.time())
    if not progress:
        return Text("starting", style="dim"), duration(elapsed)
    done, total = progress["done"], progress["total"]
    bar = ProgressBar(total=total, completed=done, width=30)
    text = f"{done}/{total}  {duration(elapsed)}"
    rate, left = progress.get("rate"), progress.get("seconds_left")
    if left is not None:
        text += f", {progress['tokens_per_second']:,.0f} tokens/s, {duration(left)} left"
    elif rate:
        text += f", {duration((total - done) / rate)} left"
    return bar, text


@contextmanager
def step_progress(output: Output, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with an ETA for one long task; yields `report(done, total)`."""
    with stage_progress(output) as report:
        yield lambda done, total: report(title, done, total)


@contextmanager
def stage_progress(output: Output) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with an ETA for each stage of a long task; yields `report(stage, done, total)`.

    Elsewhere than on a terminal nothing is shown: only its end would be printed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = output.quiet or output.json or not output.err.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=output.err, disable=hidden) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report
