"""From cells to arms: which cells are seeds of one setting, and which settings may be compared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, Question, Section
from longact_cli.reporting.frame import Study, is_scored
from longact_cli.tracking.query import TrackedCell

_AXES = ("model.name", "algorithm.name", "mask.strategy", "mask.sparsity", "benchmark.name", "seed")
# Masks that do not look at activations: where and how those are measured is no difference.
_ACTIVATION_FREE = ("random", "frozen", "gradient", "weight", "wanda")
_ACTIVATIONS = ("mask.statistic", "mask.site")
_NOT_SCIENCE = (
    "executor.",
    "vllm.",
    "algorithm.checkpoint_every",
    "benchmark.batch_size",
    "benchmark.base_url",
)


@lru_cache(maxsize=4)
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
    sections = _sections(cells)
    arms = []
    for group in split.values():
        arm = _arm(group, _variant(group[0], varying), by_cell, study.achieved)
        places = sections[arm.section] if arm.strategy == BASE_ARM else (arm.section,)
        arms += [replace(arm, section=section) for section in places]
    return tuple(sorted(arms, key=_order))


def _sections(cells: Iterable[TrackedCell]) -> dict[Section, tuple[Section, ...]]:
    """Return where the base of each model and benchmark belongs: with every algorithm there is."""
    algorithms: dict[Section, set[str]] = defaultdict(set)
    for cell in cells:
        algorithms[Section(cell.model, None, cell.benchmark or "")] |= {cell.algorithm or ""} - {""}
    return {
        key: tuple(key._replace(algorithm=name) for name in sorted(names)) or (key,)
        for key, names in algorithms.items()
    }


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
    elif cell.arm in _ACTIVATION_FREE:
        ignored = _ACTIVATIONS
    settings = _settings(cell)
    return {
        key: settings[key] for key in varying if key in settings and not key.startswith(ignored)
    }


def _arm(
    group: list[TrackedCell],
    variant: Mapping[str, str],
    samples: Mapping[str, pd.DataFrame],
    achieved: Mapping[str, float],
) -> Arm:
    finished = sorted(
        (cell for cell in group if is_scored(cell) and cell.digest in samples),
        key=lambda cell: (-1 if cell.seed is None else cell.seed, cell.digest),
    )
    answers = [_answers(samples[cell.digest]) for cell in finished]
    questions = tuple(sorted({question for row in answers for question in row}))
    place = {question: i for i, question in enumerate(questions)}
    scores = np.full((len(answers), len(questions)), np.nan)
    truncated = np.zeros(scores.shape, dtype=np.bool_)
    for i, row in enumerate(answers):
        columns = [place[question] for question in row]
        scores[i, columns] = [score for score, _ in row.values()]
        truncated[i, columns] = [cut for _, cut in row.values()]
    head = group[0]
    ratios = [achieved[cell.parent] for cell in group if cell.parent and cell.parent in achieved]
    return Arm(
        section=Section(head.model, head.algorithm, head.benchmark or ""),
        strategy=head.arm,
        sparsity=head.sparsity,
        variant=variant,
        cells=tuple(group),
        seeds=tuple(cell.seed for cell in finished),
        questions=questions,
        scores=scores,
        n_truncated=int(truncated.sum()),
        scored=tuple(finished),
        truncated=truncated,
        achieved=float(np.mean(ratios)) if ratios else None,
        documents=_documents(questions, [samples[cell.digest] for cell in finished]),
    )


def _answers(samples: pd.DataFrame) -> dict[Question, tuple[float, bool]]:
    """Return the score of each question one cell answered, and whether its prompt was cut."""
    asked = (samples[name].tolist() for name in ("task", "context_length", "sample", "difficulty"))
    found = (samples[name].tolist() for name in ("score", "truncated"))
    return dict(zip(map(Question, *asked), zip(*found, strict=True), strict=True))


def _documents(questions: Iterable[Question], samples: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    """Return the document of each question; empty where it has its own."""
    known: dict[str, str] = {}
    for part in samples:
        if part["document"].any():
            known |= dict(zip(part["sample"].tolist(), part["document"].tolist(), strict=True))
    return tuple(known.get(question.sample, "") for question in questions) if known else ()


def _order(arm: Arm) -> tuple[object, ...]:
    first = {BASE_ARM: 0, "dense": 1}.get(arm.strategy, 2)
    rank = {"salient": 0, "random": 1}.get(arm.strategy, 2)
    section = tuple(part or "" for part in arm.section)
    return (section, first, arm.sparsity or 0.0, rank, arm.strategy, arm.name)
