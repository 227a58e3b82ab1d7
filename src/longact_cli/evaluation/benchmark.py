"""What a benchmark is to the rest: samples, a scorer, an aggregate. One folder implements one.

A benchmark lives in `evaluation/<name>/benchmark.py` and registers a factory:

    @BENCHMARKS.register("ruler")
    def ruler(config: BenchmarkConfig) -> Benchmark: ...

The module must not import torch, transformers or lm-eval at import: plans are checked with it.
"""

import hashlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from longact_cli import evaluation
from longact_cli.config.schema import BenchmarkConfig
from longact_cli.registry import Registry
from longact_cli.results import EvalResult, SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ALL_LENGTHS = 0
"""`context_length` of a score over samples of several lengths."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question, ready for the model.

    `prompt` is everything the model sees: chat template, message, generation header and, where the
    protocol has one, the start of the answer. Truncation has been done already.
    `prompt_tokens + tokens_to_generate <= context_length`.
    """

    id: str
    """Unique over all benchmarks and equal for all checkpoints, e.g. `ruler/vt/4096/17`."""
    benchmark: str
    task: str
    context_length: int
    """Prompt + answer, in tokens, at most."""
    references: tuple[str, ...]
    prompt_tokens: int
    tokens_to_generate: int
    prompt_sha256: str
    read_prompt: Callable[[], str] = field(repr=False, compare=False)
    """Returns the prompt; it may come from disk, so that long prompts need not stay in memory."""
    truncated_tokens: int = 0
    """Tokens cut from the prompt; 0 = nothing was cut."""
    temperature: float = 0.0
    """0 = greedy."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the aggregate groups by, e.g. `{"difficulty": "hard", "length": "long"}`."""
    group: str = ""
    """Samples of one group share the start of their prompts and are answered one after another."""
    stop: tuple[str, ...] = ()
    """Texts at which an answer ends, besides end-of-sequence."""
    choices: tuple[str, ...] = ()
    """Continuations whose likelihoods are asked for, instead of an answer."""
    measured: bool = False
    """`prompt_tokens` was counted on this very prompt, so that it need not be counted again."""
    cut_by_backend: bool = False
    """The protocol lets the backend cut a long prompt from its start; others refuse it."""

    @property
    def prompt(self) -> str:
        """The whole prompt."""
        return self.read_prompt()


class SampleScore(NamedTuple):
    """The score of one completion, in 0..1, and what was read out of it (None: nothing found)."""

    score: float
    parsed: str | None


class Workload(NamedTuple):
    """What one task at one context length costs, as upper bounds. Lengths in tokens."""

    task: str
    context_length: int
    samples: int
    prompt_tokens: int
    generated_tokens: int


class Answered(NamedTuple):
    """A sample and the record of its answer."""

    sample: Sample
    result: SampleResult


class Benchmark(Protocol):
    """One benchmark under one configuration."""

    @property
    def protocol(self) -> str:
        """The rules and their variant, e.g. `official` or `official, no-prefix`."""

    @property
    def scorer_version(self) -> str:
        """Which scorer; answers stored under another one are not reused."""

    def workloads(self) -> tuple[Workload, ...]:
        """Return the work per task and length, without reading data or loading a tokenizer.

        Raises:
            LongActError: A setting does not suit this benchmark.
        """

    def data_files(self) -> tuple[Path, ...]:
        """Return the files that the tasks are made from, after a download where that is needed.

        Raises:
            LongActError: One is missing; the message says how to get it.
        """

    def check_data(self) -> None:
        """Check the data before a plan starts: files, schema, number of samples.

        Raises:
            LongActError: Something is wrong; one line says in which file.
        """

    def samples(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[Sample, ...]:
        """Return all samples, in the order in which they are stored.

        Raises:
            LongActError: Data are missing or have the wrong schema; one line says which file and
                how to get it.
        """

    def score(self, sample: Sample, completion: str) -> SampleScore:
        """Score the final completion; thoughts have been removed from it."""

    def follow_up(self, sample: Sample, completion: str) -> Sample | None:
        """Return the second question, which depends on the first answer; None where there is none.

        It keeps the first sample's id; its completion is the one that is scored.
        """

    def aggregate(self, answered: Sequence[Answered]) -> tuple[EvalResult, ...]:
        """Return every score of this benchmark; failed samples are counted and never scored 0.

        `(task, context_length)` differs from row to row, e.g. `unparsed` is a task of its own.
        """


BENCHMARKS: Registry[Callable[[BenchmarkConfig], Benchmark]] = Registry("benchmark.name")


def open_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Return the benchmark that `config` names.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if config.protocol == "lm-eval":
        from longact_cli.evaluation.lm_eval_protocol import LmEvalBenchmark

        return LmEvalBenchmark(config)
    for module in pkgutil.iter_modules(evaluation.__path__, f"{evaluation.__name__}."):
        if module.ispkg and find_spec(f"{module.name}.benchmark"):
            import_module(f"{module.name}.benchmark")  # registers itself
    return BENCHMARKS.get(config.name)(config)


EMPTY = "empty: the model gave no answer"
"""The error of a sample whose completion holds no text after its thoughts."""


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hex. Lone surrogates are kept apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def score_row(
    results: Iterable[SampleResult],
    *,
    task: str,
    context_length: int,
    metric: str,
    protocol: str,
    unanswered: float = 0.0,
) -> EvalResult:
    """Return the plain mean over the samples that produced an answer, with all counts.

    `score_all` is the mean over all samples, as the official scorers compute it: a failed or empty
    one counts `unanswered`, the score that they give to no text at all.

    Raises:
        ValueError: There is no sample at all.
    """
    rows = list(results)
    scores = [row.score for row in rows if row.error is None and row.score is not None]
    if not rows:
        raise ValueError(f"no samples for {task}")
    return EvalResult(
        benchmark=rows[0].benchmark,
        task=task,
        protocol=protocol,
        context_length=context_length,
        metric=metric,
        score=sum(scores) / len(scores) if scores else None,
        n_scored=len(scores),
        n_failed=sum(row.error is not None for row in rows),
        n_truncated=sum(row.truncated for row in rows),
        score_all=sum(unanswered if r.score is None else r.score for r in rows) / len(rows),
    )
