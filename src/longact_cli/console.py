"""Everything the user sees: plans, progress, tables, errors. The only place that prints."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longact_cli.cells import Status, cell_dir
from longact_cli.errors import LongActError
from longact_cli.execution.estimate import Estimate
from longact_cli.execution.overview import Row
from longact_cli.execution.runner import Outcome
from longact_cli.files import read_json
from longact_cli.plan import Cell, Plan

_STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "blocked": "yellow",
    "interrupted": "yellow",
    "pending": "dim",
}
_REFRESH_SECONDS = 0.5


@dataclass(frozen=True)
class Output:
    """How to talk: to a person (rich) or to a script (`json`), and how much."""

    json: bool = False
    quiet: bool = False
    color: bool = True

    @property
    def out(self) -> Console:
        """Results go here."""
        return Console(no_color=not self.color, highlight=False, soft_wrap=not sys.stdout.isatty())

    @property
    def err(self) -> Console:
        """Progress and errors go here."""
        return Console(stderr=True, no_color=not self.color, highlight=False)

    def show(self, renderable: RenderableType) -> None:
        """Print a result for a person."""
        if not self.json:
            self.out.print(renderable)

    def note(self, text: str) -> None:
        """Print a remark on standard error, unless told to be quiet."""
        if not self.json and not self.quiet:
            self.err.print(text, markup=False, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print one JSON line for a script."""
        if self.json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def error(self, error: LongActError) -> None:
        """Print an error: one line for a person, or one object for a script."""
        if self.json:
            self.data({"error": str(error), "exit_code": error.exit_code})
            return
        self.err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)


def show_plan(output: Output, plan: Plan, cost: Estimate) -> None:
    """Print every cell of a plan and what is left to pay."""
    table = Table(title=f"study {plan.study}: {len(plan.cells)} cells", title_justify="left")
    for name in ("digest", "stage", "model", "algorithm", "mask", "sparsity", "seed", "why"):
        table.add_column(name, justify="right" if name in ("sparsity", "seed") else "left")
    for cell in plan.cells:
        table.add_row(*_plan_row(cell))
        output.data({"event": "cell", **_plan_object(cell)})
    output.show(table)
    output.show(cost_line(cost))
    output.data({"event": "estimate", **vars(cost)})


def _plan_row(cell: Cell) -> tuple[str, ...]:
    trained = cell.sparsity is not None
    stage = cell.stage if cell.stage == "train" else f"eval {cell.config.benchmark.name}"
    return (
        cell.digest[:12],
        stage,
        cell.config.model.name,
        cell.config.algorithm.name if trained else "",
        cell.arm,
        f"{cell.sparsity:g}" if cell.sparsity is not None else "",
        str(cell.config.seed) if trained else "",
        ", ".join(cell.asked_by),
    )


def _plan_object(cell: Cell) -> dict[str, Any]:
    return {
        "digest": cell.digest,
        "stage": cell.stage,
        "label": cell.label,
        "arm": cell.arm,
        "sparsity": cell.sparsity,
        "seed": cell.config.seed,
        "parent": cell.parent,
        "asked_by": list(cell.asked_by),
    }


def cost_line(cost: Estimate) -> str:
    """Say what is left of a plan."""
    if not cost.cells:
        return f"all {cost.finished} cells are finished; nothing to run"
    time_text = (
        f"about {duration(cost.seconds)} (from finished cells of this kind)"
        if cost.seconds is not None
        else "time unknown until a cell of each kind has finished"
    )
    return (
        f"{cost.cells} cells to run, {cost.finished} finished; "
        f"at most {cost.tokens / 1e6:.1f} M tokens; {time_text}"
    )


def duration(seconds: float) -> str:
    """Return a time span as people write it, e.g. `3 min 20 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class PlanProgress:
    """Follows a running plan: a live table on a terminal, plain lines elsewhere."""

    def __init__(self, output: Output, plan: Plan, runs_dir: Path, *, slots: int) -> None:
        """Prepare to follow `plan`."""
        self._output = output
        self._plan = plan
        self._runs_dir = runs_dir
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
            self._failure = f"{cell.label}: {status.error}"
        if self._lines:
            self._line(cell, status)

    def tick(self, running: Sequence[Cell]) -> None:
        """Refresh the table, at most twice a second."""
        if self._live is None or self._output.quiet or time.time() - self._last < _REFRESH_SECONDS:
            return
        self._last = time.time()
        self._live.update(self._render(running), refresh=True)

    def _line(self, cell: Cell, status: Status) -> None:
        event = {"event": "state", "digest": cell.digest, "label": cell.label}
        self._output.data({**event, "state": status.state, "error": status.error})
        finished = sum(s.state not in ("running", "pending") for s in self._states.values())
        text = f"[{finished}/{len(self._plan.cells)}] {cell.label}: {status.state}"
        if status.state == "done" and status.started and status.finished:
            text += f" in {duration(status.finished - status.started)}"
            left = self._eta()
            text += f", about {duration(left)} left" if left else ""
        self._output.note(text + (f" ({status.error})" if status.error else ""))

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
        counts: dict[str, int] = {}
        for cell in self._plan.cells:
            state = self._states.get(cell.digest, Status("pending")).state
            counts[state] = counts.get(state, 0) + 1
        summary = Text(f"{self._plan.study}  ")
        for state, number in counts.items():
            summary.append(f"{state} {number}  ", style=_STYLES[state])
        left = self._eta()
        if left:
            summary.append(f"about {duration(left)} left", style="dim")
        table = Table.grid(padding=(0, 2))
        for cell in running:
            table.add_row(cell.label, *self._bar(cell))
        parts: list[RenderableType] = [summary, table]
        if self._failure:
            parts.append(Text(f"last failure: {self._failure}", style="red"))
        return Group(*parts)

    def _bar(self, cell: Cell) -> tuple[RenderableType, str]:
        progress = read_json(cell_dir(self._runs_dir, cell.digest).progress)
        started = self._states[cell.digest].started or time.time()
        elapsed = time.time() - started
        if not progress:
            return Text("starting", style="dim"), duration(elapsed)
        done, total = progress["done"], progress["total"]
        left = elapsed * (total - done) / done if done else 0.0
        bar = ProgressBar(total=total, completed=done, width=30)
        return bar, f"{done}/{total}  {duration(elapsed)} < {duration(left)}"


def show_outcome(output: Output, plan: Plan, outcome: Outcome, details: Mapping[str, str]) -> None:
    """Print how a plan ended: counts, each failure in one line, what to do next."""
    output.data({"event": "end", "interrupted": outcome.interrupted, "states": outcome.states})
    labels = {cell.digest: cell.label for cell in plan.cells}
    for digest, state in outcome.states.items():
        if state == "failed":
            output.note(f"failed: {labels[digest]}: {details.get(digest, '')}")
    done = outcome.count("done")
    line = f"{done} of {len(plan.cells)} cells done"
    for state in ("failed", "blocked", "interrupted"):
        if outcome.count(state):  # type: ignore[arg-type]
            line += f", {outcome.count(state)} {state}"  # type: ignore[arg-type]
    if outcome.interrupted:
        line += "; run the same command again to continue"
    elif outcome.count("failed"):
        line += "; fix the cause and run again with --retry-failed"
    output.note(line)


def show_cells(output: Output, rows: Sequence[Row]) -> None:
    """Print the cells of a store."""
    table = Table()
    for name in ("digest", "cell", "state", "tries", "time", "error"):
        table.add_column(name, overflow="fold")
    for row in rows:
        status = row.status
        spent = (status.finished or time.time()) - status.started if status.started else None
        output.data({"digest": row.digest, "label": row.label, **vars(status)})
        table.add_row(
            row.digest[:12],
            row.label,
            Text(status.state, style=_STYLES[status.state]),
            str(status.attempt),
            duration(spent) if spent is not None and status.state in ("done", "running") else "",
            status.error or "",
        )
    output.show(table)


@contextmanager
def step_progress(output: Output, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with an ETA for one long task; yields `report(done, total)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    hidden = output.quiet or output.json
    with Progress(*columns, TimeRemainingColumn(), console=output.err, disable=hidden) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
