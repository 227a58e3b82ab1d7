"""The state of every cell of a store, read from disk."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from longact_cli.cells import Status, is_held, list_cells, read_status
from longact_cli.files import read_json


class Row(NamedTuple):
    """One cell of a store."""

    digest: str
    label: str
    status: Status


def overview(runs_dir: Path) -> tuple[Row, ...]:
    """Return every cell with its state; `running` only where a live process owns it."""
    rows: list[Row] = []
    for directory in list_cells(runs_dir):
        cell = read_json(directory.path / "cell.json")
        if cell is None:
            continue
        status = read_status(directory)
        if status.state == "running" and not is_held(directory):
            status = replace(status, state="interrupted")
        rows.append(Row(cell["digest"], cell["label"], status))
    return tuple(sorted(rows, key=lambda row: row.label))
