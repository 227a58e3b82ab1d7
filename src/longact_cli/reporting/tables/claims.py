"""The checklist: each claim of the paper and each referee's request, with its verdict."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from longact_cli.reporting.claims import Finding, declared_claims, judge_claims
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.marks import cell_names
from longact_cli.reporting.reference import paper
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES

_COLUMNS = (
    Column("id", "Id", "text"),
    Column("claim", "Claim", "text"),
    Column("where", "Where", "text"),
    Column("verdict", "Verdict", "text"),
    Column("reason", "Why", "text"),
    Column("difference", "Difference", "points"),
    Column("p_holm", "p (Holm)", "text"),
    Column("seeds", "Seeds", "count"),
    Column("questions", "n", "count"),
)
_RULE = (
    "Verdicts: supported where the claim's p-value lies below 0.05 after Holm's correction over "
    "its family; not supported where the difference is significantly the other way or a gain that "
    "matters is ruled out by the 95 % interval; else inconclusive at this power. A verdict on the "
    "method needs at least 3 seeds."
)


@TABLES.register("claims")
def claims_table(study: Study, provenance: Provenance) -> Table:
    """Build the checklist; one section per family, below it every claim in full."""
    arms = collect_arms(study)
    findings = judge_claims(arms, min(study.places.values(), default=study.name))
    families = declared_claims().families
    groups = [
        (families[name], list(group))
        for name, group in groupby(findings, key=lambda finding: finding.claim.family)
    ]
    return Table(
        name="claims",
        title=f"Claims: {study.name}",
        columns=_COLUMNS,
        sections=tuple(Section(title, tuple(map(_row, group))) for title, group in groups),
        notes=(*_general(groups, _rests_on_micro(findings)), *_texts(findings)),
        missing=_commands(findings),
        provenance=provenance,
    )


def _rests_on_micro(findings: Sequence[Finding]) -> bool:
    """Return whether a verdict rests on the embedded model."""
    return any(f.comparison and f.case.where.startswith("micro,") for f in findings)


def _row(finding: Finding) -> tuple[Entry, ...]:
    claim, comparison = finding.claim, finding.comparison
    asked = (claim.model, claim.algorithm, claim.benchmark)
    where = finding.case.where or ", ".join(part for part in asked if part) or "any"
    known = comparison is not None and comparison.difference == comparison.difference
    difference = Entry()
    if comparison is not None and known:
        arms = (finding.case.left, finding.case.right)
        cells = tuple(name for arm in arms if arm for name in cell_names(arm))
        difference = Entry(
            comparison.difference,
            comparison.low,
            comparison.high,
            bold=finding.verdict.word == "supported",
            n=comparison.n_questions,
            seeds=comparison.n_seeds,
            cells=cells,
        )
    return (
        Entry(claim.id),
        Entry(claim.title),
        Entry(where),
        Entry(finding.verdict.word, bold=finding.verdict.word == "supported"),
        Entry(finding.verdict.reason),
        difference if claim.compares else Entry("n/a"),
        Entry(_p(finding.p_holm) if claim.compares else "n/a"),
        Entry(comparison.n_seeds if comparison and known else None),
        Entry(comparison.n_questions if comparison and known else None),
    )


def _p(value: float) -> str | None:
    if value != value:
        return None
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _general(groups: Sequence[tuple[str, list[Finding]]], micro: bool) -> Iterator[str]:
    yield _RULE
    for title, findings in groups:
        n = sum(finding.p == finding.p for finding in findings)
        yield f"{title}: corrected over {n} comparison{'' if n == 1 else 's'} in this store."
    methods = sorted({f.comparison.method for f in findings_of(groups) if f.comparison})
    if methods:
        yield f"Tests: {'; '.join(methods)}. Brackets are 95 % intervals; left minus right."
    if micro:
        yield (
            "The micro model shows that the pipeline works; its numbers are no evidence for or "
            "against the effect reported in the paper."
        )


def findings_of(groups: Sequence[tuple[str, list[Finding]]]) -> list[Finding]:
    """Return the findings of all groups."""
    return [finding for _, findings in groups for finding in findings]


def _texts(findings: Sequence[Finding]) -> Iterator[str]:
    """State each claim in full with its source and, where there is one, a remark."""
    yield f"Paper: {paper().title} (arXiv {paper().arxiv})."
    for _, group in groupby(findings, key=lambda finding: finding.claim.id):
        first = next(group)
        remark = f" {first.remark}" if first.remark else ""
        yield f"{first.claim.id}: {first.claim.text}{remark} Source: {first.claim.source}."


def _commands(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Name what to run next; claims that one command settles stand together."""
    asked: dict[str, list[str]] = {}
    for finding in findings:
        if finding.command:
            asked.setdefault(finding.command, []).append(finding.claim.id)
    return tuple(
        f"{', '.join(dict.fromkeys(names))}; to settle: {command}"
        for command, names in asked.items()
    )
