"""Figures with the points beside them: reward curves, and score against sparsity."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, Section, estimate_score
from longact_cli.reporting.curves import WINDOW, Curve
from longact_cli.reporting.table import Column, Entry, Provenance, Table
from longact_cli.reporting.table import Section as Rows

# Okabe and Ito's palette, told apart with colour-blind eyes: https://jfly.uni-koeln.de/color/
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")
_APART = 0.004  # moves overlapping intervals apart, in units of sparsity
_SIZE_INCHES = (5.5, 3.3)
_STYLE = {
    "font.size": 8,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "longact",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "legend.frameon": False,
    "savefig.dpi": 200,
}


def draw(
    name: str,
    paint: Callable[[Axes], None],
    formats: Sequence[str],
    provenance: Provenance,
    size: tuple[float, float] = _SIZE_INCHES,
) -> tuple[tuple[str, bytes], ...]:
    """Return file name and bytes of the figure in each format; equal input gives equal bytes.

    Args:
        name: File name without suffix.
        paint: Draws on the axes.
        formats: `pdf`, `png` or `svg`.
        provenance: Stored in the files' metadata.
        size: Width and height in inches.
    """
    files = []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.subplots())
        for suffix in formats:
            stream = io.BytesIO()
            figure.savefig(stream, format=suffix, metadata=_metadata(suffix, provenance))
            files.append((f"{name}.{suffix}", stream.getvalue()))
    return tuple(files)


def _metadata(suffix: str, provenance: Provenance) -> dict[str, Any]:
    text = "; ".join(provenance.lines())
    if suffix == "pdf":
        return {"Subject": text, "CreationDate": None, "Producer": None, "Creator": "longact"}
    if suffix == "svg":
        return {"Description": text, "Date": None, "Creator": "longact"}
    return {"Description": text, "Software": "longact"}


def paint_rewards(curves: Sequence[Curve]) -> Callable[[Axes], None]:
    """Return the painter of reward curves: line = mean over seeds, band = lowest to highest."""

    def paint(axes: Axes) -> None:
        for i, curve in enumerate(curves):
            colour, line = _look(i)
            seeds = f" ({curve.n_seeds} seeds)" if curve.n_seeds > 1 else " (1 seed)"
            axes.plot(curve.steps, curve.mean, line, color=colour, label=curve.label + seeds)
            axes.fill_between(
                curve.steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
            )
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(f"training reward\n(mean of the last {WINDOW} logged steps; band: seeds)")
        axes.legend()

    return paint


def paint_sparsity(section: Section, arms: Sequence[Arm]) -> Callable[[Axes], None]:
    """Return the painter of scores by sparsity for one section, with 95 % intervals."""

    def paint(axes: Axes) -> None:
        for i, strategy in enumerate(sorted({arm.name for arm in arms})):
            same = [arm for arm in arms if arm.name == strategy]
            group = [(arm, e) for arm in same if (e := estimate_score(arm))]
            colour, line = _look(i)
            if same[0].strategy == BASE_ARM:
                for _, estimate in group:
                    axes.axhline(100 * estimate.value, ls=":", color="#555555", label=strategy)
                continue
            axes.errorbar(
                [(arm.sparsity or 0.0) + _APART * i for arm, _ in group],
                [100 * e.value for _, e in group],
                yerr=[
                    [max(0.0, 100 * (e.value - e.low)) for _, e in group],
                    [max(0.0, 100 * (e.high - e.value)) for _, e in group],
                ],
                fmt=f"o{line}",
                color=colour,
                capsize=2,
                label=strategy,
            )
        axes.set_title(section.title)
        axes.set_xlabel("sparsity (fraction of query/key rows updated)")
        axes.set_ylabel("score %, 95 % interval")
        axes.legend()

    return paint


def _entries(values: Sequence[Any]) -> tuple[Entry, ...]:
    return tuple(Entry(float(value)) for value in values)


def _look(i: int) -> tuple[str, str]:
    return _PALETTE[i % len(_PALETTE)], _LINES[i // len(_PALETTE) % len(_LINES)]


def reward_points(curves: Sequence[Curve], study: str, provenance: Provenance) -> Table:
    """Return the points of the reward figure as a table."""
    columns = (
        Column("arm", "Arm", "text"),
        Column("seeds", "Seeds", "count"),
        Column("step", "Step", "count"),
        *(Column(name, name, "count") for name in ("mean", "lowest_seed", "highest_seed")),
    )
    rows = tuple(
        (Entry(curve.label), Entry(curve.n_seeds), Entry(int(step)), *_entries(values))
        for curve in curves
        for step, *values in zip(curve.steps, curve.mean, curve.low, curve.high, strict=True)
    )
    note = f"Each value is the mean over the last {WINDOW} logged steps (fewer at the start)."
    return Table(
        name="rewards",
        title=f"Training reward: {study}",
        columns=columns,
        sections=(Rows("", rows),),
        notes=(note,),
        missing=(),
        provenance=provenance,
    )
