"""InfiniteBench as a benchmark: twelve tasks, four prompt families, two scorers."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.benchmark import (
    BENCHMARKS,
    Answered,
    Sample,
    SampleScore,
    Workload,
    score_row,
    sha256_text,
)
from longact_cli.evaluation.infinitebench.data import (
    Place,
    find_rows,
    read_row,
    row_error,
    task_file,
)
from longact_cli.evaluation.infinitebench.prompts import Row, chat, label, prompt_text
from longact_cli.evaluation.infinitebench.score import METRICS, Scorer, score_completion
from longact_cli.evaluation.infinitebench.tasks import (
    PROMPT_TOKENS,
    TASKS,
    Family,
    answer_tokens,
)
from longact_cli.evaluation.prompt_fit import Budget, ChatFrame, fit_prompt
from longact_cli.evaluation.prompt_spool import PromptSpool
from longact_cli.registry import unknown_name
from longact_cli.results import EvalResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MEAN = "mean"
_WHOLE_CHECK_BYTES, _FEW_ROWS = 64 << 20, 3


class _Question(NamedTuple):
    """The coordinates of a sample."""

    task: str
    context_length: int
    place: Place


@BENCHMARKS.register("infinitebench")
class InfiniteBench:
    """InfiniteBench under one configuration."""

    def __init__(self, config: BenchmarkConfig) -> None:
        """Check the settings that only this benchmark knows.

        Raises:
            UnknownNameError: A task, the prompt family or the scorer does not exist.
        """
        for key, name, allowed in (
            *(("benchmark.tasks", task, tuple(TASKS)) for task in config.tasks),
            ("benchmark.mode", config.mode, get_args(Family)),
            ("benchmark.scorer", config.scorer, get_args(Scorer)),
        ):
            if name not in allowed:
                raise unknown_name(key, name, allowed)
        self._config = config
        self._family: Family = config.mode  # type: ignore[assignment]  # just checked
        self._scorer: Scorer = config.scorer  # type: ignore[assignment]  # just checked
        self._spool = PromptSpool()

    @property
    def protocol(self) -> str:
        """The rules, the prompt family and the answer budgets."""
        return f"{self._config.protocol}, {self._family} prompts, {self._config.generation} budgets"

    @property
    def scorer_version(self) -> str:
        """Which of the two published scorers."""
        return f"infinitebench-{self._scorer}"

    @property
    def _coordinates(self) -> "product[tuple[str, int]]":
        lengths = sorted(set(self._config.context_lengths))
        return product(dict.fromkeys(self._config.tasks), lengths)

    @property
    def _message_tokens(self) -> int:
        return self._config.max_prompt_tokens or PROMPT_TOKENS[self._family]

    def _answer_tokens(self, task: str) -> int:
        return answer_tokens(task, self._config.generation) + self._config.thinking_tokens

    def workloads(self) -> tuple[Workload, ...]:
        """Return the work per task and context length.

        Raises:
            ConfigError: A context length leaves no room for a prompt.
        """
        loads = []
        for task, length in self._coordinates:
            answer = self._answer_tokens(task)
            if length <= answer:
                raise ConfigError(
                    f"benchmark.context_lengths is {length}; {task} reserves {answer} of them for "
                    "the answer: choose a larger length or leave the task out"
                )
            count = min(self._config.limit, TASKS[task].samples)
            prompt = min(length - answer, self._message_tokens)
            loads.append(Workload(task, length, count, count * prompt, count * answer))
        return tuple(loads)

    def data_files(self) -> tuple[Path, ...]:
        """Return the file of every task.

        Raises:
            ConfigError: One is not in the data folder.
            PrerequisiteError: One cannot be downloaded.
        """
        return tuple(task_file(x, self._config.data_dir) for x in dict.fromkeys(self._config.tasks))

    def check_data(self) -> None:
        """Count the rows of every file and read those that are asked; of a large file, a few.

        Raises:
            ConfigError: A file is missing, or its rows are not those of the benchmark.
        """
        for task in dict.fromkeys(self._config.tasks):
            places = find_rows(task, self._config.data_dir)
            large = places[0].path.stat().st_size > _WHOLE_CHECK_BYTES
            for place in places[: _FEW_ROWS if large else self._config.limit]:
                self._read(task, place)

    def _read(self, task: str, place: Place) -> tuple[Row, str, tuple[str, ...]]:
        """Return a row, its message and its references."""
        row = read_row(place)
        try:
            return row, prompt_text(task, row, self._family), label(task, row)
        except ValueError as error:
            raise row_error(place, str(error)) from None

    def samples(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[Sample, ...]:
        """Return the samples, ordered by task, context length and place in the file."""
        config = self._config
        frame = ChatFrame(tokenizer, config.chat_template, config.thinking_tokens > 0)
        places = {task: find_rows(task, config.data_dir) for task in dict.fromkeys(config.tasks)}
        return tuple(
            self._sample(_Question(task, length, place), frame)
            for task, length in self._coordinates
            for place in places[task][: config.limit]
        )

    def _sample(self, question: _Question, frame: ChatFrame) -> Sample:
        task, length, place = question
        answer = self._answer_tokens(task)
        row, text, references = self._read(task, place)
        fitted = fit_prompt(
            text,
            lambda message: frame.render(chat(task, message, self._family)),
            tokenizer=frame.tokenizer,
            budget=Budget(
                length - answer,
                self._message_tokens,
                "equal" if self._family == "yarn-mistral" else "exact",
            ),
        )
        return Sample(
            id=f"infinitebench/{self._family}/{task}/{length}/{row.id}",
            benchmark="infinitebench",
            task=task,
            context_length=length,
            references=references,
            prompt_tokens=fitted.tokens,
            tokens_to_generate=answer,
            prompt_sha256=sha256_text(fitted.prompt),
            read_prompt=self._spool.add(fitted.prompt),
            truncated_tokens=fitted.tokens_cut,
            measured=True,
            group=sha256_text(row.context),
        )

    def score(self, sample: Sample, completion: str) -> SampleScore:
        """Score by the configured version; Retrieve.KV's label is the one value that it holds.

        Answers to Math.Calc lose no value: that rule belongs to GPT-4's own way to answer.
        """
        references = sample.references
        label = references[0] if sample.task == "kv_retrieval" else list(references)
        return score_completion(sample.task, completion, label, scorer=self._scorer)

    def follow_up(self, sample: Sample, completion: str) -> Sample | None:
        """Return None: every task is one question."""
        return None

    def aggregate(self, answered: Sequence[Answered]) -> tuple[EvalResult, ...]:
        """Return each task's mean, and per context length the plain mean of the tasks' scores."""
        groups: dict[tuple[str, int], list[Answered]] = {}
        for one in answered:
            groups.setdefault((one.sample.task, one.sample.context_length), []).append(one)
        rows = [
            score_row(
                [one.result for one in group],
                task=task,
                context_length=length,
                metric=METRICS[task],
                protocol=self.protocol,
            )
            for (task, length), group in groups.items()
        ]
        lengths = dict.fromkeys(row.context_length for row in rows)
        averages = [_average([row for row in rows if row.context_length == n]) for n in lengths]
        return (*rows, *(average for average in averages if average))


def _average(rows: list[EvalResult]) -> EvalResult | None:
    """Return the plain mean over tasks; None for a single task."""
    if len(rows) == 1:
        return None
    return rows[0]._replace(
        task=_MEAN,
        metric="mean_score",
        score=_mean([row.score for row in rows]),
        n_scored=sum(row.n_scored for row in rows),
        n_failed=sum(row.n_failed for row in rows),
        n_truncated=sum(row.n_truncated for row in rows),
        score_all=_mean([row.score_all for row in rows]),
    )


def _mean(scores: list[float | None]) -> float | None:
    """Return the plain mean; None where a part is missing."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if len(known) == len(scores) else None
