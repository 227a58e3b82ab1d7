"""Which figures an analysis gets, each with its points as CSV."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from longact_cli.analysis.analyze import Analysis
from longact_cli.analysis.profile import Draw
from longact_cli.reporting.analysis.csv_rows import to_csv
from longact_cli.reporting.analysis.figures import (
    Line,
    Map,
    Paint,
    histogram_lines,
    mass_lines,
    paint_histogram,
    paint_map,
    paint_mass,
    paint_sets,
    ratio_map,
    saliency_map,
)
from longact_cli.reporting.figures import PAGE_WIDTH, Painter, draw
from longact_cli.reporting.table import Provenance

_LINE_SIZE, _MAP_SIZE = (PAGE_WIDTH, 3.3), (PAGE_WIDTH, 2.8)


class Figure(NamedTuple):
    """A figure before it is drawn.

    Attributes:
        name: File name without suffix.
        caption: What it shows.
        paint: Draws it.
        size: In inches.
        points: Its numbers, as CSV.
    """

    name: str
    caption: str
    paint: Paint
    size: tuple[float, float]
    points: bytes


class _Point(NamedTuple):
    context: str
    kind: str
    x: float
    y: float


class _Cell(NamedTuple):
    layer: int
    channel: int
    value: float


class _Pair(NamedTuple):
    first: str
    second: str
    jaccard: float
    expected: float


def figures(found: Analysis) -> tuple[Figure, ...]:
    """Return the figures: for the first and the last model at every site, then the overlaps.

    Names are numbers and words of ours, never a model's name.
    """
    shown: list[Figure] = []
    for place, subject in enumerate(found.settings.subjects, start=1):
        if place in (1, len(found.settings.subjects)):
            for site in found.settings.sites:
                draws = [d for d in found.pooled if (d.subject, d.site) == (subject.label, site)]
                tail = site if len(found.settings.subjects) == 1 else f"{site}_model{place}"
                shown += _of_model(found, draws, tail)
    return (*shown, _overlap_figure(found))


def draw_files(
    shown: Sequence[Figure], formats: Sequence[str], provenance: Provenance
) -> Iterator[tuple[str, bytes]]:
    """Yield every figure in every format, and its points."""
    for figure in shown:
        yield from draw(figure.name, _on_one(figure.paint), figure.size, formats, provenance)
        yield f"{figure.name}.csv", figure.points


def _on_one(paint: Paint) -> Painter:
    return lambda canvas: paint(canvas.subplots())


def _of_model(found: Analysis, draws: Sequence[Draw], tail: str) -> Iterator[Figure]:
    """Yield the figures of one model at one site."""
    statistic = found.settings.statistics[0]
    where = f"{draws[0].subject}, site {draws[0].site}"
    lines = histogram_lines(draws, found.matrices)
    yield Figure(
        f"histogram_{tail}",
        f"Histogram of |x| over all layers and heads: {where}.",
        paint_histogram(lines),
        _LINE_SIZE,
        _line_points(lines),
    )
    mass = mass_lines(draws, found.matrices, statistic)
    yield Figure(
        f"mass_{tail}",
        f"Share of saliency ({statistic}) held by the most salient channels: {where}.",
        paint_mass(mass, found.settings.sparsity),
        _LINE_SIZE,
        _line_points(mass),
    )
    long, short = sorted(draws, key=lambda d: d.context.name)  # "long" < "short"
    for kind in ("q", "k"):
        for one in (long, short):
            shown = saliency_map(one, found.matrices, statistic, kind=kind)
            yield _map_figure(f"heatmap_{kind}_{one.context.name}_{tail}", shown)
        shown = ratio_map(long, short, found.matrices, statistic, kind=kind)
        yield _map_figure(f"heatmap_{kind}_ratio_{tail}", shown)


def _map_figure(name: str, shown: Map) -> Figure:
    cells = [
        _Cell(layer, channel, float(value))
        for (layer, channel), value in np.ndenumerate(shown.values)
    ]
    caption = f"Saliency by layer and channel, {shown.scale}. {shown.title}."
    return Figure(name, caption, paint_map(shown), _MAP_SIZE, to_csv(cells, _Cell._fields))


def _line_points(lines: Sequence[Line]) -> bytes:
    points = [
        _Point(line.context, line.kind, float(x), float(y))
        for line in lines
        for x, y in zip(line.x, line.y, strict=True)
    ]
    return to_csv(points, _Point._fields)


def _overlap_figure(found: Analysis) -> Figure:
    sets = found.sets
    pairs = [
        _Pair(first, second, sets.jaccard[i][j], sets.expected[i][j])
        for i, first in enumerate(sets.labels)
        for j, second in enumerate(sets.labels)
    ]
    return Figure(
        "overlap_matrix",
        "Jaccard overlap of sets of rows, mean over query and key matrices; overlap_matrix.csv "
        "holds the overlap by chance beside it.",
        paint_sets(sets),
        (PAGE_WIDTH, PAGE_WIDTH - 0.8),
        to_csv(pairs, _Pair._fields),
    )
