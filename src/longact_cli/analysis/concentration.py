"""From sums to measures of each head and matrix: the rows of the concentration tables."""

from collections.abc import Iterator, Sequence

import numpy as np

from longact_cli.analysis import bins
from longact_cli.analysis.measures import (
    Floats,
    Ints,
    excess_kurtosis,
    gini,
    share_above_median,
    top_mass,
)
from longact_cli.analysis.profile import Draw, Matrix
from longact_cli.analysis.rows import ALL, FACTORS, SHARES, BinRow, MeasureRow, RatioRow
from longact_cli.analysis.totals import Totals, merge
from longact_cli.masking.ranking import updated_count
from longact_cli.masking.types import Statistic

_HEAD_WIDTH = 4


def pool_seeds(draws: Sequence[Draw]) -> tuple[Draw, ...]:
    """Return one draw per model, site and context, with the tokens of all seeds.

    Its seed is that of the first; single prompts are those of all.
    """
    pooled: dict[tuple[str, str, str], Draw] = {}
    for draw in draws:
        key = (draw.subject, draw.site, draw.context.name)
        if key not in pooled:
            pooled[key] = draw
            continue
        before = pooled[key]
        pooled[key] = before._replace(
            totals={name: merge(before.totals[name], t) for name, t in draw.totals.items()},
            by_prompt=(*before.by_prompt, *draw.by_prompt),
        )
    return tuple(pooled.values())


def measure_rows(
    draw: Draw, matrices: Sequence[Matrix], *, statistics: Sequence[Statistic], seed: str
) -> Iterator[MeasureRow]:
    """Yield the measures of every matrix and head of a draw; `seed` is what the rows call it."""
    for matrix in matrices:
        totals = draw.totals[matrix.name]
        for statistic in statistics:
            saliency = totals.saliency(statistic).double().numpy()
            for head, part in parts(matrix):
                yield MeasureRow(
                    draw.subject,
                    draw.site,
                    statistic,
                    draw.context.name,
                    draw.context.length,
                    seed,
                    matrix.layer,
                    matrix.kind,
                    head,
                    totals.tokens,
                    part.stop - part.start,
                    *_activations(totals, part, matrix.head_dim),
                    *_channels(saliency[part]),
                )


def parts(matrix: Matrix) -> Iterator[tuple[str, slice]]:
    """Yield the whole matrix, as `all`, then each head, with the rows they cover."""
    yield ALL, slice(0, matrix.rows)
    for head, start in enumerate(range(0, matrix.rows, matrix.head_dim)):
        yield str(head), slice(start, start + matrix.head_dim)


def _activations(totals: Totals, part: slice, head_dim: int) -> tuple[float, ...]:
    counts = totals.counts[part.start // head_dim : part.stop // head_dim].sum(dim=0).numpy()
    values = totals.tokens * (part.stop - part.start)
    powers = totals.powers[:, part].sum(dim=1).numpy()
    middle = bins.median(counts)
    above = (bins.share_above(counts, factor * middle) for factor in FACTORS)
    magnitude = float(totals.magnitudes[part].sum()) / values
    return (magnitude, middle, *above, excess_kurtosis(powers, values))


def _channels(saliency: Floats) -> tuple[float, ...]:
    return (
        gini(saliency),
        *share_above_median(saliency, FACTORS),
        *top_mass(saliency, SHARES).tolist(),
    )


def ratio_rows(
    long: Draw,
    short: Draw,
    matrices: Sequence[Matrix],
    *,
    statistics: Sequence[Statistic],
    sparsity: float,
) -> Iterator[RatioRow]:
    """Yield long against short for every matrix and head of two draws of one model and site.

    The salient channels of a head are those of its most salient channels that make up `sparsity`
    of the head; those of a matrix likewise.
    """
    for matrix in matrices:
        for statistic in statistics:
            of_long = long.totals[matrix.name].saliency(statistic).double().numpy()
            of_short = short.totals[matrix.name].saliency(statistic).double().numpy()
            for head, part in parts(matrix):
                top = _top(of_long[part], sparsity)
                yield RatioRow(
                    long.subject,
                    long.site,
                    statistic,
                    matrix.layer,
                    matrix.kind,
                    head,
                    _ratio(of_long[part], of_short[part]),
                    _ratio(of_long[part][top], of_short[part][top]),
                    gini(of_long[part]) - gini(of_short[part]),
                )


def _top(values: Floats, share: float) -> Ints:
    order: Ints = np.argsort(-values, kind="stable")[: updated_count(share, len(values))]
    return order


def _ratio(first: Floats, second: Floats) -> float:
    below = float(second.sum())
    return float(first.sum()) / below if below else float("nan")


def bin_rows(draw: Draw, matrices: Sequence[Matrix]) -> Iterator[BinRow]:
    """Yield the filled bins of every matrix, and wider ones of every head."""
    for matrix in matrices:
        counts = draw.totals[matrix.name].counts.numpy()
        for head, _ in parts(matrix):
            width = 1 if head == ALL else _HEAD_WIDTH
            fine = counts.sum(axis=0) if head == ALL else counts[int(head)]
            wide = fine.reshape(-1, width).sum(axis=1)
            borders = bins.edges()[::width]
            for place in np.flatnonzero(wide):
                yield BinRow(
                    draw.subject,
                    draw.site,
                    draw.context.name,
                    matrix.layer,
                    matrix.kind,
                    head,
                    float(borders[place]),
                    float(borders[place + 1]),
                    int(wide[place]),
                )
