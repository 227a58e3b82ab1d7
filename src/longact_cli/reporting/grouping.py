"""From cells to arms: which cells are seeds of one setting, and which settings may be compared."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm, Question, Section
from longact_cli.reporting.frame import Study, is_scored
from longact_cli.reporting.statistics import Floats, Ints
from longact_cli.tracking.query import TrackedCell

_AXES = ("model.name", "algorithm.name", "mask.strategy", "mask.sparsity", "benchmark.name", "seed")
# Masks that do not look at activations: where and how those are measured is no difference.
_ACTIVATION_FREE = ("random", "frozen", "gradient", "weight", "wanda")
_ACTIVATIONS = ("mask.statistic", "mask.site")
_REVISION = "model revision"
_QUESTION = ("task", "context_length", "sample", "difficulty")
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
    book = _read_answers(study.samples)
    sections = _sections(cells)
    arms = []
    for group in split.values():
        arm = _arm(group, _variant(group[0], varying), book, study.achieved)
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
    return settings | {_REVISION: cell.model_revision[:12]}


def _differences(cells: list[TrackedCell]) -> set[str]:
    """Return the settings, apart from the seed, in which cells of the same name differ."""
    settings = [set(_settings(cell).items()) for cell in cells]
    return {key for one in settings for key, _ in one - settings[0]} | {
        key for one in settings for key, _ in settings[0] - one
    }


def _variant(cell: TrackedCell, varying: set[str]) -> dict[str, str]:
    """Return the varying settings that mean something for this arm."""
    ignored: tuple[str, ...] = ()
    if cell.arm == BASE_ARM:
        ignored = ("algorithm.", "data.", "mask.")
    elif cell.arm == "dense":
        ignored = ("mask.",)
    elif cell.arm in _ACTIVATION_FREE:
        ignored = _ACTIVATIONS
    settings = {**cell.params, _REVISION: cell.model_revision[:12]}
    return {
        key: settings[key] for key in varying if key in settings and not key.startswith(ignored)
    }


class _Answers(NamedTuple):
    """The answers of one cell: place of each question, score and whether the prompt was cut."""

    places: Ints
    scores: Floats
    truncated: NDArray[np.bool_]


class _Book(NamedTuple):
    """Every question that was asked, sorted, its document, and the answers by cell."""

    questions: tuple[Question, ...]
    documents: tuple[str, ...]
    answers: Mapping[str, _Answers]


def _read_answers(samples: pd.DataFrame) -> _Book:
    if samples.empty:
        return _Book((), (), {})
    asked = samples.groupby(list(_QUESTION), sort=True, observed=True)
    places = asked.ngroup().to_numpy(dtype=np.int64)
    # One row for each question, at its place.
    first = np.zeros(int(places.max()) + 1, dtype=np.int64)
    first[places[::-1]] = np.arange(len(places))[::-1]
    columns = (samples[name].to_numpy()[first].tolist() for name in _QUESTION)
    questions = tuple(map(Question, *columns))
    documents = samples["document"].to_numpy()[first].tolist()
    cells, names = pd.factorize(samples["cell"])
    order = np.argsort(cells, kind="stable")
    ends = np.cumsum(np.bincount(cells, minlength=len(names)))[:-1]
    parts = (
        np.split(values[order], ends)
        for values in (places, samples["score"].to_numpy(), samples["truncated"].to_numpy(bool))
    )
    answers = zip(names, *parts, strict=True)
    return _Book(questions, tuple(documents), {str(n): _Answers(*found) for n, *found in answers})


def _arm(
    group: list[TrackedCell],
    variant: Mapping[str, str],
    book: _Book,
    achieved: Mapping[str, float],
) -> Arm:
    finished = sorted(
        (cell for cell in group if is_scored(cell) and cell.digest in book.answers),
        key=lambda cell: (-1 if cell.seed is None else cell.seed, cell.digest),
    )
    answers = [book.answers[cell.digest] for cell in finished]
    asked = np.unique(np.concatenate([a.places for a in answers])) if answers else np.zeros(0, int)
    scores = np.full((len(answers), len(asked)), np.nan)
    truncated = np.zeros(scores.shape, dtype=np.bool_)
    for i, one in enumerate(answers):
        columns = np.searchsorted(asked, one.places)
        scores[i, columns] = one.scores
        truncated[i, columns] = one.truncated
    documents = tuple(book.documents[place] for place in asked)
    head = group[0]
    ratios = [achieved[cell.parent] for cell in group if cell.parent and cell.parent in achieved]
    return Arm(
        section=Section(head.model, head.algorithm, head.benchmark or ""),
        strategy=head.arm,
        sparsity=head.sparsity,
        variant=variant,
        cells=tuple(group),
        seeds=tuple(cell.seed for cell in finished),
        questions=tuple(book.questions[place] for place in asked),
        scores=scores,
        n_truncated=int(truncated.sum()),
        documents=documents if any(documents) else (),
        scored=tuple(finished),
        truncated=truncated,
        achieved=float(np.mean(ratios)) if ratios else None,
    )


def _order(arm: Arm) -> tuple[object, ...]:
    first = {BASE_ARM: 0, "dense": 1}.get(arm.strategy, 2)
    rank = {"salient": 0, "random": 1}.get(arm.strategy, 2)
    section = tuple(part or "" for part in arm.section)
    return (section, first, arm.sparsity or 0.0, rank, arm.strategy, arm.name)
