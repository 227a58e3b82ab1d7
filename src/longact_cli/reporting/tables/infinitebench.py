"""InfiniteBench: its twelve tasks and their average."""

from collections.abc import Sequence
from itertools import groupby

from longact_cli.reporting.arms import Arm
from longact_cli.reporting.facets import INFINITEBENCH, infinitebench_facets, tasks_of
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import mark_notes, score_entries, seeds_entry
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, gap, missing_lines


@TABLES.register("infinitebench")
def infinitebench_table(study: Study, provenance: Provenance) -> Table:
    """Build the table, one section per model and algorithm; a task nobody was asked is `--`."""
    every = collect_arms(study)
    arms = [arm for arm in every if arm.section.benchmark == INFINITEBENCH]
    sections = tuple(
        Section(head.title, _rows(list(group)))
        for head, group in groupby(arms, key=lambda arm: arm.section)
    )
    models = sorted({arm.section.model for arm in every})
    gaps = [
        gap(study, f"{model} {INFINITEBENCH}", f"eval --model {model} --bench {INFINITEBENCH}")
        for model in models
        if model not in {arm.section.model for arm in arms}
    ]
    return Table(
        name="infinitebench",
        title=f"InfiniteBench: {study.name}",
        columns=_columns(),
        sections=sections,
        notes=(*common_notes(study, arms), *mark_notes(sections), *_notes(arms)),
        missing=(*missing_lines(study), *gaps),
        provenance=provenance,
    )


def _columns() -> tuple[Column, ...]:
    tasks = infinitebench_facets()[:-1]
    return (
        Column("arm", "Rows updated", "text"),
        Column("sparsity", "Sparsity", "text"),
        Column("average", "Average", "percent"),
        *(
            Column(f.key, f.title.partition(".")[2], "percent", _group(f.title), True)
            for f in tasks
        ),
        Column("seeds", "Seeds", "count"),
        Column("questions", "n", "count"),
    )


def _group(title: str) -> str:
    return title.partition(".")[0]


def _rows(arms: Sequence[Arm]) -> tuple[tuple[Entry, ...], ...]:
    *tasks, average = (score_entries(arms, f.part, peers=arms) for f in infinitebench_facets())
    return tuple(
        (
            Entry(arm.name),
            Entry(arm.amount),
            average[i],
            *(column[i] for column in tasks),
            seeds_entry(arm),
            Entry(average[i].n or 0),
        )
        for i, arm in enumerate(arms)
    )


def _notes(arms: Sequence[Arm]) -> tuple[str, ...]:
    asked = tasks_of(arms)
    whole = len(infinitebench_facets()) - 1
    if not arms or len(asked) == whole:
        return ()
    return (f"The average is over the {len(asked)} tasks that were asked, not over all {whole}.",)
