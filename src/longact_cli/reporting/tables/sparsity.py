"""The sparsity ablation: each mask at each sparsity, against base, dense and random rows."""

from collections.abc import Sequence
from itertools import groupby

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import ONE_LEVEL, Arm, counterpart
from longact_cli.reporting.facets import length_part
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import difference_entry, mark_notes, score_entries, seeds_entry
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, missing_lines

_COMPARED = (BASE_ARM, "dense", "random")
_MOST_STRATA = 6

Stratum = tuple[str, int]


@TABLES.register("sparsity")
def sparsity_table(study: Study, provenance: Provenance) -> Table:
    """Build the sparsity ablation; one section per model, algorithm and benchmark."""
    arms = collect_arms(study)
    strata = sorted({(q.task, q.context_length) for arm in arms for q in arm.questions})
    shown = strata if len(strata) <= _MOST_STRATA else []
    sections = tuple(
        Section(head.title, _rows(list(group), shown))
        for head, group in groupby(arms, key=lambda arm: arm.section)
    )
    return Table(
        name="sparsity",
        title=f"Sparsity ablation: {study.name}",
        columns=_columns(shown),
        sections=sections,
        notes=(*common_notes(study, arms), *mark_notes(sections), *_strata_note(arms, strata)),
        missing=missing_lines(study),
        provenance=provenance,
    )


def _columns(strata: Sequence[Stratum]) -> tuple[Column, ...]:
    versus = "Difference in points"
    return (
        Column("arm", "Rows updated", "text"),
        Column("sparsity", "Sparsity", "text"),
        Column("score", "Score %", "percent"),
        *(Column(f"difference_to_{name}", f"to {name}", "points", versus) for name in _COMPARED),
        *(
            Column(f"score_{task}_{length}", f"{task} {length}", "percent", "Score % by task", True)
            for task, length in strata
        ),
        Column("seeds", "Seeds", "count"),
        Column("questions", "n", "count"),
        Column("failed", "Failed", "count"),
    )


def _rows(arms: Sequence[Arm], strata: Sequence[Stratum]) -> tuple[tuple[Entry, ...], ...]:
    scores = score_entries(arms, None, peers=arms)
    by_task = [score_entries(arms, length_part(n, task), peers=arms) for task, n in strata]
    return tuple(
        (
            Entry(arm.name),
            Entry(arm.amount),
            scores[i],
            *(_difference(arm, name, arms) for name in _COMPARED),
            *(column[i] for column in by_task),
            seeds_entry(arm),
            Entry(scores[i].n or 0),
            Entry(arm.n_failed),
        )
        for i, arm in enumerate(arms)
    )


def _difference(arm: Arm, name: str, arms: Sequence[Arm]) -> Entry:
    if arm.strategy == name:
        return Entry("ref.")
    if name == "random" and arm.strategy in ONE_LEVEL:
        return Entry("n/a")
    return difference_entry(arm, counterpart(arm, arms, name))


def _strata_note(arms: Sequence[Arm], strata: Sequence[Stratum]) -> tuple[str, ...]:
    if not strata:
        return ()
    cells = ", ".join(f"{task} at {length}" for task, length in strata)
    if len({arm.section.benchmark for arm in arms}) > 1:
        note = "The score of a benchmark is its official average"
    else:
        note = f"The score is the mean over {len(strata)} task-length pairs with equal weight"
        if arms[0].pooled:
            note = f"The score is the mean over all questions of {len(strata)} task-length pairs"
    if len(strata) > _MOST_STRATA:
        return (f"{note}; the table `scores` lists all {len(strata)} task-length pairs.",)
    return (f"{note}: {cells}.",)
