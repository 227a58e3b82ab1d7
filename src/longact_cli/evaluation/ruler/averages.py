"""RULER's averages: over tasks at each length, over lengths, and weighted by length.

Source: NVIDIA/RULER c3f5e3b, README.md: the score of a length is the plain mean over tasks; `Avg.`
is the plain mean over lengths; `wAvg. (inc)` and `wAvg. (dec)` weigh the lengths, shortest first,
with 1, 2, 3, ... and ..., 3, 2, 1.
"""

from collections.abc import Sequence

from longact_cli.evaluation.benchmark import ALL_LENGTHS, Answered, score_row
from longact_cli.evaluation.ruler.generator import find_task
from longact_cli.evaluation.ruler.score import METRIC, METRIC_ANY
from longact_cli.evaluation.ruler.templates import QaTask
from longact_cli.evaluation.thinking import is_empty, without_thoughts
from longact_cli.results import EvalResult

MEAN, WEIGHTED_UP, WEIGHTED_DOWN = "mean", "weighted_increasing", "weighted_decreasing"
FILL, EMPTY = "fill", "empty"


def task_rows(answered: Sequence[Answered], *, protocol: str) -> tuple[EvalResult, ...]:
    """Return the mean score of each task at each length."""
    groups: dict[tuple[str, int], list[Answered]] = {}
    for one in answered:
        groups.setdefault((one.sample.task, one.sample.context_length), []).append(one)
    return tuple(
        score_row(
            [one.result for one in group],
            task=task,
            context_length=length,
            metric=METRIC_ANY if isinstance(find_task(task), QaTask) else METRIC,
            protocol=protocol,
        )
        for (task, length), group in groups.items()
    )


def averages(
    rows: Sequence[EvalResult], answered: Sequence[Answered], *, protocol: str
) -> tuple[EvalResult, ...]:
    """Return the means per length, the overall ones, the fill per length and the empty answers.

    A mean over tasks or lengths exists only where every part of it has a score.
    """
    lengths = sorted({row.context_length for row in rows})
    by_length = {length: [r for r in rows if r.context_length == length] for length in lengths}
    means = [
        _combined(part, [1] * len(part), MEAN, length=length, protocol=protocol)
        for length, part in by_length.items()
    ]
    up = list(range(1, len(means) + 1))
    overall = [
        _combined(means, weights, name, length=ALL_LENGTHS, protocol=protocol)
        for name, weights in (
            (MEAN, [1] * len(means)),
            (WEIGHTED_UP, up),
            (WEIGHTED_DOWN, up[::-1]),
        )
    ]
    fills = [
        _fill(answered, length, like=mean) for length, mean in zip(lengths, means, strict=True)
    ]
    return (*means, *overall, *fills, _empty(answered, like=overall[0]))


def _combined(
    rows: Sequence[EvalResult], weights: Sequence[int], name: str, *, length: int, protocol: str
) -> EvalResult:
    return EvalResult(
        benchmark=rows[0].benchmark,
        task=name,
        protocol=protocol,
        context_length=length,
        metric="mean_score",
        score=_weighted([row.score for row in rows], weights),
        n_scored=sum(row.n_scored for row in rows),
        n_failed=sum(row.n_failed for row in rows),
        n_truncated=sum(row.n_truncated for row in rows),
        score_all=_weighted([row.score_all for row in rows], weights),
    )


def _weighted(scores: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Return the weighted mean; None where a part is missing."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    products = (weight * score for weight, score in zip(weights, known, strict=True))
    return sum(products) / sum(weights)


def _fill(answered: Sequence[Answered], length: int, *, like: EvalResult) -> EvalResult:
    """Return which share of the context length prompts and answer budgets take, on average."""
    samples = [one.sample for one in answered if one.sample.context_length == length]
    used = sum(sample.prompt_tokens + sample.tokens_to_generate for sample in samples)
    share = used / (length * len(samples))
    return like._replace(task=FILL, metric="fill", score=share, score_all=None)


def _empty(answered: Sequence[Answered], *, like: EvalResult) -> EvalResult:
    """Return the share of answers without text: failed samples, which officially score 0."""
    texts = [one.result.completion for one in answered if one.result.completion is not None]
    empty = sum(is_empty(without_thoughts(text)) for text in texts)
    share = empty / len(texts) if texts else None
    return like._replace(task=EMPTY, metric="empty", score=share, score_all=None)
