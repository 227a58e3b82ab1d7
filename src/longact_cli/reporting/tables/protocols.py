"""The same checkpoints under each evaluation protocol, side by side."""

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.reporting.arms import Arm, Part, estimate_score
from longact_cli.reporting.facets import task_part, tasks_of
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.lines import Line, collect_lines
from longact_cli.reporting.marks import entry_of, mark_notes
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import TABLES, common_notes, gap, missing_lines

_KEY = "benchmark.protocol"
_OFFICIAL = "official"


@TABLES.register("protocols")
def protocols_table(study: Study, provenance: Provenance) -> Table:
    """Build the table, one section per model and benchmark; nothing competes across protocols."""
    arms = collect_arms(study)
    lines = collect_lines(arms)
    names = _protocols(arms)
    heads = sorted({(arm.section.model, arm.section.benchmark) for arm in arms})
    sections = tuple(
        Section(
            f"{model}, {bench}", tuple(_rows([x for x in lines if x.model == model], bench, names))
        )
        for model, bench in heads
    )
    return Table(
        name="protocols",
        title=f"Evaluation protocols: {study.name}",
        columns=_columns(names),
        sections=sections,
        notes=(*common_notes(study, arms), *mark_notes(sections), _NOTE),
        missing=(*missing_lines(study), *_gaps(study, arms, names)),
        provenance=provenance,
    )


_NOTE = (
    "Protocols differ in prompts, questions and scorers: their scores are not the same measure and "
    "are not tested against each other."
)


def _protocols(arms: Sequence[Arm]) -> tuple[str, ...]:
    """Return the protocols there are, official first."""
    known = get_args(BenchmarkConfig.model_fields["protocol"].annotation)
    used = {_protocol(arm) for arm in arms}
    return (_OFFICIAL, *sorted({*known, *used} - {_OFFICIAL}))


def _protocol(arm: Arm) -> str:
    return arm.cells[0].params.get(_KEY, _OFFICIAL)


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    return (
        Column("algorithm", "Algorithm", "text"),
        Column("arm", "Rows updated", "text"),
        Column("sparsity", "Sparsity", "text"),
        Column("task", "Task", "text"),
        *(Column(f"score_{name}", f"{name} %", "percent") for name in names),
        *(Column(f"n_{name}", f"n {name}", "count") for name in names),
    )


def _rows(
    lines: Sequence[Line], benchmark: str, names: Sequence[str]
) -> Iterator[tuple[Entry, ...]]:
    for line, arms in _alike(lines, benchmark):
        by_protocol = {_protocol(arm): arm for arm in reversed(arms)}
        tasks = tasks_of(arms)
        for task in (None, *tasks) if len(tasks) > 1 else tasks:
            part = None if task is None else task_part(task)
            entries = [_score(by_protocol.get(name), part) for name in names]
            yield (
                Entry(line.algorithm or "untrained"),
                Entry(_named(arms[0])),
                Entry(line.amount),
                Entry(task or "all tasks"),
                *entries,
                *(Entry(entry.n or 0) for entry in entries),
            )


def _alike(lines: Iterable[Line], benchmark: str) -> Iterator[tuple[Line, list[Arm]]]:
    """Yield each line's arms on the benchmark, apart where more than the protocol differs."""
    for line in lines:
        groups: dict[tuple[tuple[str, str], ...], list[Arm]] = {}
        for arm in line.arms:
            if arm.section.benchmark == benchmark:
                groups.setdefault(_other_settings(arm), []).append(arm)
        yield from ((line, arms) for arms in groups.values())


def _other_settings(arm: Arm) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in arm.variant.items() if key != _KEY))


def _named(arm: Arm) -> str:
    extra = ", ".join(f"{key}={value}" for key, value in _other_settings(arm))
    return f"{arm.strategy} ({extra})" if extra else arm.strategy


def _score(arm: Arm | None, part: Part | None) -> Entry:
    return entry_of(arm, estimate_score(arm, part), part) if arm else Entry()


def _gaps(study: Study, arms: Sequence[Arm], names: Sequence[str]) -> Iterator[str]:
    for model, benchmark in sorted({(a.section.model, a.section.benchmark) for a in arms}):
        here = {
            _protocol(a)
            for a in arms
            if (a.section.model, a.section.benchmark) == (model, benchmark)
        }
        for name in names:
            if name not in here:
                command = f"eval --model {model} --bench {benchmark} --protocol {name}"
                yield gap(study, f"{model}, {benchmark}, protocol {name}", command)
