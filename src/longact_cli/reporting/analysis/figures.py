"""The figures of an analysis: histograms, mass curves, heat maps and the overlap matrix."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from longact_cli.analysis import bins
from longact_cli.analysis.measures import Floats, top_mass
from longact_cli.analysis.overlap import MatrixOfSets
from longact_cli.analysis.profile import Draw, Matrix
from longact_cli.masking.types import Statistic

_COLOURS = {"long": "#0072B2", "short": "#D55E00"}
_LINES = {"q": "-", "k": "--"}
_WORDS = {"q": "query", "k": "key"}
_BINS_PER_POINT = 4
_MOST_LABELLED = 14

Paint = Callable[[Axes], None]


class Line(NamedTuple):
    """One curve of a figure, with what its points file says of it."""

    context: str
    kind: str
    x: Floats
    y: Floats


class Map(NamedTuple):
    """Values by layer and channel.

    Attributes:
        values: [layers, channels].
        title: Above the map.
        scale: What the colours stand for.
        centred: Whether 0 is in the middle of the colours.
        head_dim: Channels per head.
    """

    values: Floats
    title: str
    scale: str
    centred: bool
    head_dim: int


def histogram_lines(draws: Sequence[Draw], matrices: Sequence[Matrix]) -> tuple[Line, ...]:
    """Return the histogram of |x| over all layers for each draw, query and key apart.

    `x` is the middle of a quarter of an octave, `y` the share of activations in it.
    """
    lines = []
    for draw in draws:
        for kind in ("q", "k"):
            counts = sum(
                draw.totals[m.name].counts.sum(dim=0).numpy() for m in matrices if m.kind == kind
            )
            wide = np.asarray(counts, dtype=np.float64).reshape(-1, _BINS_PER_POINT).sum(axis=1)
            middle = bins.edges()[_BINS_PER_POINT // 2 :: _BINS_PER_POINT]
            filled = np.flatnonzero(wide)
            part = slice(filled[0], filled[-1] + 1)
            lines.append(Line(draw.context.name, kind, middle[part], (wide / wide.sum())[part]))
    return tuple(lines)


def paint_histogram(lines: Sequence[Line]) -> Paint:
    """Return the painter of histograms on logarithmic axes."""

    def paint(axes: Axes) -> None:
        for line in lines:
            shown = np.where(line.y > 0, line.y, np.nan)
            axes.plot(
                line.x, shown, _LINES[line.kind], color=_COLOURS[line.context], label=_name(line)
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("|activation|")
        axes.set_ylabel("share of activations\nper quarter of an octave, all layers")
        axes.legend()

    return paint


def mass_lines(
    draws: Sequence[Draw], matrices: Sequence[Matrix], statistic: Statistic
) -> tuple[Line, ...]:
    """Return the share of saliency in the top channels, by share of channels; mean of layers."""
    shares = np.linspace(0.0, 1.0, 101)
    return tuple(
        Line(
            draw.context.name,
            kind,
            shares,
            np.mean(
                [
                    top_mass(
                        draw.totals[m.name].saliency(statistic).double().numpy(), shares.tolist()
                    )
                    for m in matrices
                    if m.kind == kind
                ],
                axis=0,
            ),
        )
        for draw in draws
        for kind in ("q", "k")
    )


def paint_mass(lines: Sequence[Line], sparsity: float) -> Paint:
    """Return the painter of mass curves; the diagonal is equal channels."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color="#555555", label="equal channels")
        for line in lines:
            axes.plot(
                line.x, line.y, _LINES[line.kind], color=_COLOURS[line.context], label=_name(line)
            )
        axes.axvline(sparsity, ls=":", lw=0.8, color="#999999")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("most salient channels")
        axes.set_ylabel("share of saliency they hold\n(mean over layers)")
        axes.legend()

    return paint


def _name(line: Line) -> str:
    return f"{_WORDS[line.kind]}, {line.context}"


def saliency_map(draw: Draw, matrices: Sequence[Matrix], statistic: Statistic, *, kind: str) -> Map:
    """Return log2(saliency / median saliency of the matrix) by layer and channel."""
    chosen = [m for m in matrices if m.kind == kind]
    rows = []
    for matrix in chosen:
        values = draw.totals[matrix.name].saliency(statistic).double().numpy()
        rows.append(_log2(values, float(np.median(values))))
    return Map(
        _stack(rows),
        f"{draw.subject}: {_WORDS[kind]}, {draw.context.name} {draw.context.length}, {draw.site}",
        f"log2 of {statistic} / median of the layer",
        False,
        chosen[0].head_dim,
    )


def ratio_map(
    long: Draw, short: Draw, matrices: Sequence[Matrix], statistic: Statistic, *, kind: str
) -> Map:
    """Return log2(saliency on long / saliency on short contexts) by layer and channel."""
    chosen = [m for m in matrices if m.kind == kind]
    rows = [
        _log2(
            long.totals[m.name].saliency(statistic).double().numpy(),
            short.totals[m.name].saliency(statistic).double().numpy(),
        )
        for m in chosen
    ]
    title = f"{long.subject}: {_WORDS[kind]}, long / short, {long.site}"
    return Map(_stack(rows), title, "log2 of long / short", True, chosen[0].head_dim)


def _log2(values: Floats, reference: Floats | float) -> Floats:
    """Return log2 of the quotient; NaN where either is 0, drawn in grey."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.log2(values / reference)
    return np.where(np.isfinite(found), found, np.nan)


def _stack(rows: Sequence[Floats]) -> Floats:
    """Return the layers as one array; narrower layers end in NaN."""
    width = max(len(row) for row in rows)
    padded = [np.pad(row, (0, width - len(row)), constant_values=np.nan) for row in rows]
    stacked: Floats = np.stack(padded)
    return stacked


def paint_map(shown: Map) -> Paint:
    """Return the painter of a heat map; ticks stand at the first channel of a head."""

    def paint(axes: Axes) -> None:
        limit = float(np.nanmax(np.abs(shown.values))) or 1.0
        image = axes.imshow(
            shown.values,
            aspect="auto",
            interpolation="nearest",
            cmap="PuOr_r" if shown.centred else "viridis",
            vmin=-limit if shown.centred else None,
            vmax=limit if shown.centred else None,
        )
        axes.set_facecolor("#bbbbbb")
        layers, channels = shown.values.shape
        step = shown.head_dim * max(1, channels // shown.head_dim // 8)
        axes.set_xticks(
            np.arange(0, channels, step) - 0.5, [str(i) for i in range(0, channels, step)]
        )
        every = max(1, layers // 12)
        axes.set_yticks(range(0, layers, every))
        axes.set_xlabel(f"channel (heads of {shown.head_dim})")
        axes.set_ylabel("layer")
        axes.set_title(shown.title)
        axes.figure.colorbar(image, ax=axes, label=shown.scale)

    return paint


def paint_sets(found: MatrixOfSets) -> Paint:
    """Return the painter of the overlap matrix; numbers where they can be read."""

    def paint(axes: Axes) -> None:
        values = np.asarray(found.jaccard)
        image = axes.imshow(values, cmap="viridis", vmin=0.0, vmax=1.0)
        places = range(len(found.labels))
        small = 8 if len(found.labels) <= _MOST_LABELLED else 5
        axes.set_xticks(places, found.labels, rotation=90, fontsize=small)
        axes.set_yticks(places, found.labels, fontsize=small)
        if len(found.labels) <= _MOST_LABELLED:
            for i in places:
                for j in places:
                    colour = "white" if values[i, j] < 0.6 else "black"
                    axes.text(
                        j,
                        i,
                        f"{values[i, j]:.2f}",
                        ha="center",
                        va="center",
                        color=colour,
                        fontsize=6,
                    )
        axes.figure.colorbar(image, ax=axes, label="Jaccard overlap, mean over layers")

    return paint
