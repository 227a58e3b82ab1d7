"""Is it the salient rows? Salient against every control at the same fraction of updated rows."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import ONE_LEVEL, Arm, counterpart
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import difference_entry, mark_notes, score_entries, seeds_entry
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, gap, missing_lines

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
    Column("seeds", "Seeds", "count"),
    Column("questions", "n", "count"),
)


@TABLES.register("controls")
def controls_table(study: Study, provenance: Provenance) -> Table:
    """Build the table of controls; one section per model, algorithm and benchmark.

    A control that was not run keeps its row. Differences are paired on questions and seeds.
    """
    arms = collect_arms(study)
    sections, gaps = [], []
    for head, group in groupby(arms, key=lambda arm: arm.section):
        peers = list(group)
        sections.append(Section(head.title, tuple(_rows(peers))))
        gaps += list(_gaps(study, peers))
    return Table(
        name="controls",
        title=f"Salient rows against controls: {study.name}",
        columns=_COLUMNS,
        sections=tuple(section for section in sections if section.rows),
        notes=(*common_notes(study, arms), *mark_notes(sections), *_notes(arms)),
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


def _rows(arms: Sequence[Arm]) -> Iterator[tuple[Entry, ...]]:
    for arm, control, other in _pairs(arms):
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
            difference._replace(bold=difference.low is not None and difference.low > 0),
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


def _notes(arms: Sequence[Arm]) -> tuple[str, ...]:
    if not any(arm.strategy == "salient" for arm in arms):
        return ("There is no salient arm to compare with.",)
    return (
        "A positive difference favours salient rows; bold where its interval lies above 0, not "
        "corrected for the number of controls. An interval that holds 0 does not show equality.",
    )
