"""The tables of an analysis by layer: long against short contexts, and rows that changed."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from longact_cli.analysis.analyze import Analysis
from longact_cli.analysis.measures import gini
from longact_cli.analysis.rows import ALL, ChangedRow, MeasureRow, OverlapRow
from longact_cli.reporting.analysis.entries import KINDS, decimal, grouped, heading, mean, share
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table

_CONTEXTS = ("long", "short")
_LAYERS = (
    Column("layer", "Layer", "count"),
    *(Column(f"gini_{name}", name, "count", "Gini") for name in _CONTEXTS),
    *(Column(f"kurtosis_{name}", name, "count", "Kurtosis") for name in _CONTEXTS),
    *(Column(f"above_5_{name}", name, "percent", "% above 5 x median") for name in _CONTEXTS),
    Column("mean_ratio", "all", "count", "long / short"),
    Column("salient_ratio", "salient", "count", "long / short"),
    Column("overlap", "long, short", "count", "Jaccard"),
    Column("noise", "two seeds", "count", "Jaccard"),
    Column("expected", "by chance", "count", "Jaccard"),
)
_CHANGED = (
    Column("layer", "Layer", "count"),
    Column("median", "Median change", "count"),
    Column("highest", "Largest change", "count"),
    Column("still", "Rows unchanged %", "percent"),
    Column("gini", "Gini", "count"),
    Column("long", "salient on long", "count", "Jaccard"),
    Column("short", "salient on short", "count", "Jaccard"),
    Column("expected", "by chance", "count", "Jaccard"),
)

_Place = tuple[str, int]
"""(q or k, layer)."""


def layer_table(found: Analysis, provenance: Provenance) -> Table:
    """Return concentration and overlap by layer, long beside short, for each model and matrix.

    Shown for the first site and statistic; the tidy files hold the others and every head.
    """
    settings = found.settings
    site, statistic = settings.sites[0], settings.statistics[0]
    sections = []
    for subject in settings.subjects:
        rows = [
            row
            for row in found.measures
            if row.head == ALL and row.seed == ALL and row[:3] == (subject.label, site, statistic)
        ]
        for kind in ("q", "k"):
            entries = tuple(_layer_rows(found, [row for row in rows if row.kind == kind]))
            title = f"{heading(subject.label, site, statistic)}: {KINDS[kind]}"
            sections.append(Section(title, entries))
    return Table(
        name="layers",
        title="Long against short contexts, layer by layer",
        columns=_LAYERS,
        sections=tuple(sections),
        notes=(
            "long / short: mean saliency on long contexts over that on short ones, of all channels "
            "and of those that are salient on long contexts.",
            "Jaccard: of the salient rows on long and on short contexts (same seed); of two seeds "
            "on long contexts (the noise); of random sets.",
        ),
        missing=(),
        provenance=provenance,
    )


def _layer_rows(found: Analysis, rows: Sequence[MeasureRow]) -> Iterator[tuple[Entry, ...]]:
    subject, site, statistic = rows[0][:3]
    ratios = {
        (row.kind, row.layer): row
        for row in found.ratios
        if row.head == ALL and row[:3] == (subject, site, statistic)
    }
    same = _by_place(found.overlaps, "length", rows[0])
    noise = _by_place(found.overlaps, "seed", rows[0])
    for layer, pair in grouped(rows, lambda row: row.layer).items():
        long, short = sorted(pair, key=lambda row: row.context)  # "long" < "short"
        place = (long.kind, layer)
        yield (
            Entry(layer),
            *(decimal(row.gini) for row in (long, short)),
            *(decimal(row.kurtosis, 2) for row in (long, short)),
            *(share(row.above_5) for row in (long, short)),
            decimal(ratios[place].mean_ratio),
            decimal(ratios[place].salient_ratio),
            decimal(mean(row.jaccard for row in same.get(place, []))),
            decimal(mean(row.jaccard for row in noise.get(place, []))),
            decimal(mean(row.expected for row in same.get(place, []))),
        )


def _by_place(
    rows: Sequence[OverlapRow], comparison: str, like: MeasureRow
) -> Mapping[_Place, list[OverlapRow]]:
    """Return the overlaps of whole matrices on one model, site and statistic, by place.

    Those of a comparison within one context are taken on long contexts.
    """
    chosen = [
        row
        for row in rows
        if row.comparison == comparison
        and row.head == ALL
        and (row.model, row.site, row.statistic) == like[:3]
        and row.context in ("", "long")
    ]
    return grouped(chosen, lambda row: (row.kind, row.layer))


def changed_table(found: Analysis, provenance: Provenance) -> Table:
    """Return how far rows moved in each layer, and whether the salient rows moved most."""
    runs = grouped(found.changed, lambda row: (row.run, row.measure, row.kind))
    several = len({run for run, _, _ in runs}) > 1
    usual = (found.settings.subjects[0].label, found.settings.sites[0])
    notes = (
        "Change of a row of the weight: absolute, ||after - before||; relative, divided by "
        "||before||. Adam moves all entries by similar steps, so that the largest relative change "
        "is often that of the smallest row. Gini: of the changes.",
        "Jaccard: of the rows that changed most with the rows that are salient, for "
        f"{found.settings.subjects[0].label}, all seeds; weights only, biases are left out.",
    )
    return Table(
        name="changed",
        title="Which rows training changed, layer by layer",
        columns=_CHANGED,
        sections=tuple(
            Section(
                f"{run}: {KINDS[kind]}, {measure} change",
                tuple(
                    _changed_row(
                        found,
                        moved,
                        f"changed by {run}, {measure}" if several else f"changed, {measure}",
                        usual,
                    )
                    for moved in grouped(rows, lambda row: row.layer).values()
                ),
            )
            for (run, measure, kind), rows in runs.items()
        ),
        notes=notes,
        missing=(),
        provenance=provenance,
    )


def _changed_row(
    found: Analysis, moved: Sequence[ChangedRow], first: str, usual: tuple[str, str]
) -> tuple[Entry, ...]:
    values = np.asarray([row.change for row in moved])
    overlaps = [
        row
        for row in found.overlaps
        if (row.comparison, row.first, row.head) == ("changed", first, ALL)
        and (row.kind, row.layer) == (moved[0].kind, moved[0].layer)
        and (row.model, row.site) == usual
        and row.statistic == found.settings.statistics[0]
        and row.second.startswith("salient")
    ]
    by_context = {row.context: row for row in overlaps}
    return (
        Entry(moved[0].layer),
        Entry(f"{np.median(values):.2e}"),
        Entry(f"{values.max():.2e}"),
        share(float((values == 0).mean())),
        decimal(gini(values)),
        *(decimal(by_context[name].jaccard) for name in ("long", "short")),
        decimal(by_context["long"].expected),
    )
