"""The state of every cell of a store, read from disk, and one of them by name."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import CellDir, Status, list_cells, peek_status
from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.failures import cancelled
from longact_cli.execution.job import read_job
from longact_cli.execution.slurm_queue import waiting_reasons
from longact_cli.files import read_json
from longact_cli.holding import is_held
from longact_cli.plan import Named, distinct_labels, flatten
from longact_cli.tracking.plans import is_plan_held, read_plans

_SHORTEST = 4
_SHOWN = 5
_START_SECONDS = 30.0


class Row(NamedTuple):
    """One cell of a store; `queued`: it waits in a cluster's queue."""

    digest: str
    label: str
    status: Status
    directory: CellDir
    queued: bool = False


def overview(runs_dir: Path) -> tuple[Row, ...]:
    """Return every cell with its state; `running` only where a live process owns it.

    Results are not checked: a store of thousands of cells answers at once.
    """
    called_off = CellsCancelled(runs_dir).names()
    rows: list[Row] = []
    named: list[Named] = []
    for directory in list_cells(runs_dir):
        cell = read_json(directory.path / "cell.json")
        if isinstance(cell, dict) and {"digest", "label"} <= cell.keys():
            status = current_status(directory)
            if status.state == "pending" and directory.path.name in called_off:
                status = cancelled(status)
            rows.append(Row(cell["digest"], cell["label"], status, directory))
            config = cell.get("config")
            settings = config if isinstance(config, dict) else {}
            named.append(Named(cell["digest"], cell["label"], cell.get("arm", ""), settings))
    labels = distinct_labels(_flat(named))
    rows = [row._replace(label=labels[row.digest]) for row in rows]
    return tuple(sorted(_with_queue(rows), key=lambda row: row.label))


def _flat(cells: Sequence[Named]) -> Iterator[Named]:
    """Spell the settings out where a name is not enough; a store may hold thousands of cells."""
    count = Counter(cell.label for cell in cells)
    for cell in cells:
        settings = flatten(cell.settings) if count[cell.label] > 1 else {}
        yield cell._replace(settings=settings)


def _with_queue(rows: Sequence[Row]) -> Iterator[Row]:
    """Say of each cell that waits in Slurm's queue why it does, in Slurm's own word."""
    waiting = [row for row in rows if row.status.state == "pending"]
    records = {row.digest: read_job(row.directory) for row in waiting}
    jobs = {digest: record.job for digest, record in records.items() if record is not None}
    reasons = (waiting_reasons() if jobs else None) or {}
    for row in rows:
        reason = reasons.get(jobs.get(row.digest, ""))
        if reason is None:
            yield row
            continue
        # Slurm's word for a job that has its node: its cell has yet to say that it runs.
        why = "starting" if reason == "None" else reason
        text = f"in Slurm's queue as {jobs[row.digest]}: {why}"
        yield row._replace(status=replace(row.status, error=text), queued=True)


def current_status(directory: CellDir) -> Status:
    """Return where a cell stands; one that says `running` and has no process was interrupted.

    A process that was just started owns its cell only once Python is up.
    """
    status = peek_status(directory)
    if status.state != "running" or is_held(directory):
        return status
    young = status.started is not None and time.time() - status.started < _START_SECONDS
    if young and any_plan_held(directory.runs_dir):
        return status
    # It may have come up, or ended, between the two looks.
    status = peek_status(directory)
    if status.state != "running" or is_held(directory):
        return status
    return replace(status, state="interrupted")


def at_work(runs_dir: Path, rows: Sequence[Row]) -> bool:
    """Return whether a process runs a cell or a plan of this store, or a cluster will."""
    if any(row.status.state == "running" or row.queued for row in rows):
        return True
    return any_plan_held(runs_dir)


def any_plan_held(runs_dir: Path) -> bool:
    """Return whether a process is at work on a plan of this store."""
    return any(is_plan_held(runs_dir, plan.digest) for plan in read_plans(runs_dir))


def find_row(runs_dir: Path, word: str) -> Row:
    """Return the cell that `word` names: the start of its digest, its name, or words of its name.

    Raises:
        NotFoundError: There is none; the closest name is offered.
        ConfigError: There are several.
    """
    rows = overview(runs_dir)
    if not rows:
        raise NotFoundError(f"--runs-dir is {runs_dir}; it holds no cells: run `longact ablate`")
    found = _matches(rows, word.strip())
    if len(found) == 1:
        return found[0]
    if found:
        some = "; ".join(f"{row.digest[:12]} {row.label}" for row in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ConfigError(f"'{word}' names {len(found)} cells: {some}{more}; give one digest")
    known = [name for row in rows for name in (row.label, row.digest[:12])]
    close = get_close_matches(word, known, n=1, cutoff=0.4)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise NotFoundError(
        f"there is no cell '{word}' in {runs_dir}; `longact status` lists {len(rows)}.{hint}"
    )


def _matches(rows: Sequence[Row], word: str) -> list[Row]:
    exact = [row for row in rows if row.label == word]
    if exact:
        return exact
    if len(word) >= _SHORTEST and (found := [row for row in rows if row.digest.startswith(word)]):
        return found
    words = word.split()
    return [row for row in rows if words and set(words) <= set(row.label.split())]
