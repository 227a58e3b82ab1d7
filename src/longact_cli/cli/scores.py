"""The scores of finished eval cells, with intervals, as `longact eval` prints them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longact_cli.console.output import Output
    from longact_cli.plan import Plan


def show_scores(output: "Output", plan: "Plan", runs_dir: Path) -> None:
    """Print score, 95 % interval and counts for each task and length, and their mean."""
    from longact_cli.cells import cell_dir, read_samples
    from longact_cli.console.results import show_eval
    from longact_cli.reporting.summary import summarise

    for cell in plan.cells:
        directory = cell_dir(runs_dir, cell.digest)
        show_eval(output, cell, summarise(tuple(read_samples(directory))))
        output.note(f"answers: {directory.samples}")
