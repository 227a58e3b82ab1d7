"""What each figure shows: painters for reward, sparsity, length, heat map and forest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, estimate_score
from longact_cli.reporting.curves import WINDOW, Curve
from longact_cli.reporting.facets import length_part, lengths_of
from longact_cli.reporting.figures import PALETTE, Painter, look
from longact_cli.reporting.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_APART = 0.004  # moves overlapping intervals apart, in units of sparsity
_DARK = 0.55  # share of the colour scale above which text on it is dark
_GREY = "#555555"


class Gap(NamedTuple):
    """One line of a forest plot: a difference of scores, -1..1."""

    label: str
    estimate: Estimate


class HeatMap(NamedTuple):
    """Scores of one arm, [tasks][lengths], 0..1; None where nothing was asked."""

    title: str
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    scores: tuple[tuple[float | None, ...], ...]


def paint_rewards(curves: Sequence[Curve]) -> Painter:
    """Return the painter of reward curves: line = mean over seeds, band = its uncertainty."""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for i, curve in enumerate(curves):
            colour, line = look(i)
            label = f"{curve.label} ({curve.n_seeds} seed{'s' if curve.n_seeds > 1 else ''})"
            axes.plot(curve.steps, curve.mean, line, color=colour, label=label)
            axes.fill_between(
                curve.steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
            )
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(f"reward (mean of {WINDOW} steps)")
        figure.legend(loc="outside right upper")

    return paint


def paint_sparsity(arms: Sequence[Arm]) -> Painter:
    """Return the painter of scores by sparsity for one section, with 95 % intervals."""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for i, strategy in enumerate(sorted({arm.name for arm in arms})):
            same = [arm for arm in arms if arm.name == strategy]
            found = [(arm, e) for arm in same if (e := estimate_score(arm))]
            if same[0].strategy == BASE_ARM:
                for _, estimate in found:
                    axes.axhline(100 * estimate.value, ls=":", color=_GREY, label=strategy)
                continue
            places = [_amount(arm) + _APART * i for arm, _ in found]
            _intervals(axes, places, [e for _, e in found], i, strategy)
        axes.set_xlabel("sparsity (fraction of query/key rows updated)")
        axes.set_ylabel("score %, 95 % interval")
        figure.legend(loc="outside upper center", ncols=4)

    return paint


def _amount(arm: Arm) -> float:
    return (arm.sparsity if arm.achieved is None else arm.achieved) or 0.0


def paint_lengths(arms: Sequence[Arm]) -> Painter:
    """Return the painter of scores by context length, with 95 % intervals."""
    lengths = lengths_of(arms)

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for i, arm in enumerate(arms):
            found = [(n, e) for n in lengths if (e := estimate_score(arm, length_part(n)))]
            places = [lengths.index(n) + 0.03 * (i - len(arms) / 2) for n, _ in found]
            _intervals(axes, places, [e for _, e in found], i, arm_label(arm))
        axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        axes.set_xlabel("context length (tokens)")
        axes.set_ylabel("score %, 95 % interval")
        figure.legend(loc="outside right upper")

    return paint


def _intervals(
    axes: "Axes", places: Sequence[float], found: Sequence[Estimate], i: int, label: str
) -> None:
    colour, line = look(i)
    below = [max(0.0, 100 * (e.value - e.low)) for e in found]
    above = [max(0.0, 100 * (e.high - e.value)) for e in found]
    axes.errorbar(
        places,
        [100 * e.value for e in found],
        yerr=[below, above],
        fmt=f"o{line}",
        color=colour,
        capsize=2,
        label=label,
    )


def arm_label(arm: Arm) -> str:
    """Return the arm's name with its sparsity, where it has one to choose."""
    return arm.name if arm.sparsity in (None, 0.0, 1.0) else f"{arm.name} {arm.amount}"


def paint_heat_maps(maps: Sequence[HeatMap]) -> Painter:
    """Return the painter of tasks by lengths, one panel per arm; numbers are percent."""

    def paint(figure: "Figure") -> None:
        panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        image = None
        for axes, one in zip(panels, maps, strict=True):
            rows = [[float("nan") if x is None else 100 * x for x in row] for row in one.scores]
            image = axes.imshow(rows, vmin=0, vmax=100, cmap="cividis", aspect="auto")
            axes.set_title(one.title)
            axes.set_xticks(range(len(one.lengths)), [_short(n) for n in one.lengths])
            axes.set_yticks(range(len(one.tasks)), one.tasks)
            axes.tick_params(length=0)
            _write_numbers(axes, rows)
        if image is not None:
            figure.colorbar(image, ax=list(panels), label="score %", shrink=0.8)
        figure.supxlabel("context length (tokens)", fontsize=8)

    return paint


def _short(length: int) -> str:
    return f"{length // 1024}k" if length >= 1024 and length % 1024 == 0 else str(length)


def _write_numbers(axes: "Axes", rows: Sequence[Sequence[float]]) -> None:
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            text = "--" if value != value else f"{value:.0f}"
            colour = "black" if value != value or value > 100 * _DARK else "white"
            axes.text(x, y, text, ha="center", va="center", fontsize=6, color=colour)


def paint_forest(gaps: Sequence[Gap]) -> Painter:
    """Return the painter of paired differences with 95 % intervals, filled where 0 is excluded."""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.axvline(0.0, color=_GREY, linewidth=0.8)
        for i, (_, estimate) in enumerate(gaps):
            sure = estimate.excludes_zero
            axes.plot(
                [100 * estimate.low, 100 * estimate.high], [i, i], color=PALETTE[0], linewidth=1.2
            )
            face = PALETTE[0] if sure else "white"
            axes.plot([100 * estimate.value], [i], "o", color=PALETTE[0], markerfacecolor=face)
        axes.set_yticks(range(len(gaps)), [gap.label for gap in gaps])
        axes.set_ylim(len(gaps) - 0.5, -0.5)
        axes.set_xlabel("difference in points, 95 % interval (filled: excludes 0)")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return paint
