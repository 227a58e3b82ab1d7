"""What a table says, apart from how it looks: columns, sections of rows, notes, provenance."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from longact_cli.files import sha256_json

if TYPE_CHECKING:
    from longact_cli.reporting.statistics import Estimate

Kind = Literal["text", "count", "percent", "points", "number", "published"]
MISSING = "--"
DECIMALS = 12
"""Digits written to files for programs: sums may differ behind them from machine to machine."""
_SCALE = 100.0
_MOST_CELLS = 60


class Provenance(NamedTuple):
    """Where the numbers come from. No dates: the same runs give the same bytes.

    `cells` are the digests of the cells; the report's `runs.csv` leads from them to MLflow runs,
    whose ids are new with every store.
    """

    command: str
    version: str
    study: str
    commits: tuple[str, ...]
    cells: tuple[str, ...]
    models: tuple[str, ...] = ()
    """Names and hashes of models, where the numbers come from models and not from cells."""

    def lines(self) -> tuple[str, ...]:
        """Return the provenance as lines of text without line breaks in them."""
        cells = [digest[:12] for digest in self.cells]
        if len(cells) > _MOST_CELLS:
            cells = [f"{len(cells)}, listed in runs.csv; sha256 {sha256_json(sorted(self.cells))}"]
        lines = (
            f"command: {self.command}",
            f"longact: {self.version}",
            f"study: {self.study}",
            f"commits: {', '.join(self.commits) or 'not recorded'}",
            f"models: {', '.join(self.models)}"
            if self.models
            else f"cells: {', '.join(cells) or 'none'}",
        )
        return tuple(" ".join(line.split()) for line in lines)


class Column(NamedTuple):
    """One column.

    `percent` and `points` hold fractions in 0..1 and -1..1, shown times 100; `published` is
    a percent with the digits of its source, `number` any other measure with two decimals. A compact
    column shows no intervals; files for programs still hold them.
    """

    key: str
    title: str
    kind: Kind
    group: str = ""
    compact: bool = False

    @property
    def is_number(self) -> bool:
        """Whether the column is aligned to the right."""
        return self.kind != "text"


class Entry(NamedTuple):
    """One place of a table: a value with its interval, a text in its stead, or nothing known.

    Attributes:
        bold: Best of its column, and significantly better than the declared baseline.
        second: Second best of its column.
        mark: Footnote signs.
        n: Questions that entered.
        seeds: Training seeds that entered.
        cells: First twelve digits of the digests of the cells it was computed from.
    """

    value: float | int | str | None = None
    low: float | None = None
    high: float | None = None
    bold: bool = False
    mark: str = ""
    second: bool = False
    n: int | None = None
    seeds: int | None = None
    cells: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, estimate: "Estimate | None", *, bold: bool = False, cells: tuple[str, ...] = ()
    ) -> "Entry":
        """Return the entry of an estimate; missing where it is None or undefined (NaN)."""
        if estimate is None or estimate.value != estimate.value:
            return cls()
        return cls(
            estimate.value,
            estimate.low,
            estimate.high,
            bold,
            n=estimate.n_questions,
            seeds=estimate.n_seeds,
            cells=cells,
        )

    def number(self, column: Column) -> str:
        """Return the value as shown, without interval and mark; `--` where it is missing."""
        return MISSING if self.value is None else _shown(self.value, column.kind)

    def interval(self, column: Column) -> str:
        """Return the interval as shown, e.g. `[32.7, 41.1]`; empty where there is none."""
        if self.low is None or self.high is None or column.compact:
            return ""
        return f"[{_shown(self.low, column.kind)}, {_shown(self.high, column.kind)}]"


def _shown(value: float | int | str, kind: Kind) -> str:
    if isinstance(value, str) or kind in ("text", "count"):
        return str(value)
    if kind in ("number", "published"):
        return f"{value * (_SCALE if kind == 'published' else 1.0):.2f}"
    scaled = round(value * _SCALE, 1) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{scaled:+.1f}" if kind == "points" and scaled else f"{scaled:.1f}"


@dataclass(frozen=True)
class Section:
    """Rows that may be compared with each other; the title says what they have in common."""

    title: str
    rows: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Table:
    """A finished table: every renderer shows all of it.

    `missing` has one line per cell without a result; a row has one entry per column.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    provenance: Provenance

    def groups(self) -> Iterator[tuple[str, int]]:
        """Yield the column groups from left to right: title (may be empty) and width."""
        width = 0
        for i, column in enumerate(self.columns):
            width += 1
            if i + 1 == len(self.columns) or self.columns[i + 1].group != column.group:
                yield column.group, width
                width = 0

    @property
    def has_groups(self) -> bool:
        """Whether a second header line is needed."""
        return any(column.group for column in self.columns)
