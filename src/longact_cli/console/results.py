"""The scores of an evaluation."""

from collections.abc import Sequence
from math import isnan

from rich.table import Table
from rich.text import Text

from longact_cli.console.output import Output
from longact_cli.plan import Cell
from longact_cli.reporting.summary import ScoreLine


def show_eval(output: Output, cell: Cell, lines: Sequence[ScoreLine]) -> None:
    """Print the scores of one evaluation in percent."""
    table = Table(title=Text(cell.label), title_justify="left")
    for name in ("task", "length", "score %", "95 % interval", "n", "failed", "truncated"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for line in lines:
        output.data({"event": "score", "cell": cell.digest, **_finite(line)})
        known = not isnan(line.score)
        table.add_row(
            Text(line.task),
            "" if line.context_length is None else str(line.context_length),
            f"{100 * line.score:.1f}" if known else "--",
            f"{100 * line.low:.1f} to {100 * line.high:.1f}" if known else "--",
            str(line.n_scored),
            str(line.n_failed),
            str(line.n_truncated),
        )
    output.show(table)


def _finite(line: ScoreLine) -> dict[str, str | int | float | None]:
    """Return the line as JSON has it: null instead of NaN."""
    fields = line._asdict().items()
    return {k: None if isinstance(v, float) and isnan(v) else v for k, v in fields}
