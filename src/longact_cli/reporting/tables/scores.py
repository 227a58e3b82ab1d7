"""Every score by itself: arm, task and context length, one row each."""

from collections.abc import Iterator
from itertools import groupby

from longact_cli.reporting.arms import Arm, Stratum, estimate_score
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
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
    return Table(
        name="scores",
        title=f"Scores by task and context length: {study.name}",
        columns=_COLUMNS,
        sections=tuple(
            Section(head.title, tuple(row for arm in group for row in _rows(arm)))
            for head, group in groupby(arms, key=lambda arm: arm.section)
        ),
        notes=common_notes(study, arms),
        missing=missing_lines(study),
        provenance=provenance,
    )


def _rows(arm: Arm) -> Iterator[tuple[Entry, ...]]:
    for stratum in sorted({question[:2] for question in arm.questions}):
        yield _row(arm, stratum)


def _row(arm: Arm, stratum: Stratum) -> tuple[Entry, ...]:
    task, length = stratum
    score = estimate_score(arm, stratum)
    results = [
        result
        for cell in arm.cells
        for result in cell.results
        if (result.task, result.context_length) == stratum
    ]
    metrics = sorted({f"{result.metric} ({result.protocol})" for result in results})
    return (
        Entry(arm.name),
        Entry("n/a" if arm.sparsity is None else f"{arm.sparsity:g}"),
        Entry(task),
        Entry(length),
        Entry(", ".join(metrics)),
        Entry.of(score),
        Entry(len(arm.seeds), mark="*" if arm.n_missing else ""),
        Entry(score.n_questions if score else 0),
        Entry(score.n_failed if score else 0),
        Entry(sum(result.n_truncated for result in results)),
    )
