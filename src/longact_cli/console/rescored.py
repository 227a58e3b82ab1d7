"""The scores of stored predictions."""

from rich.table import Table

from longact_cli.console.output import Output
from longact_cli.evaluation.rescore import RescoreSummary


def show_rescored(output: Output, summary: RescoreSummary) -> None:
    """Print the mean of each task in percent, its counts, and the aggregates."""
    table = Table(title=f"{summary.benchmark}, scorer {summary.scorer}", title_justify="left")
    for name in ("task", "length", "score %", "n", "failed", "empty", "unparsed"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for task in summary.tasks:
        table.add_row(
            task.task,
            "" if task.context_length is None else str(task.context_length),
            _percent(task.score),
            str(task.n_scored),
            str(task.n_failed),
            str(task.n_empty),
            str(task.n_unparsed),
        )
    for one in summary.aggregates:
        table.add_row(one.name, "", _percent(one.score), str(one.n), "", "", "")
    output.show(table)
    for note in summary.notes:
        output.note(note)


def _percent(score: float | None) -> str:
    return "--" if score is None else f"{100 * score:.2f}"
