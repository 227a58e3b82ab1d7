"""Which figures a study gets, each with its points as CSV."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, counterpart, estimate_difference, estimate_score
from longact_cli.reporting.curves import reward_curves
from longact_cli.reporting.facets import RULER, length_part, lengths_of, tasks_of
from longact_cli.reporting.figures import COLUMN_WIDTH, PAGE_WIDTH, Drawing
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.painters import (
    Gap,
    HeatMap,
    arm_label,
    paint_forest,
    paint_heat_maps,
    paint_lengths,
    paint_rewards,
    paint_sparsity,
)
from longact_cli.reporting.points import (
    forest_points,
    heat_points,
    length_points,
    reward_points,
    sparsity_points,
)
from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.table import Provenance

_HEIGHT = 2.4
_MOST_GAPS = 40
_MOST_PANELS = 4
_MOST_LINES = 12
_PAPER_SPARSITY = 0.3


def figure_files(
    uri: str, study: Study, formats: Sequence[str], provenance: Provenance
) -> Iterator[tuple[str, bytes]]:
    """Yield file names with contents: each figure in each format, and its points.

    Raises:
        TrackingError: MLflow failed.
    """
    for drawing in figures(uri, study, provenance):
        yield from drawing.draw(formats, provenance)
        yield f"{drawing.name}.csv", FORMATS.get("csv")(drawing.points).encode("utf-8")


@lru_cache(maxsize=1)
def figures(uri: str, study: Study, provenance: Provenance) -> tuple[Drawing, ...]:
    """Return every figure that the study has something to show in.

    Raises:
        TrackingError: MLflow failed.
    """
    arms = collect_arms(study)
    found = [*_rewards(uri, study, arms, provenance)]
    sections = [
        (head.title, [arm for arm in group if arm.seeds])
        for head, group in groupby(arms, lambda arm: arm.section)
    ]
    shown = [(title, group) for title, group in sections if group]
    for i, (title, group) in enumerate(shown, start=1):
        tail = f"_{i}" if len(shown) > 1 else ""
        found += _of_section(title, group, tail, provenance)
    return (*found, *_forest(arms, provenance))


def _rewards(
    uri: str, study: Study, arms: Sequence[Arm], provenance: Provenance
) -> Iterator[Drawing]:
    curves = reward_curves(uri, study.cells, arms, most=_MOST_LINES)
    if curves:
        points = reward_points(curves, provenance)
        title = f"Training reward: {study.name}"
        yield Drawing("rewards", title, PAGE_WIDTH, _HEIGHT, paint_rewards(curves), points)


def _of_section(
    title: str, arms: Sequence[Arm], tail: str, provenance: Provenance
) -> Iterator[Drawing]:
    yield Drawing(
        f"score_by_sparsity{tail}",
        f"Score by sparsity: {title}",
        COLUMN_WIDTH,
        _HEIGHT,
        paint_sparsity(arms),
        sparsity_points(arms, provenance),
    )
    few = [arm for arm in arms if arm.strategy in (BASE_ARM, "dense", "salient", "random")]
    few = few[:_MOST_LINES]
    if len(lengths_of(arms)) > 1:
        yield Drawing(
            f"score_by_length{tail}",
            f"Score by context length: {title}",
            PAGE_WIDTH,
            _HEIGHT,
            paint_lengths(few),
            length_points(few, provenance),
        )
    if arms[0].section.benchmark == RULER:
        maps = [_heat_map(arm) for arm in _panels(arms)]
        height = 1.0 + 0.22 * len(maps[0].tasks)
        yield Drawing(
            f"ruler_heat_map{tail}",
            f"Score by task and length: {title}",
            PAGE_WIDTH,
            height,
            paint_heat_maps(maps),
            heat_points(maps, provenance),
        )


def _panels(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms of a heat map: base, dense, salient, random; near the paper's sparsity."""
    ranks = {BASE_ARM: 0, "dense": 1, "salient": 2, "random": 3}

    def place(arm: Arm) -> tuple[bool, float, int]:
        apart = abs((arm.sparsity or 0.0) - _PAPER_SPARSITY)
        level = 0.0 if arm.strategy in (BASE_ARM, "dense") else apart
        return arm.strategy not in ranks, level, ranks.get(arm.strategy, len(ranks))

    chosen = sorted(arms, key=place)[:_MOST_PANELS]
    return sorted(chosen, key=lambda arm: ranks.get(arm.strategy, len(ranks)))


def _heat_map(arm: Arm) -> HeatMap:
    tasks, lengths = tasks_of([arm]), lengths_of([arm])
    scores = tuple(tuple(_score(arm, task, length) for length in lengths) for task in tasks)
    return HeatMap(arm_label(arm), tasks, lengths, scores)


def _score(arm: Arm, task: str, length: int) -> float | None:
    found = estimate_score(arm, length_part(length, task))
    return None if found is None or found.value != found.value else found.value


def _forest(arms: Sequence[Arm], provenance: Provenance) -> Iterator[Drawing]:
    gaps = list(_gaps(arms))
    if not gaps:
        return
    most = gaps[:_MOST_GAPS]
    more = f" (first {_MOST_GAPS} of {len(gaps)})" if len(gaps) > len(most) else ""
    yield Drawing(
        "differences",
        f"Salient rows against controls, paired differences{more}",
        PAGE_WIDTH,
        0.7 + 0.17 * len(most),
        paint_forest(most),
        forest_points(gaps, provenance),
    )


def _gaps(arms: Sequence[Arm]) -> Iterator[Gap]:
    several = len({arm.section for arm in arms}) > 1
    for arm in arms:
        if arm.strategy != "salient":
            continue
        for control in ("dense", "random", "lowest", "frozen"):
            other = counterpart(arm, arms, control)
            found = estimate_difference(arm, other) if other else None
            if found is not None and found.value == found.value:
                where = f"{arm.section.title}: " if several else ""
                yield Gap(f"{where}{arm_label(arm)} - {control}", found)
