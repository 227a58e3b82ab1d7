"""`longact _cell DIR` runs a cell, `longact _rank DIR` one of its processes: for executors."""

from pathlib import Path
from typing import Annotated

import typer


def run_one(directory: Annotated[Path, typer.Argument(help="The cell's directory.")]) -> None:
    """Run one prepared cell."""
    from longact_cli.cells import CellDir
    from longact_cli.execution.child import run_cell
    from longact_cli.redaction import redact_output

    redact_output()
    code = run_cell(CellDir(directory.resolve()))
    if code:
        raise typer.Exit(code)


def run_rank(
    directory: Annotated[Path, typer.Argument(help="The cell's directory.")],
    checkpoint: Annotated[str, typer.Argument(help="Folder of the starting weights.")],
    resume: Annotated[Path | None, typer.Argument(help="Checkpoint to continue from.")] = None,
) -> None:
    """Run one process of a cell that has several; the cell's own process starts it."""
    from longact_cli.cells import CellDir
    from longact_cli.execution import ranks

    ranks.run_rank(CellDir(directory), checkpoint=checkpoint, resume=resume)
