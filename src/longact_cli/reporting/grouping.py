"""From cells to arms: which cells are seeds of one setting, and which settings may be compared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, Question, Section
from longact_cli.reporting.frame import Study, is_scored
from longact_cli.tracking.query import TrackedCell

_AXES = ("model.name", "algorithm.name", "mask.strategy", "mask.sparsity", "benchmark.name", "seed")
_NOT_SCIENCE = (
    "executor.",
    "vllm.",
    "algorithm.checkpoint_every",
    "benchmark.batch_size",
    "benchmark.base_url",
)


def collect_arms(study: Study) -> tuple[Arm, ...]:
    """Group a study's eval cells; an arm of which nothing is finished has no seeds.

    The untrained model appears in the section of every algorithm it is compared with. Arms come in
    the order base, dense, then by sparsity and name with `salient` first.
    """
    groups: dict[tuple[object, ...], list[TrackedCell]] = defaultdict(list)
    cells = [cell for cell in study.cells if cell.stage == "eval"]
    for cell in cells:
        groups[cell.model, cell.algorithm, cell.benchmark, cell.arm, cell.sparsity].append(cell)
    varying = {key for group in groups.values() for key in _differences(group)}
    split: dict[tuple[object, ...], list[TrackedCell]] = defaultdict(list)
    for head, group in groups.items():
        for cell in group:
            split[(*head, *sorted(_variant(cell, varying).items()))].append(cell)
    by_cell = {str(name): part for name, part in study.samples.groupby("cell", sort=False)}
    arms = [
        _arm(section, group, _variant(group[0], varying), by_cell)
        for group in split.values()
        for section in _sections(group[0], cells)
    ]
    return tuple(sorted(arms, key=_order))


def _sections(cell: TrackedCell, cells: Iterable[TrackedCell]) -> list[Section]:
    """Return the sections an eval cell belongs to: the base is in those of all algorithms."""
    algorithms: set[str | None] = {cell.algorithm}
    if cell.arm == BASE_ARM:
        peers = (c for c in cells if (c.model, c.benchmark) == (cell.model, cell.benchmark))
        algorithms = {peer.algorithm for peer in peers} - {None} or {None}
    return [Section(cell.model, name, cell.benchmark or "") for name in sorted(algorithms, key=str)]


def _settings(cell: TrackedCell) -> dict[str, str]:
    settings = {
        key: value
        for key, value in cell.params.items()
        if key not in _AXES and not key.startswith(_NOT_SCIENCE)
    }
    return settings | {"model revision": cell.model_revision[:12]}


def _differences(cells: list[TrackedCell]) -> set[str]:
    """Return the settings, apart from the seed, in which cells of the same name differ."""
    settings = [_settings(cell) for cell in cells]
    return {key for one in settings for key in one if any(one[key] != s.get(key) for s in settings)}


def _variant(cell: TrackedCell, varying: set[str]) -> dict[str, str]:
    """Return the varying settings that mean something for this arm."""
    ignored: tuple[str, ...] = ()
    if cell.arm == BASE_ARM:
        ignored = ("algorithm.", "data.", "mask.")
    elif cell.arm == "dense":
        ignored = ("mask.",)
    elif cell.arm in ("random", "frozen"):
        ignored = ("mask.statistic", "mask.site")
    settings = _settings(cell)
    return {
        key: settings[key] for key in varying if key in settings and not key.startswith(ignored)
    }


def _arm(
    section: Section,
    group: list[TrackedCell],
    variant: Mapping[str, str],
    samples: Mapping[str, pd.DataFrame],
) -> Arm:
    finished = sorted(
        (cell for cell in group if is_scored(cell) and cell.digest in samples),
        key=lambda cell: (-1 if cell.seed is None else cell.seed, cell.digest),
    )
    answers = [_answers(samples[cell.digest]) for cell in finished]
    questions = tuple(sorted({question for row in answers for question in row}))
    scores = [[row.get(question, np.nan) for question in questions] for row in answers]
    return Arm(
        section=section,
        strategy=group[0].arm,
        sparsity=group[0].sparsity,
        variant=variant,
        cells=tuple(group),
        seeds=tuple(cell.seed for cell in finished),
        questions=questions,
        scores=np.asarray(scores, dtype=np.float64).reshape(len(answers), len(questions)),
        n_truncated=sum(int(samples[cell.digest]["truncated"].sum()) for cell in finished),
    )


def _answers(samples: pd.DataFrame) -> dict[Question, float]:
    """Return the score of each question one cell answered."""
    columns = (samples[name].tolist() for name in ("task", "context_length", "sample", "score"))
    return {(task, length, name): score for task, length, name, score in zip(*columns, strict=True)}


def _order(arm: Arm) -> tuple[object, ...]:
    first = {BASE_ARM: 0, "dense": 1}.get(arm.strategy, 2)
    rank = {"salient": 0, "random": 1}.get(arm.strategy, 2)
    section = tuple(part or "" for part in arm.section)
    return (section, first, arm.sparsity or 0.0, rank, arm.strategy, arm.name)
