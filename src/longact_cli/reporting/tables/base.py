"""The registry of tables, and what all of them say about missing cells and intervals."""

from collections.abc import Callable, Iterable, Sequence
from shlex import quote

from longact_cli.registry import Registry
from longact_cli.reporting.arms import Arm
from longact_cli.reporting.frame import Missing, Study
from longact_cli.reporting.table import Provenance, Table

TableBuilder = Callable[[Study, Provenance], Table]
TABLES: Registry[TableBuilder] = Registry("report.table")

_FEW_SEEDS = 3
_MOST_MISSING = 20


def missing_lines(study: Study) -> tuple[str, ...]:
    """Return a line for each cell that is not part of the numbers, and how to fill them.

    Cells that the same command fills stand above it.
    """
    lines = []
    by_command: dict[str, list[Missing]] = {}
    for cell in study.missing:
        by_command.setdefault(cell.command, []).append(cell)
    for command, cells in by_command.items():
        lines += [
            f"{cell.label} ({cell.digest[:12]}): {cell.state}, {cell.reason}"
            for cell in cells[:_MOST_MISSING]
        ]
        if len(cells) > _MOST_MISSING:
            lines.append(f"and {len(cells) - _MOST_MISSING} more; runs.csv lists all")
        retry = any(cell.retry for cell in cells) and "--retry-failed" not in command
        lines.append(f"to fill: {command}{' --retry-failed' if retry else ''}")
    return tuple(lines)


def gap(study: Study, what: str, command: str) -> str:
    """Return the line below a table for a place that no cell was planned for."""
    return f"{what}: not planned; to fill: longact {command} --study {quote(study.name)}"


def common_notes(study: Study, arms: Sequence[Arm]) -> tuple[str, ...]:
    """Return what a reader must know of every table: units, intervals, seeds, the micro model."""
    notes = [
        "Sparsity is the fraction of query/key rows that are updated (1 = dense training); "
        "n counts the questions with a scored answer.",
        _interval_note(arms),
    ]
    if any(arm.section.model == "micro" for arm in arms):
        notes.append(
            "The micro model shows that the pipeline works; its numbers are no evidence for or "
            "against the effect reported in the paper."
        )
    if study.missing:
        notes.append("Cells without a result are shown as -- or left out, and are listed below.")
    return tuple(notes)


def _interval_note(arms: Iterable[Arm]) -> str:
    counts = [len(arm.seeds) for arm in arms if arm.sparsity is not None and arm.seeds]
    if not counts or max(counts) == 1:
        seeds = "one training seed" if counts else "no training"
        return (
            f"Brackets are 95 % intervals over questions only ({seeds}): they say nothing about "
            "the variation between seeds."
        )
    note = (
        "Brackets are 95 % intervals from resampling seeds and questions (crossed, questions "
        "within task and length), for differences t intervals over seeds and questions, paired on "
        "shared questions and seeds."
    )
    if min(counts) < _FEW_SEEDS:
        note += (
            f" Arms with fewer than {_FEW_SEEDS} seeds: the interval says nothing reliable about "
            "the variation between seeds."
        )
    return note
