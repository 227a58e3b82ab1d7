"""The sparsity ablation: each mask at each sparsity, against base, dense and random rows."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import (
    Arm,
    Stratum,
    counterpart,
    estimate_difference,
    estimate_score,
)
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.stats import Estimate
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, missing_lines

_COMPARED = (BASE_ARM, "dense", "random")
_MOST_STRATA = 6


@TABLES.register("sparsity")
def sparsity_table(study: Study, provenance: Provenance) -> Table:
    """Build the sparsity ablation; one section per model, algorithm and benchmark.

    The score is the macro mean over tasks and lengths. The best arm is bold only where its
    difference to dense (to the base without a dense arm) excludes 0.
    """
    arms = collect_arms(study)
    strata = sorted({question[:2] for arm in arms for question in arm.questions})
    shown = strata if len(strata) <= _MOST_STRATA else []
    sections = [list(group) for _, group in groupby(arms, key=lambda arm: arm.section)]
    best = [_significant_best(section) for section in sections]
    rows = tuple(
        Section(section[0].section.title, tuple(_row(a, section, shown, a is top) for a in section))
        for section, top in zip(sections, best, strict=True)
    )
    bold = sum(top is not None for top in best)
    return Table(
        name="sparsity",
        title=f"Sparsity ablation: {study.name}",
        columns=_columns(shown),
        sections=rows,
        notes=(*common_notes(study, arms), *_notes(arms, sections, bold), *_strata_note(strata)),
        missing=missing_lines(study),
        provenance=provenance,
    )


def _columns(strata: Sequence[Stratum]) -> tuple[Column, ...]:
    versus = "Difference in points to"
    return (
        Column("arm", "Rows updated", "text"),
        Column("sparsity", "Sparsity", "text"),
        Column("score", "Score %", "percent"),
        *(Column(f"difference_to_{name}", name, "points", versus) for name in _COMPARED),
        *(
            Column(f"score_{task}_{length}", f"{task} {length}", "percent", "Score % by task", True)
            for task, length in strata
        ),
        Column("seeds", "Seeds", "count"),
        Column("questions", "n", "count"),
        Column("failed", "Failed", "count"),
    )


def _row(arm: Arm, arms: Sequence[Arm], strata: Sequence[Stratum], bold: bool) -> tuple[Entry, ...]:
    score = estimate_score(arm)
    by_task = (estimate_score(arm, stratum) for stratum in strata)
    return (
        Entry(arm.name),
        Entry("n/a" if arm.sparsity is None else f"{arm.sparsity:g}"),
        Entry.of(score, bold=bold),
        *(_difference(arm, name, arms) for name in _COMPARED),
        *(Entry.of(estimate) for estimate in by_task),
        Entry(len(arm.seeds), mark="*" if arm.n_missing else ""),
        Entry(score.n_questions if score else 0),
        Entry(score.n_failed if score else 0),
    )


def _difference(arm: Arm, name: str, arms: Sequence[Arm]) -> Entry:
    if arm.strategy == name:
        return Entry("ref.")
    if name == "random" and arm.strategy in (BASE_ARM, "dense", "frozen"):
        return Entry("n/a")
    other = counterpart(arm, arms, name)
    return Entry.of(estimate_difference(arm, other) if other else None)


def _significant_best(arms: Sequence[Arm]) -> Arm | None:
    """Return the arm with the best score if it differs from its baseline; ties are no best."""
    scored = [(estimate.value, arm) for arm in arms if (estimate := estimate_score(arm))]
    top = max((value for value, _ in scored), default=0.0)
    leaders = [arm for value, arm in scored if value == top]
    if len(leaders) != 1:
        return None
    difference = _to_baseline(leaders[0], arms)
    return leaders[0] if difference and difference.excludes_zero else None


def _to_baseline(arm: Arm, arms: Sequence[Arm]) -> Estimate | None:
    baseline = counterpart(arm, arms, "dense") or counterpart(arm, arms, BASE_ARM)
    return None if baseline is None or baseline is arm else estimate_difference(arm, baseline)


def _notes(arms: Sequence[Arm], sections: Sequence[Sequence[Arm]], n_bold: int) -> tuple[str, ...]:
    notes = []
    has_dense = any(arm.strategy == "dense" and arm.seeds for arm in arms)
    baseline = "dense" if has_dense else BASE_ARM
    if n_bold:
        notes.append(
            f"Bold: best score, and its difference to {baseline} excludes 0; the interval is not "
            "corrected for choosing the best arm after the fact."
        )
    if n_bold < len(sections):
        where = "Nothing is bold" if not n_bold else "Not bold in every section"
        notes.append(
            f"{where}: no single best arm differs from {baseline} by an interval that excludes 0."
        )
    if any(np.isnan(arm.scores).any() for arm in arms):
        notes.append("Failed answers are left out, in a difference together with their partner.")
    if any(arm.n_missing for arm in arms):
        notes.append("* Some seeds of this arm have no result.")
    return tuple(notes)


def _strata_note(strata: Sequence[Stratum]) -> tuple[str, ...]:
    cells = ", ".join(f"{task} at {length}" for task, length in strata)
    note = f"The score is the mean over {len(strata)} task-length pairs with equal weight: {cells}."
    if len(strata) > _MOST_STRATA:
        note += " The table `scores` lists them one by one."
    return (note,) if strata else ()
