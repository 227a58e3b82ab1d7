"""The cells of a store, once or as they change."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from longact_cli.console.output import STATE_STYLES, Output, duration
from longact_cli.console.progress import progress_bar
from longact_cli.execution.overview import Row

_REFRESH_SECONDS = 1.0
_SHOWN_FAILURES = 5
_HEADINGS = ("digest", "cell", "state", "tries", "time", "error")
_GAP = 2

Look = Callable[[], tuple[Sequence[Row], bool]]


def show_cells(output: Output, rows: Sequence[Row]) -> None:
    """Print the cells of a store, then how many are in each state."""
    for row in rows:
        output.data(_object(row))
    if output.json:
        return
    lines = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = Text()
    for number, line in enumerate(lines):
        style = "bold" if number == 0 else STATE_STYLES[rows[number - 1].status.state]
        for name, value, width in zip(_HEADINGS, line, widths, strict=True):
            last = name == _HEADINGS[-1]
            padded = value if last else value.ljust(width + _GAP)
            text.append(padded, style=style if name == "state" or number == 0 else None)
        text.append("\n")
    # One text without wrapping: a table of a thousand rows would take a second to lay out.
    output.out.print(text, soft_wrap=True, end="")
    output.show(_summary(rows))


def _cells(row: Row) -> tuple[str, ...]:
    status = row.status
    error = " ".join((status.error or "").split())
    return row.digest[:12], row.label, status.state, str(status.attempt), _spent(row), error


def watch_cells(output: Output, look: Look, *, seconds: float = _REFRESH_SECONDS) -> None:
    """Follow the cells until nothing is at work: a live table, or a line for each change.

    Args:
        output: Where to print.
        look: Returns the cells, and whether anything is at work on them.
        seconds: Time between two looks.
    """
    if output.json or not output.out.is_terminal:
        _watch_lines(output, look, seconds)
        return
    with Live(console=output.out, auto_refresh=False) as live:
        while True:
            rows, at_work = look()
            live.update(_render(rows), refresh=True)
            if not at_work:
                return
            time.sleep(seconds)


def _watch_lines(output: Output, look: Look, seconds: float) -> None:
    known: dict[str, str] = {}
    while True:
        rows, at_work = look()
        for row in rows:
            if known.get(row.digest) != row.status.state:
                output.data(_object(row))
                if known or row.status.state == "running":
                    output.show(_line(row))
                known[row.digest] = row.status.state
        if not at_work:
            output.show(_summary(rows))
            return
        time.sleep(seconds)


def _line(row: Row) -> Text:
    spent, error = _spent(row), row.status.error
    text = f"{row.digest[:12]} {row.label}: {row.status.state}"
    return Text(text + (f" in {spent}" if spent else "") + (f" ({error})" if error else ""))


def _object(row: Row) -> dict[str, Any]:
    return {"digest": row.digest, "label": row.label, **vars(row.status)}


def _spent(row: Row) -> str:
    status = row.status
    if status.started is None or status.state not in ("done", "running"):
        return ""
    return duration((status.finished or time.time()) - status.started)


def _summary(rows: Sequence[Row]) -> Text:
    counts = Counter(row.status.state for row in rows)
    parts = [(f"{number} {state}", STATE_STYLES[state]) for state, number in counts.items()]
    joined: list[tuple[str, str]] = [("", "")]
    for part in parts:
        joined += [part, (", ", "")]
    return Text.assemble(f"{len(rows)} cells: ", *joined[:-1])


def _render(rows: Sequence[Row]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        if row.status.state == "running":
            bar, text = progress_bar(row.directory, started=row.status.started)
            table.add_row(row.digest[:12], Text(row.label), bar, text)
    failed = [row for row in rows if row.status.state == "failed"]
    lines = [Text(f"failed: {row.label}: {row.status.error}", style="red") for row in failed]
    return Group(_summary(rows), table, *lines[-_SHOWN_FAILURES:])
