"""RULER: every task at every length, with the official averages."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from longact_cli.reporting.arms import Arm, estimate_score
from longact_cli.reporting.facets import RULER, length_part, lengths_of, task_part, tasks_of
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import cell_names, mark_notes, score_entries, seeds_entry
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, gap, missing_lines

ALL_TASKS = "all tasks"


@TABLES.register("ruler")
def ruler_table(study: Study, provenance: Provenance) -> Table:
    """Build the table of tasks by lengths; one section per model and algorithm."""
    every = collect_arms(study)
    arms = [arm for arm in every if arm.section.benchmark == RULER]
    lengths = lengths_of(arms)
    sections = tuple(
        Section(head.title, tuple(_rows(list(group), lengths)))
        for head, group in groupby(arms, key=lambda arm: arm.section)
    )
    models = sorted({arm.section.model for arm in every})
    gaps = [
        gap(study, RULER, f"eval --model {model} --bench {RULER}") for model in models if not arms
    ]
    return Table(
        name="ruler",
        title=f"RULER: {study.name}",
        columns=_columns(lengths),
        sections=sections,
        notes=(*common_notes(study, arms), *mark_notes(sections), *_notes(arms)),
        missing=(*missing_lines(study), *gaps),
        provenance=provenance,
    )


def _columns(lengths: Sequence[int]) -> tuple[Column, ...]:
    return (
        Column("task", "Task", "text"),
        Column("arm", "Rows updated", "text"),
        Column("sparsity", "Sparsity", "text"),
        *(Column(f"score_{n}", str(n), "percent", "Length in tokens", True) for n in lengths),
        Column("average", "Avg.", "percent"),
        Column("increasing", "wAvg. (inc)", "percent", compact=True),
        Column("decreasing", "wAvg. (dec)", "percent", compact=True),
        Column("seeds", "Seeds", "count"),
        Column("questions", "n", "count"),
    )


def _rows(arms: Sequence[Arm], lengths: Sequence[int]) -> Iterator[tuple[Entry, ...]]:
    tasks = tasks_of(arms)
    for task in (*tasks, None) if len(tasks) > 1 else tasks:
        at_lengths = [score_entries(arms, length_part(n, task), peers=arms) for n in lengths]
        part = None if task is None else task_part(task)
        averages = score_entries(arms, part, peers=arms)
        for i, arm in enumerate(arms):
            yield (
                Entry(task or ALL_TASKS),
                Entry(arm.name),
                Entry(arm.amount),
                *(column[i] for column in at_lengths),
                averages[i],
                *_weighted(arm, task, lengths),
                seeds_entry(arm),
                Entry(averages[i].n or 0),
            )


def _weighted(arm: Arm, task: str | None, lengths: Sequence[int]) -> tuple[Entry, Entry]:
    """Return the averages with weights 1, 2, 3, ... from the shortest length, and from the longest.

    Source: NVIDIA/RULER, README.md. They have no interval.
    """
    means = [estimate_score(arm, length_part(length, task)) for length in lengths]
    known = [mean.value for mean in means if mean is not None and mean.value == mean.value]
    if not known or len(known) < len(lengths):
        return Entry(), Entry()
    up = range(1, len(known) + 1)
    found = []
    for weights in (up, up[::-1]):
        total = sum(weight * value for weight, value in zip(weights, known, strict=True))
        found.append(Entry(total / sum(up), cells=cell_names(arm)))
    return found[0], found[1]


def _notes(arms: Sequence[Arm]) -> tuple[str, ...]:
    if not arms:
        return ()
    return (
        "Avg. is the plain mean over lengths; wAvg. weighs them with 1, 2, 3, ..., from the "
        "shortest (inc) or from the longest (dec). Official names are kept.",
    )
