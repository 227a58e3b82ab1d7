"""The registry of tables, and what all of them say about missing cells and intervals."""

from collections.abc import Callable, Iterable, Sequence

from longact_cli.registry import Registry
from longact_cli.reporting.arms import Arm
from longact_cli.reporting.frame import Study
from longact_cli.reporting.table import Provenance, Table

TableBuilder = Callable[[Study, Provenance], Table]
TABLES: Registry[TableBuilder] = Registry("report.table")

_FEW_SEEDS = 3


def missing_lines(study: Study) -> tuple[str, ...]:
    """Return one line for each cell that is not part of the numbers."""
    return tuple(
        f"{cell.label} ({cell.digest[:12]}): {cell.state}, {cell.reason}" for cell in study.missing
    )


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
        "within task and length); differences are paired on shared questions and seeds."
    )
    if min(counts) < _FEW_SEEDS:
        note += (
            f" Arms with fewer than {_FEW_SEEDS} seeds: the interval says nothing reliable about "
            "the variation between seeds."
        )
    return note
