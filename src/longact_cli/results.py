"""What a finished cell hands over: scores and samples, independent of who made or reads them."""

from typing import Literal, NamedTuple


class EvalResult(NamedTuple):
    """One score of one checkpoint.

    `score` lies in 0..1 and is the mean over the `n_scored` samples that produced an answer.
    Failed samples, empty answers among them, are counted in `n_failed` and are never part of that
    mean as zeros. `score_all` is the mean over all samples with these as wrong, which is the number
    that the official scorers print.
    """

    benchmark: str
    task: str
    protocol: str
    context_length: int
    metric: str
    score: float | None
    n_scored: int
    n_failed: int
    n_truncated: int
    score_all: float | None = None


class SampleResult(NamedTuple):
    """One benchmark question answered by one checkpoint (a line of `samples.jsonl`).

    `id` is the same for every checkpoint that answers the same question, so that comparisons can be
    paired. `score` is None exactly when `error` is set; an empty answer is such an error, and keeps
    its completion. `parsed` is what the scorer read out of the completion, None where it found
    nothing or takes the completion as a whole. `document` is equal for questions on the same
    document; empty where each question has its own. `difficulty` is the benchmark's own label,
    where it has one.
    """

    id: str
    benchmark: str
    task: str
    context_length: int
    prompt_sha256: str
    prompt_tokens: int
    completion: str | None
    completion_tokens: int | None
    references: tuple[str, ...]
    score: float | None
    truncated: bool
    error: str | None
    parsed: str | None = None
    document: str = ""
    difficulty: str | None = None


class MetricPoint(NamedTuple):
    """One value of one training metric (a line of `metrics.jsonl`)."""

    step: int
    name: str
    value: float


Stage = Literal["train", "eval"]
