"""The tables of an analysis over whole models: concentration and overlaps."""

from collections.abc import Sequence

from longact_cli.analysis.analyze import Analysis
from longact_cli.analysis.overlap import Agreement
from longact_cli.analysis.rows import ALL, MeasureRow
from longact_cli.reporting.analysis.entries import KINDS, decimal, grouped, heading, mean, share
from longact_cli.reporting.analysis.layer_tables import changed_table, layer_table
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table

_SHARES = ("above_2", "above_3", "above_5", "above_10")
_CHANNEL_SHARES = ("channels_above_2", "channels_above_3")
_MASS = ("top_10", "top_30")
_CONCENTRATION = (
    Column("matrix", "Matrix", "text"),
    Column("context", "Context", "text"),
    Column("tokens", "Tokens", "count"),
    *(
        Column(name, f"> {name.rsplit('_', 1)[-1]} x", "percent", "activations % above median")
        for name in _SHARES
    ),
    *(
        Column(name, f"> {name.rsplit('_', 1)[-1]} x", "percent", "channels % above median")
        for name in _CHANNEL_SHARES
    ),
    *(Column(name, f"top {name.rsplit('_', 1)[-1]} %", "percent", "mass %") for name in _MASS),
    Column("gini", "Gini", "count"),
    Column("kurtosis", "Kurtosis", "count"),
)
_OVERLAP = (
    Column("first", "Rows", "text"),
    Column("second", "Compared with", "text"),
    Column("matrix", "Matrix", "text"),
    Column("pairs", "Pairs", "count"),
    Column("jaccard", "Jaccard", "count"),
    Column("lowest", "Lowest layer", "count"),
    Column("highest", "Highest layer", "count"),
    Column("expected", "By chance", "count"),
)
_TITLES = {
    "length": "Long against short contexts, same seed",
    "seed": "Prompts of two seeds (the noise of a whole draw)",
    "prompt": "Two single prompts of one seed",
    "model": "Two models or training steps",
    "statistic": "Two statistics",
    "site": "Two sites",
    "strategy": "Other strategies, on long contexts",
    "changed": "Rows that training changed most",
}


def analysis_tables(found: Analysis, provenance: Provenance) -> tuple[Table, ...]:
    """Return the tables of an analysis; that of changed rows only where a run was given."""
    tables = (
        _concentration(found, provenance),
        _overlap(found, provenance),
        layer_table(found, provenance),
    )
    return (*tables, changed_table(found, provenance)) if found.changed else tables


def _concentration(found: Analysis, provenance: Provenance) -> Table:
    whole = [row for row in found.measures if row.seed == ALL and row.head == ALL]
    sections = grouped(whole, lambda row: heading(row.model, row.site, row.statistic))
    return Table(
        name="concentration",
        title="How concentrated query and key activations are",
        columns=_CONCENTRATION,
        sections=tuple(
            Section(
                title,
                tuple(
                    _measure_row(group)
                    for group in grouped(rows, lambda row: (row.kind, row.context)).values()
                ),
            )
            for title, rows in sections.items()
        ),
        notes=(
            "Each number is the mean over layers; a layer is measured over the prompts of all "
            "seeds together.",
            "Medians and shares of activations come from a histogram and are off by at most one "
            "bin, 4.4 % of the value; channels are compared by their saliency, exactly.",
            "Mass: share of the saliency's sum in the most salient channels; equal channels give "
            "10 and 30 %. Gini: 0 for equal channels. Kurtosis: excess, 0 for a normal "
            "distribution, over all signed activations of a matrix.",
            *_prompt_notes(found),
        ),
        missing=(),
        provenance=provenance,
    )


def _measure_row(rows: Sequence[MeasureRow]) -> tuple[Entry, ...]:
    one = rows[0]
    shares = (*_SHARES, *_CHANNEL_SHARES, *_MASS)
    return (
        Entry(KINDS[one.kind]),
        Entry(f"{one.context} {one.context_length}"),
        Entry(one.tokens),
        *(share(mean(getattr(row, name) for row in rows)) for name in shares),
        decimal(mean(row.gini for row in rows)),
        decimal(mean(row.kurtosis for row in rows), 2),
    )


def _prompt_notes(found: Analysis) -> tuple[str, ...]:
    settings = found.settings
    source = f"generated from {', '.join(settings.tasks)}"
    if settings.files.long is not None:
        source = f"of {settings.files.long.name}"
    seeds = ", ".join(map(str, settings.seeds))
    note = f"{settings.prompts} prompts {source} per context length and seed; seeds {seeds}."
    if all(subject.model.path is not None for subject in settings.subjects):
        return (note,)
    warning = "The micro model shows that the pipeline works; it is no evidence about real models."
    return (note, warning)


def _overlap(found: Analysis, provenance: Provenance) -> Table:
    sections = grouped(found.agreements, lambda row: row.comparison)
    return Table(
        name="overlap",
        title="How far sets of query and key rows agree",
        columns=_OVERLAP,
        sections=tuple(
            Section(_TITLES[name], tuple(_agreement_row(row) for row in rows))
            for name, rows in sections.items()
        ),
        notes=(
            f"A set is {found.settings.sparsity:g} of the rows of each matrix: the most salient "
            "ones, those another strategy would update, or those that changed most. Jaccard: rows "
            "in both sets / rows in either, mean over pairs and layers.",
            "By chance: the mean overlap of random sets of the same sizes. Read the overlap of "
            "contexts, models and strategies against the overlap of seeds and prompts: that is "
            "how far two equal measurements agree.",
            "Lowest and highest layer: of the means over pairs.",
        ),
        missing=(),
        provenance=provenance,
    )


def _agreement_row(row: Agreement) -> tuple[Entry, ...]:
    return (
        Entry(row.first),
        Entry(row.second),
        Entry(KINDS[row.kind]),
        Entry(row.pairs),
        decimal(row.jaccard),
        decimal(row.lowest),
        decimal(row.highest),
        decimal(row.expected),
    )
