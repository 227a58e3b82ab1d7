"""RULER as a benchmark: its modes, samples, two scorers and averages."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.benchmark import (
    BENCHMARKS,
    Answered,
    Sample,
    SampleScore,
    Workload,
    sha256_text,
)
from longact_cli.evaluation.ruler.averages import averages, task_rows
from longact_cli.evaluation.ruler.cache import Size, SizeCache, data_name
from longact_cli.evaluation.ruler.data import load_collection, load_essays, local_file, spare_file
from longact_cli.evaluation.ruler.generator import (
    ALWAYS_ENCODED,
    RulerSource,
    answer_budget,
    find_task,
    make_prompt,
    make_sample,
)
from longact_cli.evaluation.ruler.score import SCORER_VERSION, string_match_all, string_match_any
from longact_cli.evaluation.ruler.templates import QaTask
from longact_cli.registry import unknown_name
from longact_cli.results import EvalResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODES = ("prefix", "no-prefix", "base")
"""Chat with the answer's start; chat without it, for models that think; plain text with it."""
_SIZES_PER_WRITE = 50


@BENCHMARKS.register("ruler")
class RulerBenchmark:
    """RULER under one configuration."""

    def __init__(self, config: BenchmarkConfig) -> None:
        """Keep the configuration.

        Raises:
            UnknownNameError: The mode or the scorer does not exist.
            ConfigError: Thoughts do not go with an answer prefix.
        """
        self._config = config
        if config.scorer != "official":
            raise unknown_name("benchmark.scorer", config.scorer, ("official",))
        if config.mode not in MODES:
            raise unknown_name("benchmark.mode", config.mode, MODES)
        if config.thinking_tokens and config.mode != "no-prefix":
            raise ConfigError(
                f"benchmark.thinking_tokens is {config.thinking_tokens} and benchmark.mode is "
                f"{config.mode}: the answer's start leaves no room for thoughts; set "
                "benchmark.mode=no-prefix"
            )

    @property
    def protocol(self) -> str:
        """The rules and, unless it is the official one, the mode."""
        mode = self._config.mode
        return self._config.protocol if mode == "prefix" else f"{self._config.protocol}, {mode}"

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
        return tuple(self._workload(task, length) for task, length in self._kinds())

    def _data_names(self) -> list[str]:
        names = (data_name(task) for task in self._config.tasks)
        return [name for name in dict.fromkeys(names) if name is not None]

    def data_files(self) -> tuple[Path, ...]:
        """Return the local files of essays and questions; what the hub holds has no file here.

        Raises:
            ConfigError: A file is not in the data folder.
        """
        folder = self._config.data_dir
        if folder is None:
            return ()
        spare = spare_file(folder) if "cwe" in self._config.tasks else None
        needed = [local_file(name, folder) for name in self._data_names()]
        return (*needed, spare) if spare else tuple(needed)

    def check_data(self) -> None:
        """Load the essays and questions that the tasks need.

        Raises:
            ConfigError: A file is missing or does not have the schema.
            PrerequisiteError: The hub cannot be reached.
        """
        for name in self._data_names():
            if name == "essays":
                load_essays(self._config.data_dir)
            else:
                load_collection(name, self._config.data_dir)

    def _kinds(self) -> Iterable[tuple[str, int]]:
        lengths = sorted(set(self._config.context_lengths))
        return product(dict.fromkeys(self._config.tasks), lengths)

    def _workload(self, task: str, length: int) -> Workload:
        samples = self._config.limit
        answer = find_task(task).tokens_to_generate + self._config.thinking_tokens
        if length <= answer:
            raise ConfigError(
                f"benchmark.context_lengths is {length}; {task} reserves {answer} of them for the "
                "answer: choose a larger length"
            )
        return Workload(task, length, samples, samples * (length - answer), samples * answer)

    def source(self, tokenizer: "PreTrainedTokenizerBase") -> RulerSource:
        """Return where the samples come from."""
        config = self._config
        return RulerSource(
            tokenizer,
            seed=config.seed,
            split="eval",
            chat_template=config.chat_template and config.mode != "base",
            answer_prefix=config.mode != "no-prefix",
            thinking_tokens=config.thinking_tokens,
            data_dir=config.data_dir,
        )

    def samples(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[Sample, ...]:
        """Return all samples, ordered by task, length and index.

        Raises:
            ConfigError: A length is too short for a task, or data do not fit.
            PrerequisiteError: Data are missing.
        """
        source = self.source(tokenizer)
        return tuple(
            sample
            for task, length in self._kinds()
            for sample in _samples(task, length, count=self._config.limit, source=source)
        )

    def score(self, sample: Sample, completion: str) -> SampleScore:
        """Return the share of references that the completion holds; any one is enough for qa."""
        any_one = isinstance(find_task(sample.task), QaTask)
        match = string_match_any if any_one else string_match_all
        return SampleScore(match(completion, sample.references), None)

    def follow_up(self, sample: Sample, completion: str) -> Sample | None:
        """Return None: one question is enough."""
        return None

    def aggregate(self, answered: Sequence[Answered]) -> tuple[EvalResult, ...]:
        """Return the score of each task and length, then the official averages and the fill."""
        rows = task_rows(answered, protocol=self.protocol)
        return (*rows, *averages(rows, answered, protocol=self.protocol))


def _samples(task: str, length: int, *, count: int, source: RulerSource) -> list[Sample]:
    """Return the samples of one task at one length; only sizes not in the cache are measured."""
    cache = SizeCache(task, length, source=source)
    new: dict[int, Size] = {}
    for index in range(count):
        if cache.get(index) is None:
            made = make_sample(task, length, index=index, source=source)
            digest = sha256_text(made.prompt)
            new[index] = Size(made.units, made.prompt_tokens, digest, made.references)
        if len(new) == _SIZES_PER_WRITE or (new and index == count - 1):
            cache.add(new)
            new = {}
    return [_sample(task, length, index, cache.known(index), source) for index in range(count)]


def _sample(task: str, length: int, index: int, size: Size, source: RulerSource) -> Sample:
    return Sample(
        id=f"ruler/{task}/{length}/{index}",
        benchmark="ruler",
        task=task,
        context_length=length,
        references=size.references,
        prompt_tokens=size.prompt_tokens,
        tokens_to_generate=answer_budget(task, source=source),
        prompt_sha256=size.prompt_sha256,
        read_prompt=partial(
            make_prompt, task, length, index=index, units=size.units, source=source
        ),
        measured=length <= ALWAYS_ENCODED,
    )
