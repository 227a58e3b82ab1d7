"""Is it the salient rows? Salient against every control at the same fraction of updated rows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import ONE_LEVEL, Arm, counterpart
from longact_cli.reporting.comparisons import compare_family
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import (
    difference_entry,
    score_entries,
    seeds_entry,
    sign_notes,
)
from longact_cli.reporting.statistics import Comparison
from longact_cli.reporting.table import MISSING, Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, gap, missing_lines

_LEVEL = 0.05
_Tests = Mapping[tuple[Arm, Arm], Comparison]
_CONTROLS = ("random", "lowest", "dense", "frozen")
_ASKED = {
    "random": "any rows will do",
    "lowest": "rows of low activation do as well",
    "dense": "masking costs or gains nothing",
    "frozen": "query/key rows need no update",
}

_COLUMNS = (
    Column("sparsity", "Sparsity", "text"),
    Column("control", "Salient against", "text"),
    Column("excluded", "Rules out, where above 0", "text"),
    Column("salient", "Salient %", "percent"),
    Column("other", "Control %", "percent"),
    Column("difference", "Salient - control", "points"),
    Column("p", "p", "text"),
    Column("p_holm", "p (Holm)", "text"),
    Column("seeds", "Seeds", "count"),
    Column("questions", "n", "count"),
)


@TABLES.register("controls")
def controls_table(study: Study, provenance: Provenance) -> Table:
    """Build the table of controls; one section per model, algorithm and benchmark.

    A control that was not run keeps its row. Differences are paired on questions and seeds.
    """
    arms = collect_arms(study)
    tests = _family(arms)
    sections, gaps = [], []
    for head, group in groupby(arms, key=lambda arm: arm.section):
        peers = list(group)
        sections.append(Section(head.title, tuple(_rows(peers, tests))))
        gaps += list(_gaps(study, peers))
    return Table(
        name="controls",
        title=f"Salient rows against controls: {study.name}",
        columns=_COLUMNS,
        sections=tuple(section for section in sections if section.rows),
        notes=(*common_notes(study, arms), *sign_notes(sections), *_notes(arms, len(tests))),
        missing=(*missing_lines(study), *dict.fromkeys(gaps)),
        provenance=provenance,
    )


def _pairs(arms: Sequence[Arm]) -> Iterator[tuple[Arm, str, Arm | None]]:
    others = {arm.strategy for arm in arms} - {BASE_ARM, "salient", *_CONTROLS}
    for arm in arms:
        if arm.strategy == "salient":
            for control in (*_CONTROLS, *sorted(others)):
                other = counterpart(arm, arms, control)
                if other is not None or control in _CONTROLS:
                    yield arm, control, other


def _family(arms: Sequence[Arm]) -> _Tests:
    """Test every pair of the table as one family."""
    pairs = [(arm, other) for arm, _, other in _pairs(arms) if other and arm.seeds and other.seeds]
    found = compare_family(pairs)
    return {pair: test for pair, test in zip(pairs, found, strict=True) if test is not None}


def _rows(arms: Sequence[Arm], tests: _Tests) -> Iterator[tuple[Entry, ...]]:
    for arm, control, other in _pairs(arms):
        test = tests.get((arm, other)) if other else None
        sure = test is not None and test.difference > 0 and (test.p_holm or 0.0) < _LEVEL
        difference = difference_entry(arm, other)
        (salient,) = score_entries([arm], None, peers=arms)
        (theirs,) = score_entries([other], None, peers=arms)
        amount = arm.amount + "".join(f", {k}={v}" for k, v in sorted(arm.variant.items()))
        yield (
            Entry(amount),
            Entry(control),
            Entry(_ASKED.get(control, "another choice of rows")),
            salient,
            theirs,
            difference._replace(bold=sure),
            Entry(_shown(test.p) if test else None),
            Entry(_shown(test.p_holm) if test else None),
            seeds_entry(other),
            Entry(difference.n or 0),
        )


def _gaps(study: Study, arms: Sequence[Arm]) -> Iterator[str]:
    for arm, control, other in _pairs(arms):
        if other is None and arm.sparsity is not None:
            level = "" if control in ONE_LEVEL else f" --sparsity {arm.sparsity:g}"
            section = arm.section
            command = (
                f"ablate --model {section.model} --algo {section.algorithm} "
                f"--mask {control}{level} --bench {section.benchmark} --no-controls"
            )
            yield gap(
                study, f"{section.title}, {control}{level.replace(' --sparsity', ' at')}", command
            )


def _shown(p: float | None) -> str:
    if p is None or p != p:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _notes(arms: Sequence[Arm], n_tests: int) -> tuple[str, ...]:
    if not any(arm.strategy == "salient" for arm in arms):
        return ("There is no salient arm to compare with.",)
    return (
        f"A positive difference favours salient rows; bold where p (Holm) lies below {_LEVEL}, "
        f"corrected over the {n_tests} comparisons of this table. An interval that holds 0 does "
        "not show equality. p is two-sided and paired on shared questions and seeds.",
    )
