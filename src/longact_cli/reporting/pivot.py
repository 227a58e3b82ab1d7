"""Any table of scores: rows and columns from any fields of the runs, after any filter."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import pandas as pd

from longact_cli.errors import ConfigError, NotFoundError, UnknownNameError
from longact_cli.registry import unknown_name
from longact_cli.reporting.arms import POOLED, RESAMPLING_SEED
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.statistics import score_estimate
from longact_cli.reporting.table import Column, Entry, Provenance, Section, Table
from longact_cli.reporting.tables.base import common_notes, missing_lines

ALIASES = {
    "mask": "arm",
    "bench": "benchmark",
    "length": "context_length",
    "algo": "algorithm",
}
FIELDS = (
    *("model", "algorithm", "arm", "sparsity", "seed", "benchmark", "task", "context_length"),
    *("difficulty", "protocol"),
)
_SETTINGS = ("model", "algorithm", "arm", "sparsity", "protocol")
_MOST_COLUMNS = 40


class Filter(NamedTuple):
    """Keep what has one of `values` in `field`."""

    field: str
    values: tuple[str, ...]


class Pivot(NamedTuple):
    """What was asked for; fields as the user wrote them."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    where: tuple[Filter, ...] = ()


def parse_pivot(rows: str, columns: str, where: Sequence[str]) -> Pivot:
    """Read the options `--rows`, `--cols` and `--where`.

    Raises:
        ConfigError: A list is empty or a filter is not `field=value`.
    """
    found = {"--rows": _words(rows), "--cols": _words(columns)}
    for option, names in found.items():
        if not names:
            raise ConfigError(
                f"{option} is empty; give fields, e.g. --rows mask,sparsity --cols bench,length"
            )
    filters = []
    for text in where:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not _words(values):
            raise ConfigError(f"--where is '{text}'; it must be FIELD=VALUE, e.g. model=micro")
        filters.append(Filter(name.strip(), _words(values)))
    return Pivot(found["--rows"], found["--cols"], tuple(filters))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def pivot_table(study: Study, provenance: Provenance, pivot: Pivot) -> Table:
    """Build the table that was asked for.

    A cell averages over every run and question that falls into it: tasks and lengths with equal
    weight, runs resampled as seeds. Nothing is ranked, since no baseline is declared.

    Raises:
        UnknownNameError: A field or a value does not exist.
        NotFoundError: The filters leave nothing.
        ConfigError: There would be too many columns.
    """
    rows = [_canonical("--rows", name, study) for name in pivot.rows]
    columns = [_canonical("--cols", name, study) for name in pivot.columns]
    twice = [name for name in rows if name in columns]
    if twice:
        raise ConfigError(f"{twice[0]} is in --rows and in --cols; leave it in one of them")
    frame = _filtered(_with_settings(study, [*rows, *columns], pivot.where), pivot, study)
    heads = _combinations(frame, columns)
    if len(heads) > _MOST_COLUMNS:
        raise ConfigError(
            f"--cols {','.join(pivot.columns)} gives {len(heads)} columns; at most {_MOST_COLUMNS} "
            "fit: move a field to --rows or add --where"
        )
    body = [_row(frame, rows, columns, key, heads) for key in _combinations(frame, rows)]
    return Table(
        name="pivot",
        title=f"{', '.join(pivot.rows)} by {', '.join(pivot.columns)}: {study.name}",
        columns=_columns(pivot, heads),
        sections=(Section(_title(pivot), tuple(body)),),
        notes=(*common_notes(study, collect_arms(study)), *_notes(frame, [*rows, *columns])),
        missing=missing_lines(study),
        provenance=provenance,
    )


def _title(pivot: Pivot) -> str:
    return ", ".join(f"{name} = {' or '.join(values)}" for name, values in pivot.where)


def _canonical(option: str, name: str, study: Study) -> str:
    field = ALIASES.get(name, name)
    settings = {key for cell in study.scored for key in cell.params}
    if field in FIELDS or field in settings:
        return field
    close = get_close_matches(name, [*ALIASES, *FIELDS, *sorted(settings)], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise UnknownNameError(
        f"{option} is '{name}'; it must be one of: {', '.join(sorted({*FIELDS, *ALIASES}))}, or a "
        f"configuration key such as mask.scope (`longact config show` lists them).{hint}"
    )


def _with_settings(study: Study, fields: Sequence[str], where: Sequence[Filter]) -> pd.DataFrame:
    """Return the answers with every asked field as text in a column of its own."""
    asked = [_canonical("--where", one.field, study) for one in where]
    names = dict.fromkeys([*fields, *asked, *_SETTINGS])
    frame = study.samples.copy(deep=False)
    params = {cell.digest: cell.params for cell in study.scored}
    for name in names:
        if name in FIELDS:
            frame[f"@{name}"] = frame[name].map(_text)
        else:
            frame[f"@{name}"] = frame["cell"].map(
                {d: p.get(name, "n/a") for d, p in params.items()}
            )
    return frame


def _text(value: object) -> str:
    if value is None or value != value or value == "":
        return "n/a"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _filtered(frame: pd.DataFrame, pivot: Pivot, study: Study) -> pd.DataFrame:
    everything = frame
    for name, values in pivot.where:
        column = f"@{_canonical('--where', name, study)}"
        known = sorted(set(everything[column]))
        for value in values:
            if value not in known:
                raise unknown_name(f"--where {name}", value, known)
        frame = frame[frame[column].isin(values)]
    if frame.empty:
        raise NotFoundError("--where leaves no answers; drop one of the filters")
    return frame


def _combinations(frame: pd.DataFrame, fields: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the combinations of values there are; numbers in their order."""
    found = set(zip(*(frame[f"@{name}"] for name in fields), strict=True))
    return sorted(found, key=lambda key: [_rank(text) for text in key])


def _rank(text: str) -> tuple[int, float, str]:
    if text in ("n/a", "base"):
        return (0, 0.0, text)
    try:
        return (1, float(text), text)
    except ValueError:
        return (2, 0.0, text)


def _columns(pivot: Pivot, heads: Sequence[tuple[str, ...]]) -> tuple[Column, ...]:
    return (
        *(Column(name, name, "text") for name in pivot.rows),
        *(
            Column(
                "score_" + "_".join(head),
                " ".join(head[1:]) if len(head) > 1 else head[0],
                "percent",
                head[0] if len(head) > 1 else pivot.columns[0],
            )
            for head in heads
        ),
        Column("runs", "Runs", "count"),
        Column("questions", "n", "count"),
    )


def _row(
    frame: pd.DataFrame,
    rows: Sequence[str],
    columns: Sequence[str],
    key: tuple[str, ...],
    heads: Sequence[tuple[str, ...]],
) -> tuple[Entry, ...]:
    part = _select(frame, rows, key)
    entries = [_entry(_select(part, columns, head)) for head in heads]
    runs = {cell for entry in entries for cell in entry.cells}
    questions = part[["benchmark", "task", "context_length", "sample"]].drop_duplicates()
    return (*map(Entry, key), *entries, Entry(len(runs)), Entry(len(questions)))


def _select(frame: pd.DataFrame, fields: Sequence[str], key: tuple[str, ...]) -> pd.DataFrame:
    keep = np.ones(len(frame), dtype=np.bool_)
    for name, value in zip(fields, key, strict=True):
        keep &= (frame[f"@{name}"] == value).to_numpy()
    return frame[keep]


def _entry(part: pd.DataFrame) -> Entry:
    if part.empty:
        return Entry()
    cells, names = pd.factorize(part["cell"], sort=True)
    asked = list(
        zip(*(part[c] for c in ("benchmark", "task", "context_length", "sample")), strict=True)
    )
    questions, unique = pd.factorize(pd.Series(asked, dtype=object), sort=True)
    scores = np.full((len(names), len(unique)), np.nan)
    scores[cells, questions] = part["score"].to_numpy()
    keys = [(b, "" if b in POOLED else task, length) for b, task, length, _ in unique]
    strata = pd.factorize(pd.Series(keys, dtype=object), sort=True)[0].astype(np.int64)
    estimate = score_estimate(scores, strata, rng=np.random.default_rng(RESAMPLING_SEED))
    return Entry.of(estimate, cells=tuple(name[:12] for name in names))


def _notes(frame: pd.DataFrame, fields: Sequence[str]) -> Iterator[str]:
    mixed = []
    for name in _SETTINGS:
        values = sorted(set(frame[f"@{name}"]) - {"n/a"})
        grouped = frame.groupby([f"@{field}" for field in fields], sort=False)[f"@{name}"].nunique()
        if name not in fields and grouped.max() > 1:
            mixed.append(f"{name} ({', '.join(values)})")
    if mixed:
        yield f"Cells average over different settings: {'; '.join(mixed)}."
    yield "Nothing is ranked: a free pivot declares no baseline."
