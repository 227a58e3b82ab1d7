"""What an evaluation will ask, before it asks, and what stored predictions score."""

from collections.abc import Sequence

from rich.table import Table

from longact_cli.console.output import Output, duration
from longact_cli.evaluation.duration import Duration
from longact_cli.evaluation.workload import TaskLoad


def show_workload(output: Output, title: str, loads: Sequence[TaskLoad], *, exact: bool) -> None:
    """Print samples and tokens of each task and length; without `exact` they are upper bounds."""
    heading = title if exact else f"{title} (at most)"
    table = Table(title=heading, title_justify="left")
    for name in ("task", "length", "samples", "tokens in", "tokens out", "fill %", "truncated"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for load in loads:
        output.data({"event": "workload", "exact": exact, **load._asdict()})
        table.add_row(
            load.task,
            str(load.context_length),
            str(load.samples),
            f"{load.prompt_tokens:,}",
            f"{load.generated_tokens:,}",
            "" if load.fill is None else f"{100 * load.fill:.1f}",
            "" if load.truncated is None else str(load.truncated),
        )
    output.show(table)


def show_duration(output: Output, found: Duration) -> None:
    """Print how long the answers take, and how that is known."""
    output.data({"event": "duration", **found._asdict()})
    text = found.source if found.seconds is None else f"about {duration(found.seconds)}"
    source = "" if found.seconds is None else f" ({found.source})"
    output.show(f"time for the answers: {text}{source}")
