"""RULER as a benchmark: its samples, its two scorers, its averages."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.benchmark import (
    BENCHMARKS,
    Answered,
    Sample,
    SampleScore,
    Workload,
    held_prompt,
    score_row,
    sha256_text,
)
from longact_cli.evaluation.ruler.generator import RulerSource, find_task, make_sample
from longact_cli.evaluation.ruler.score import METRIC, SCORER_VERSION, string_match_all
from longact_cli.results import EvalResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@BENCHMARKS.register("ruler")
class RulerBenchmark:
    """RULER under one configuration."""

    def __init__(self, config: BenchmarkConfig) -> None:
        """Keep the configuration."""
        self._config = config

    @property
    def protocol(self) -> str:
        """The name of the rules."""
        return self._config.protocol

    @property
    def scorer_version(self) -> str:
        """The official repository's commit."""
        return SCORER_VERSION

    def workloads(self) -> tuple[Workload, ...]:
        """Return the work per task and length.

        Raises:
            UnknownNameError: A task does not exist.
            ConfigError: A length leaves no room for a prompt.
        """
        return tuple(
            _workload(task, length, samples=self._config.limit)
            for task, length in product(self._config.tasks, self._config.context_lengths)
        )

    def samples(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[Sample, ...]:
        """Return all samples, ordered by task, length and index."""
        config = self._config
        source = RulerSource(
            tokenizer, seed=config.seed, split="eval", chat_template=config.chat_template
        )
        coordinates = product(
            dict.fromkeys(config.tasks), sorted(set(config.context_lengths)), range(config.limit)
        )
        made = (
            make_sample(task, length, index=index, source=source)
            for task, length, index in coordinates
        )
        return tuple(
            Sample(
                id=one.id,
                benchmark="ruler",
                task=one.task,
                context_length=one.context_length,
                references=one.references,
                prompt_tokens=one.prompt_tokens,
                tokens_to_generate=one.tokens_to_generate,
                prompt_sha256=sha256_text(one.prompt),
                read_prompt=held_prompt(one.prompt),
            )
            for one in made
        )

    def score(self, sample: Sample, completion: str) -> SampleScore:
        """Return the share of references that the completion holds."""
        return SampleScore(string_match_all(completion, sample.references), None)

    def follow_up(self, sample: Sample, completion: str) -> Sample | None:
        """Return None: one question is enough."""
        return None

    def aggregate(self, answered: Sequence[Answered]) -> tuple[EvalResult, ...]:
        """Return the mean of each task at each length."""
        groups: dict[tuple[str, int], list[Answered]] = {}
        for one in answered:
            groups.setdefault((one.sample.task, one.sample.context_length), []).append(one)
        return tuple(
            score_row(
                [one.result for one in group],
                task=task,
                context_length=length,
                metric=METRIC,
                protocol=self.protocol,
            )
            for (task, length), group in groups.items()
        )


def _workload(task: str, length: int, *, samples: int) -> Workload:
    answer = find_task(task).tokens_to_generate
    if length <= answer:
        raise ConfigError(
            f"benchmark.context_lengths is {length}; {task} reserves {answer} of them for the "
            "answer: choose a larger length"
        )
    return Workload(task, length, samples, samples * (length - answer), samples * answer)
