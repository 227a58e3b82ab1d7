"""The points of each figure as a table, for the CSV file beside it."""

from collections.abc import Iterable, Sequence

from longact_cli.reporting.arms import Arm, estimate_score
from longact_cli.reporting.curves import WINDOW, Curve
from longact_cli.reporting.facets import length_part, lengths_of
from longact_cli.reporting.marks import entry_of
from longact_cli.reporting.painters import Gap, HeatMap
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table


def _text(key: str) -> Column:
    return Column(key, key, "text")


def _table(
    name: str, columns: Sequence[Column], rows: Iterable[tuple[Entry, ...]], provenance: Provenance
) -> Table:
    return Table(name, name, tuple(columns), (Section("", tuple(rows)),), (), (), provenance)


def reward_points(curves: Sequence[Curve], provenance: Provenance) -> Table:
    """Return mean and band of every curve at every step."""
    columns = [
        _text("arm"),
        *(Column(key, key, "count") for key in ("seeds", "step", "mean", "low", "high")),
    ]
    rows = (
        (Entry(curve.label), Entry(curve.n_seeds), Entry(int(step)), *map(Entry, map(float, rest)))
        for curve in curves
        for step, *rest in zip(curve.steps, curve.mean, curve.low, curve.high, strict=True)
    )
    table = _table("rewards", columns, rows, provenance)
    note = (
        f"Each value is the mean over the last {WINDOW} logged steps (fewer at the start); low and "
        "high are the 95 % t interval over seeds from three seeds on, else they span the seeds."
    )
    return Table(**(vars(table) | {"notes": (note,)}))


def sparsity_points(arms: Sequence[Arm], provenance: Provenance) -> Table:
    """Return the score of every arm with its interval."""
    columns = [_text("section"), _text("arm"), _text("sparsity"), Column("score", "", "percent")]
    rows = (
        (
            Entry(arm.section.title),
            Entry(arm.name),
            Entry(arm.amount),
            entry_of(arm, estimate_score(arm)),
        )
        for arm in arms
    )
    return _table("score_by_sparsity", columns, rows, provenance)


def length_points(arms: Sequence[Arm], provenance: Provenance) -> Table:
    """Return the score of every arm at every length with its interval."""
    columns = [_text("section"), _text("arm"), _text("sparsity"), _text("context_length")]
    rows = (
        (
            Entry(arm.section.title),
            Entry(arm.name),
            Entry(arm.amount),
            Entry(length),
            entry_of(arm, estimate_score(arm, length_part(length)), length_part(length)),
        )
        for arm in arms
        for length in lengths_of([arm])
    )
    columns.append(Column("score", "", "percent"))
    return _table("score_by_length", columns, rows, provenance)


def heat_points(maps: Sequence[HeatMap], provenance: Provenance) -> Table:
    """Return every field of every heat map."""
    columns = [_text("arm"), _text("task"), _text("context_length"), Column("score", "", "percent")]
    rows = (
        (Entry(one.title), Entry(task), Entry(length), Entry(score))
        for one in maps
        for task, line in zip(one.tasks, one.scores, strict=True)
        for length, score in zip(one.lengths, line, strict=True)
    )
    return _table("ruler_heat_map", columns, rows, provenance)


def forest_points(gaps: Sequence[Gap], provenance: Provenance) -> Table:
    """Return every difference with its interval."""
    columns = [_text("comparison"), Column("difference", "", "points")]
    rows = ((Entry(gap.label), Entry.of(gap.estimate)) for gap in gaps)
    return _table("differences", columns, rows, provenance)
