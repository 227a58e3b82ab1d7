"""The paper's main table: LongBench v2 for base, SFT, dense RL and RL with LongAct, per model."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm
from longact_cli.reporting.facets import LONGBENCH, longbench_facets
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.lines import SFT, Line, collect_lines, left_out
from longact_cli.reporting.marks import mark_notes, score_entries, seeds_entry
from longact_cli.reporting.reference import PublishedValue, paper, published_value
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, gap, missing_lines

_SHOWN = ("dense", "salient")
_PAPER_SPARSITY = 0.3


class _Row(NamedTuple):
    label: str
    amount: str
    arm: Arm | None
    published: PublishedValue | None
    command: str


@TABLES.register("main")
def main_table(study: Study, provenance: Provenance) -> Table:
    """Build the main table, one section per model; rows that nothing has run for stay in it."""
    arms = collect_arms(study)
    lines = collect_lines(arms)
    groups = [list(_rows(model, lines)) for model in sorted({line.model for line in lines})]
    published = any(row.published for rows in groups for row in rows)
    titles = sorted({line.model for line in lines})
    sections = tuple(
        Section(title, _entries(rows, arms, published=published))
        for title, rows in zip(titles, groups, strict=True)
    )
    gaps = [
        gap(study, f"{title} {row.label}", row.command)
        for title, rows in zip(titles, groups, strict=True)
        for row in rows
        if row.arm is None
    ]
    return Table(
        name="main",
        title=f"LongBench v2: {study.name}",
        columns=_columns(published=published),
        sections=sections,
        notes=(
            *common_notes(study, arms),
            *left_out(lines, [LONGBENCH]),
            *mark_notes(sections),
            *_count_note(groups),
            *_sources(groups),
        ),
        missing=(*missing_lines(study), *gaps),
        provenance=provenance,
    )


def _columns(*, published: bool) -> tuple[Column, ...]:
    facets = longbench_facets()
    return (
        Column("method", "Method", "text"),
        Column("sparsity", "Sparsity", "text"),
        Column("overall", "Overall", "percent"),
        *((Column("paper", "Paper %", "published"),) if published else ()),
        *(
            Column(facet.key, facet.title, "percent", _group(facet.key), compact=True)
            for facet in facets[1:]
        ),
        Column("seeds", "Seeds", "count"),
        Column("questions", "n", "count"),
    )


def _group(key: str) -> str:
    return "Difficulty" if key in ("easy", "hard") else "Length"


def _rows(model: str, lines: Sequence[Line]) -> Iterator[_Row]:
    """Yield base, SFT, then dense and salient for each algorithm, with placeholders."""
    mine = [line for line in lines if line.model == model]
    tail = f"--model {model} --bench {LONGBENCH}"
    base = next((line for line in mine if line.algorithm is None), None)
    yield _row(base, _Row(BASE_ARM, "n/a", None, None, f"eval {tail}"), model, BASE_ARM)
    tuned = [line for line in mine if line.algorithm == SFT and line.strategy in _SHOWN]
    if not any(line.strategy == "dense" for line in tuned):
        plain = _Row(SFT, "1", None, None, f"ablate --algo sft --mask dense {tail}")
        yield _row(None, plain, model, SFT)
    for line in tuned:
        key = SFT if line.strategy == "dense" else ""
        command = f"ablate --algo sft --mask {line.strategy} {tail}"
        yield _row(line, _Row(line.method, line.amount, None, None, command), model, key)
    algorithms = sorted({x.algorithm for x in mine if x.algorithm not in (None, SFT)}, key=str)
    for algorithm in algorithms or ["dapo"]:
        for strategy in _SHOWN:
            same = [x for x in mine if (x.algorithm, x.strategy) == (algorithm, strategy)]
            amount = 1.0 if strategy == "dense" else _PAPER_SPARSITY
            for line in same or [Line(model, algorithm, strategy, amount, ())]:
                command = f"ablate --algo {algorithm} --mask {strategy}"
                command += f" --sparsity {line.sparsity:g} {tail}"
                plain = _Row(line.method, line.amount, None, None, command)
                yield _row(line, plain, model, _published_row(line))


def _published_row(line: Line) -> str:
    """Return the paper's row a line belongs to; none at another sparsity than the paper's."""
    return line.strategy if line.strategy == "dense" or line.sparsity == _PAPER_SPARSITY else ""


def _row(line: Line | None, plain: _Row, model: str, key: str) -> _Row:
    value = published_value(model=model, benchmark=LONGBENCH, row=key, column="overall")
    return plain._replace(arm=line.on(LONGBENCH) if line else None, published=value)


def _entries(
    rows: Sequence[_Row], peers: Sequence[Arm], *, published: bool
) -> tuple[tuple[Entry, ...], ...]:
    arms = [row.arm for row in rows]
    columns = [score_entries(arms, facet.part, peers=peers) for facet in longbench_facets()]
    made = []
    for i, row in enumerate(rows):
        scores = [column[i] for column in columns]
        beside = (Entry(row.published.score) if row.published else Entry(),) if published else ()
        made.append(
            (
                Entry(row.label),
                Entry(row.amount),
                scores[0],
                *beside,
                *scores[1:],
                seeds_entry(row.arm),
                Entry(scores[0].n or 0),
            )
        )
    return tuple(made)


def _count_note(groups: Sequence[Sequence[_Row]]) -> tuple[str, ...]:
    """Say how many questions each column rests on, where every row has been asked the same."""
    asked = {row.arm.questions for rows in groups for row in rows if row.arm and row.arm.seeds}
    if len(asked) != 1:
        return ()
    (questions,) = asked
    counts = (
        f"{facet.title.lower()} {sum(facet.part is None or facet.part(q) for q in questions)}"
        for facet in longbench_facets()
    )
    return (f"Questions per column: {', '.join(counts)}.",)


def _sources(groups: Sequence[Sequence[_Row]]) -> tuple[str, ...]:
    values = {row.published.id: row.published for rows in groups for row in rows if row.published}
    if not values:
        return ()
    head = f"Paper: published values, not ours ({paper().title}, arXiv {paper().arxiv})."
    lines = (
        f"Paper {value.percent} ({value.row_title}): {value.source}. {value.note}".strip()
        for value in values.values()
    )
    return (head, *lines)
