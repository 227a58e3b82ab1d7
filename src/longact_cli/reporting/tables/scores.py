"""Every score by itself: arm, task and context length, one row each."""

from collections.abc import Iterator
from itertools import groupby

from longact_cli.reporting.arms import Arm, estimate_score
from longact_cli.reporting.facets import length_part
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import entry_of, mark_notes, seeds_entry
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, missing_lines

_COLUMNS = (
    Column("arm", "Rows updated", "text"),
    Column("sparsity", "Sparsity", "text"),
    Column("task", "Task", "text"),
    Column("context_length", "Length", "count"),
    Column("metric", "Metric", "text"),
    Column("score", "Score %", "percent"),
    Column("seeds", "Seeds", "count"),
    Column("questions", "n", "count"),
    Column("failed", "Failed", "count"),
    Column("truncated", "Truncated", "count"),
)


@TABLES.register("scores")
def scores_table(study: Study, provenance: Provenance) -> Table:
    """Build the long table of scores; `truncated` counts answers to prompts that were cut."""
    arms = collect_arms(study)
    sections = tuple(
        Section(head.title, tuple(row for arm in group for row in _rows(arm)))
        for head, group in groupby(arms, key=lambda arm: arm.section)
    )
    return Table(
        name="scores",
        title=f"Scores by task and context length: {study.name}",
        columns=_COLUMNS,
        sections=sections,
        notes=(*common_notes(study, arms), *mark_notes(sections)),
        missing=missing_lines(study),
        provenance=provenance,
    )


def _rows(arm: Arm) -> Iterator[tuple[Entry, ...]]:
    for task, length in sorted({(q.task, q.context_length) for q in arm.questions}):
        yield _row(arm, task, length)


def _row(arm: Arm, task: str, length: int) -> tuple[Entry, ...]:
    part = length_part(length, task)
    score = estimate_score(arm, part)
    results = [
        result
        for cell in arm.cells
        for result in cell.results
        if (result.task, result.context_length) == (task, length)
    ]
    metrics = sorted({f"{result.metric} ({result.protocol})" for result in results})
    return (
        Entry(arm.name),
        Entry(arm.amount),
        Entry(task),
        Entry(length),
        Entry(", ".join(metrics)),
        entry_of(arm, score, part),
        seeds_entry(arm),
        Entry(score.n_questions if score else 0),
        Entry(score.n_failed if score else 0),
        Entry(sum(result.n_truncated for result in results)),
    )
