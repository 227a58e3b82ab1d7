"""Which sets of rows are compared with which, and how much they share."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from longact_cli.analysis.concentration import parts
from longact_cli.analysis.measures import Bools, Floats, Ints, expected_jaccard, jaccard
from longact_cli.analysis.profile import Matrix
from longact_cli.analysis.row_sets import CHANGED, NO_PROMPT, SALIENT, RowSet
from longact_cli.analysis.rows import ALL, OverlapRow


class Comparison(NamedTuple):
    """Pairs of sets that differ in one thing.

    Attributes:
        name: What differs.
        first: What the first of each pair has.
        second: What the second has.
        pairs: The sets.
    """

    name: str
    first: str
    second: str
    pairs: tuple[tuple[RowSet, RowSet], ...]


def comparisons(sets: Sequence[RowSet]) -> tuple[Comparison, ...]:
    """Return every comparison between two sets that differ in exactly one thing.

    Comparisons of seeds and of single prompts say how much two equal measurements differ: the
    noise that the others stand against.
    """
    whole = [s for s in sets if s.prompt == NO_PROMPT]
    salient = [s for s in whole if s.strategy == SALIENT]
    changed = [s for s in whole if s.strategy == CHANGED]
    others = [s for s in whole if s.strategy not in (SALIENT, CHANGED)]
    name = _Namer(salient, runs=len({s.subject for s in changed}))
    found = [
        *_differing("length", "context", salient, name),
        *_differing("seed", "seed", salient, name),
        *_differing("prompt", "prompt", [s for s in sets if s.prompt != NO_PROMPT], name),
        *_differing("model", "subject", salient, name),
        *_differing("statistic", "statistic", salient, name),
        *_differing("site", "site", salient, name),
        *_grouped("strategy", _against_salient(salient, others), name),
        *_grouped("changed", [*product(changed, salient + others)], name),
        *_grouped("changed", _between_runs(changed), name),
    ]
    return tuple(found)


class _Namer:
    """Names sets by what a reader must know to tell them apart."""

    def __init__(self, sets: Sequence[RowSet], *, runs: int) -> None:
        self._runs = runs
        self._told = [
            place
            for place, field in enumerate(RowSet._fields)
            if field in ("subject", "context", "site", "statistic")
            and len({s[place] for s in sets}) > 1
        ]

    def __call__(self, rows: RowSet) -> str:
        if rows.strategy == CHANGED:
            run = f" by {rows.subject}" if self._runs > 1 else ""
            return f"{CHANGED}{run}, {rows.statistic}"
        free = rows.strategy in ("random", "weight")  # no activation decides
        told = [rows[place] for place in self._told]
        words = [rows.strategy, *(w for w in told if not (free and w == rows.context))]
        return " ".join(str(word) for word in words)


def _differing(
    comparison: str, field: str, sets: Sequence[RowSet], name: _Namer
) -> Iterator[Comparison]:
    """Compare sets that agree in everything but one field."""
    place = RowSet._fields.index(field)
    alike: dict[tuple[object, ...], list[RowSet]] = {}
    for rows in sets:
        alike.setdefault((*rows[1:place], *rows[place + 1 :]), []).append(rows)
    pairs = [pair for group in alike.values() for pair in combinations(group, 2)]
    return _grouped(comparison, pairs, name)


def _against_salient(
    salient: Sequence[RowSet], others: Sequence[RowSet]
) -> list[tuple[RowSet, RowSet]]:
    place = RowSet._fields.index("strategy")
    return [
        (one, other)
        for one, other in product(salient, others)
        if one[1:place] == other[1:place] and one[place + 1 :] == other[place + 1 :]
    ]


def _between_runs(changed: Sequence[RowSet]) -> list[tuple[RowSet, RowSet]]:
    """Pair what two runs changed, by one measure, and the two measures of one run."""
    return [
        (one, other)
        for one, other in combinations(changed, 2)
        if (one.subject == other.subject) != (one.statistic == other.statistic)
    ]


def _grouped(
    comparison: str, pairs: Iterable[tuple[RowSet, RowSet]], name: _Namer
) -> Iterator[Comparison]:
    """Put pairs that read alike into one comparison."""
    groups: dict[tuple[str, str], list[tuple[RowSet, RowSet]]] = {}
    for first, second in pairs:
        groups.setdefault((name(first), name(second)), []).append((first, second))
    for (one, two), found in groups.items():
        yield Comparison(comparison, one, two, tuple(found))


def overlap_rows(comparison: Comparison, matrices: Sequence[Matrix]) -> Iterator[OverlapRow]:
    """Yield the overlap of every matrix and head, averaged over the pairs."""
    for matrix in matrices:
        first = _stacked([pair[0] for pair in comparison.pairs], matrix)
        second = _stacked([pair[1] for pair in comparison.pairs], matrix)
        shared = (first & second).sum(axis=2)  # [pairs, heads]; the whole is their sum
        sizes = np.stack([first.sum(axis=2), second.sum(axis=2)])
        for head, part in parts(matrix):
            heads = slice(None) if head == ALL else slice(int(head), int(head) + 1)
            rows = part.stop - part.start
            a, b = sizes[:, :, heads].sum(axis=2)
            found = _overlaps(shared[:, heads].sum(axis=1), a, b)
            chance = [expected_jaccard(rows, int(i), int(j)) for i, j in zip(a, b, strict=True)]
            yield OverlapRow(
                comparison.name,
                *_shared(comparison),
                comparison.first,
                comparison.second,
                matrix.layer,
                matrix.kind,
                head,
                rows,
                int(np.isfinite(found).sum()),
                *_spread(found.tolist()),
                _mean(chance),
            )


def _shared(comparison: Comparison) -> tuple[str, str, str, str]:
    """Return model, site, statistic and context of both sides; empty where they differ.

    A set of changed rows has none of these: those of the other side are given.
    """
    first, second = comparison.pairs[0]
    one = second if first.strategy == CHANGED else first

    def common(mine: str | None, other: str | None) -> str:
        return mine if mine is not None and mine == other else ""

    return (
        common(one.subject, second.subject),
        common(one.site, second.site),
        common(one.statistic, second.statistic),
        common(one.context, second.context),
    )


def _stacked(sets: Sequence[RowSet], matrix: Matrix) -> Bools:
    """Return the sets of one matrix, [sets, heads, head_dim]."""
    masks: Bools = np.stack([s.mask[matrix.name].cpu().numpy() for s in sets])
    return masks.reshape(len(sets), -1, matrix.head_dim)


def _overlaps(shared: Ints, first: Ints, second: Ints) -> Floats:
    """Return the Jaccard overlaps of pairs from their sizes, [pairs]; NaN where both are empty."""
    either = first + second - shared
    overlaps: Floats = np.where(either > 0, shared / np.maximum(either, 1), np.nan)
    return overlaps


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    known = [value for value in values if value == value]
    return (_mean(known), min(known, default=float("nan")), max(known, default=float("nan")))


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


class Agreement(NamedTuple):
    """The overlap of two sets over a whole model: the mean over its matrices.

    Attributes:
        comparison: What differs.
        first: One side.
        second: The other side.
        kind: q or k.
        pairs: Pairs of sets per matrix.
        jaccard: Mean over pairs and matrices.
        lowest: The lowest matrix (mean over its pairs).
        highest: The highest matrix.
        expected: Mean overlap of random sets of the same sizes.
    """

    comparison: str
    first: str
    second: str
    kind: str
    pairs: int
    jaccard: float
    lowest: float
    highest: float
    expected: float


def agreements(rows: Iterable[OverlapRow]) -> tuple[Agreement, ...]:
    """Return the mean over matrices of each comparison, q and k apart."""
    groups: dict[tuple[str, str, str, str], list[OverlapRow]] = {}
    for row in rows:
        if row.head == ALL:
            groups.setdefault((row.comparison, row.first, row.second, row.kind), []).append(row)
    return tuple(
        Agreement(
            *key,
            max(row.pairs for row in group),
            *_spread([row.jaccard for row in group]),
            _mean(row.expected for row in group),
        )
        for key, group in groups.items()
    )


class MatrixOfSets(NamedTuple):
    """Every set against every other.

    Attributes:
        labels: Names of the sets.
        jaccard: Mean over matrices, [sets, sets].
        expected: The same of random sets of the same sizes, [sets, sets].
    """

    labels: tuple[str, ...]
    jaccard: tuple[tuple[float, ...], ...]
    expected: tuple[tuple[float, ...], ...]


def matrix_of_sets(sets: Sequence[RowSet], matrices: Sequence[Matrix]) -> MatrixOfSets:
    """Return the overlap of all pairs of sets, single prompts left out."""
    whole = [s for s in sets if s.prompt == NO_PROMPT]
    masks = [{m.name: s.mask[m.name].cpu().numpy() for m in matrices} for s in whole]
    found, chance = [], []
    for first in masks:
        pairs = [
            [
                (
                    jaccard(first[m.name], second[m.name]),
                    expected_jaccard(m.rows, int(first[m.name].sum()), int(second[m.name].sum())),
                )
                for m in matrices
            ]
            for second in masks
        ]
        found.append(tuple(_mean(value for value, _ in row) for row in pairs))
        chance.append(tuple(_mean(value for _, value in row) for row in pairs))
    return MatrixOfSets(_labels(whole), tuple(found), tuple(chance))


def _labels(sets: Sequence[RowSet]) -> tuple[str, ...]:
    """Return short names: what differs from the first set, and where salient sets come from."""
    usual = sets[0]
    subjects = len({s.subject for s in sets if s.strategy != CHANGED})
    runs = len({s.subject for s in sets if s.strategy == CHANGED})
    names = []
    for rows in sets:
        several = runs if rows.strategy == CHANGED else subjects
        words = [rows.subject] if several > 1 else []
        words += [] if rows.strategy == SALIENT else [rows.strategy]
        words += [rows.statistic] if rows.strategy == CHANGED else []
        if rows.strategy == SALIENT:
            words += [str(rows.context), f"seed {rows.seed}"]
            words += [rows.site] if rows.site != usual.site else []
            words += [rows.statistic] if rows.statistic != usual.statistic else []
        names.append(" ".join(words))
    return tuple(names)
