"""LongBench v2 as a benchmark: three ways to ask, six columns, the unparsed rate beside them."""

from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, get_args

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
from longact_cli.evaluation.longbench_v2 import templates
from longact_cli.evaluation.longbench_v2.data import data_file, load_items
from longact_cli.evaluation.longbench_v2.prompts import (
    Item,
    Variant,
    cot_answer_prompt,
    question_prompt,
)
from longact_cli.evaluation.longbench_v2.score import (
    DIFFICULTIES,
    LENGTHS,
    METRIC,
    SCORER_VERSION,
    SCORERS,
    Scorer,
    extract_answer,
    score_answer,
)
from longact_cli.evaluation.prompt_fit import Budget, ChatFrame, Message, fit_prompt
from longact_cli.evaluation.prompt_spool import PromptSpool
from longact_cli.registry import unknown_name
from longact_cli.results import EvalResult, SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ITEMS = {"short": 180, "medium": 215, "long": 108}
_UNPARSED = "unparsed"


@BENCHMARKS.register("longbench-v2")
class LongBenchV2:
    """LongBench v2 under one configuration; its tasks are the three length classes."""

    def __init__(self, config: BenchmarkConfig) -> None:
        """Check the settings that only this benchmark knows.

        Raises:
            UnknownNameError: A task, the mode or the scorer does not exist.
        """
        for key, name, allowed in (
            *(("benchmark.tasks", task, LENGTHS) for task in config.tasks),
            ("benchmark.mode", config.mode, get_args(Variant)),
            ("benchmark.scorer", config.scorer, SCORERS),
        ):
            if name not in allowed:
                raise unknown_name(key, name, allowed)
        self._config = config
        self._mode: Variant = config.mode  # type: ignore[assignment]  # just checked
        compensated = config.compensated or config.scorer == "compensated"
        self._scorer: Scorer = "compensated" if compensated else "official"
        self._spool = PromptSpool()
        self._items: dict[str, Item] = {}
        self._frame: ChatFrame | None = None

    @property
    def protocol(self) -> str:
        """The rules and the way to ask."""
        return f"{self._config.protocol}, {self._mode}"

    @property
    def scorer_version(self) -> str:
        """The official repository's commit, and whether unparsed answers are compensated."""
        return SCORER_VERSION + ("-compensated" if self._scorer == "compensated" else "")

    @property
    def _first_tokens(self) -> int:
        answer = templates.THOUGHT_TOKENS if self._mode == "cot" else templates.ANSWER_TOKENS
        return answer + self._config.thinking_tokens

    @property
    def _message_tokens(self) -> int:
        return self._config.max_prompt_tokens or templates.MAX_PROMPT_TOKENS

    def workloads(self) -> tuple[Workload, ...]:
        """Return the work per length class and context length.

        Raises:
            ConfigError: A context length leaves no room for a prompt.
        """
        generated = self._first_tokens + (templates.ANSWER_TOKENS if self._mode == "cot" else 0)
        loads = []
        for task, length in product(dict.fromkeys(self._config.tasks), self._lengths):
            if length <= self._first_tokens:
                raise ConfigError(
                    f"benchmark.context_lengths is {length}; longbench-v2 reserves "
                    f"{self._first_tokens} of them for the answer: choose a larger length"
                )
            count = min(self._config.limit, _ITEMS[task])
            prompt = min(length - self._first_tokens, self._message_tokens)
            loads.append(Workload(task, length, count, count * prompt, count * generated))
        return tuple(loads)

    @property
    def _lengths(self) -> list[int]:
        return sorted(set(self._config.context_lengths))

    def data_files(self) -> tuple[Path, ...]:
        """Return the one data file.

        Raises:
            ConfigError: It is not in the data folder.
            PrerequisiteError: It cannot be downloaded.
        """
        return (data_file(self._config.data_dir),)

    def check_data(self) -> None:
        """Read all items.

        Raises:
            ConfigError: The file is missing, or its items are not those of the benchmark.
        """
        load_items(self._config.data_dir)

    def samples(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[Sample, ...]:
        """Return the samples, ordered by length class, context length and place in the file."""
        config, items = self._config, load_items(self._config.data_dir)
        self._frame = ChatFrame(tokenizer, config.chat_template, config.thinking_tokens > 0)
        made = []
        for task, length in product(dict.fromkeys(config.tasks), self._lengths):
            for item in islice((one for one in items if one.length == task), config.limit):
                question = question_prompt(item, self._mode)
                sample = self._sample(item, question, length=length, answer=self._first_tokens)
                self._items[sample.id] = item._replace(context="")
                made.append(sample)
        return tuple(made)

    def _sample(self, item: Item, message: str, *, length: int, answer: int) -> Sample:
        frame = self._frame
        if frame is None:
            raise RuntimeError("samples() has not been called")
        fitted = fit_prompt(
            message,
            lambda text: frame.render([Message("user", text)]),
            tokenizer=frame.tokenizer,
            budget=Budget(length - answer, self._message_tokens),
        )
        return Sample(
            id=f"longbench-v2/{self._mode}/{length}/{item.id}",
            benchmark="longbench-v2",
            task=item.length,
            context_length=length,
            references=(item.answer,),
            prompt_tokens=fitted.tokens,
            tokens_to_generate=answer,
            prompt_sha256=sha256_text(fitted.prompt),
            read_prompt=self._spool.add(fitted.prompt),
            truncated_tokens=fitted.tokens_cut,
            measured=True,
            temperature=templates.TEMPERATURE,
            labels={"difficulty": item.difficulty, "length": item.length, "domain": item.domain},
            group=sha256_text(item.context),
        )

    def score(self, sample: Sample, completion: str) -> SampleScore:
        """Return 1 for the right letter; `parsed` is the letter that was read."""
        letter = extract_answer(completion.strip())
        return SampleScore(score_answer(letter, sample.references[0], scorer=self._scorer), letter)

    def follow_up(self, sample: Sample, completion: str) -> Sample | None:
        """Return the question that follows a chain of thought: thoughts in, document out."""
        if self._mode != "cot":
            return None
        item = self._items[sample.id]
        tokens = templates.ANSWER_TOKENS + self._config.thinking_tokens
        message = cot_answer_prompt(item, completion)
        return self._sample(item, message, length=sample.context_length, answer=tokens)

    def aggregate(self, answered: Sequence[Answered]) -> tuple[EvalResult, ...]:
        """Return, per context length, the official columns, every domain, the unparsed share."""
        rows: list[EvalResult] = []
        for length in dict.fromkeys(one.sample.context_length for one in answered):
            part = [one for one in answered if one.sample.context_length == length]
            rows += self._columns(part, length)
        return tuple(rows)

    def _columns(self, answered: list[Answered], length: int) -> list[EvalResult]:
        domains = sorted({one.sample.labels["domain"] for one in answered})
        groups = {
            "overall": answered,
            **{name: _labelled(answered, "difficulty", name) for name in DIFFICULTIES},
            **{name: _labelled(answered, "length", name) for name in LENGTHS},
            **{name: _labelled(answered, "domain", name) for name in domains},
        }
        columns = [
            self._row([one.result for one in group], name, length, METRIC)
            for name, group in groups.items()
            if group
        ]
        unparsed = [
            one.result._replace(score=float(one.result.parsed is None))
            for one in answered
            if one.result.error is None
        ]
        failed = [one.result for one in answered if one.result.error is not None]
        return [*columns, self._row([*unparsed, *failed], _UNPARSED, length, "share")]

    def _row(self, results: list[SampleResult], name: str, length: int, metric: str) -> EvalResult:
        nothing = score_answer(None, "", scorer=self._scorer)
        return score_row(
            results,
            task=name,
            context_length=length,
            metric=metric,
            protocol=self.protocol,
            unanswered=1.0 if name == _UNPARSED else nothing,
        )


def _labelled(answered: list[Answered], label: str, value: str) -> list[Answered]:
    return [one for one in answered if one.sample.labels[label] == value]
