"""`longact _cell DIR`: run the cell in a directory. Executors call it, people need not."""

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
