"""Algorithms side by side, and model sizes: scores and the gain over dense training."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, counterpart
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.lines import Line, collect_lines, left_out
from longact_cli.reporting.marks import difference_entry, mark_notes, score_entries, seeds_entry
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, missing_lines

Key = Callable[[Line], str]


def _model(line: Line) -> str:
    return line.model


def _algorithm(line: Line) -> str:
    return line.algorithm or "untrained"


class _Head(NamedTuple):
    name: str
    title: str
    first: str
    label: Key


@TABLES.register("algorithms")
def algorithms_table(study: Study, provenance: Provenance) -> Table:
    """Build the table of algorithms; one section per model."""
    lines = sorted(collect_lines(collect_arms(study)), key=_model)
    groups = [(title, list(group)) for title, group in groupby(lines, key=_model)]
    head = _Head("algorithms", "RL algorithms", "Algorithm", _algorithm)
    return _build(study, provenance, head, groups)


@TABLES.register("sizes")
def sizes_table(study: Study, provenance: Provenance) -> Table:
    """Build the table of models; one section per algorithm, with the base of each model."""
    lines = sorted(collect_lines(collect_arms(study)), key=_algorithm)
    bases = [line for line in lines if line.algorithm is None]
    groups = []
    for algorithm, group in groupby((x for x in lines if x.algorithm), key=_algorithm):
        members = list(group)
        own = [line for line in bases if line.model in {member.model for member in members}]
        groups.append((algorithm, sorted([*own, *members], key=_model)))
    head = _Head("sizes", "Model sizes", "Model", _model)
    return _build(study, provenance, head, groups or [("", bases)])


def _build(
    study: Study, provenance: Provenance, head: _Head, groups: Sequence[tuple[str, list[Line]]]
) -> Table:
    arms = collect_arms(study)
    sections = tuple(
        Section(title, tuple(row for block in _blocks(lines) for row in _rows(block, arms, head)))
        for title, lines in groups
    )
    return Table(
        name=head.name,
        title=f"{head.title}: {study.name}",
        columns=_columns(head.first, _benchmarks(arms)),
        sections=sections,
        notes=(
            *common_notes(study, arms),
            *left_out(collect_lines(arms), _benchmarks(arms)),
            *mark_notes(sections),
        ),
        missing=missing_lines(study),
        provenance=provenance,
    )


def _blocks(lines: Sequence[Line]) -> list[list[Line]]:
    """Scores compete within a model."""
    return [list(group) for _, group in groupby(lines, key=_model)]


def _benchmarks(arms: Sequence[Arm]) -> tuple[str, ...]:
    return tuple(sorted({arm.section.benchmark for arm in arms}))


def _columns(first: str, benchmarks: Sequence[str]) -> tuple[Column, ...]:
    return (
        Column(first.lower(), first, "text"),
        Column("arm", "Rows updated", "text"),
        Column("sparsity", "Sparsity", "text"),
        *(
            column
            for name in benchmarks
            for column in (
                Column(f"score_{name}", "Score %", "percent", name),
                Column(f"gain_{name}", "vs dense", "points", name),
            )
        ),
        Column("seeds", "Seeds", "count"),
        Column("questions", "n", "count"),
    )


def _rows(lines: Sequence[Line], arms: Sequence[Arm], head: _Head) -> list[tuple[Entry, ...]]:
    benchmarks = _benchmarks(arms)
    columns = {
        name: score_entries([line.on(name) for line in lines], None, peers=arms)
        for name in benchmarks
    }
    rows = []
    for i, line in enumerate(lines):
        cells: list[Entry] = []
        for name in benchmarks:
            cells += [columns[name][i], _gain(line.on(name), arms)]
        asked = sum(columns[name][i].n or 0 for name in benchmarks)
        first = (Entry(head.label(line)), Entry(line.name), Entry(line.amount))
        rows.append((*first, *cells, seeds_entry(line.arms[0]), Entry(asked)))
    return rows


def _gain(arm: Arm | None, arms: Sequence[Arm]) -> Entry:
    if arm is None:
        return Entry()
    if arm.strategy == "dense":
        return Entry("ref.")
    if arm.strategy == BASE_ARM:
        return Entry("n/a")
    return difference_entry(arm, counterpart(arm, arms, "dense"))
