"""`--protocol lm-eval`: lm-eval's own tasks, prompts and scorers, through our journal and backends.

Where they differ from the authors' rules, and by how much, is what this protocol shows. A prompt
that is too long is cut from its start by the backend, as lm-eval does it, and counted as truncated.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.benchmark import (
    Answered,
    Sample,
    SampleScore,
    Workload,
    score_row,
    sha256_text,
)
from longact_cli.evaluation.lm_eval_tasks import (
    Asked,
    check_lengths,
    choice_letters,
    comparable_tasks,
    data_files,
    documents,
    load_tasks,
    their_names,
)
from longact_cli.evaluation.prompt_spool import PromptSpool
from longact_cli.evaluation.tokens import count_prompt_tokens
from longact_cli.results import EvalResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROTOCOL = "lm-eval"
_ANSWER_TOKENS = 256
"""lm-eval's default where a task names no budget."""
_METRICS = {"longbench-v2": "acc", "infinitebench": "score"}
_MEAN = "mean"


class LmEvalBenchmark:
    """One benchmark as lm-eval has it."""

    def __init__(self, config: BenchmarkConfig) -> None:
        """Check what can be known now; Math.Calc, which lm-eval lacks, is left out.

        Raises:
            UnknownNameError: There is no such task.
            ConfigError: lm-eval has none of the tasks; a length or setting does not suit it.
        """
        if config.name != "ruler" and len(set(config.context_lengths)) > 1:
            raise ConfigError(
                f"benchmark.context_lengths has {len(config.context_lengths)} lengths; lm-eval's "
                f"{config.name} takes one, at which prompts are cut: give one"
            )
        if config.thinking_tokens:
            raise ConfigError(
                f"benchmark.thinking_tokens is {config.thinking_tokens}; lm-eval's tasks have no "
                "such budget: set it to 0 or use benchmark.protocol=official"
            )
        self._config = config
        self._tasks = comparable_tasks(config.name, config.tasks)
        check_lengths(self._tasks, config.context_lengths)
        self._names = their_names(config.name, self._tasks)
        self._spool = PromptSpool()
        self._asked: dict[str, tuple[Any, Any]] = {}

    @property
    def protocol(self) -> str:
        """Whose rules."""
        return PROTOCOL

    @property
    def scorer_version(self) -> str:
        """lm-eval's version: its scorers have none of their own."""
        return f"lm-eval-{version('lm_eval')}"

    def workloads(self) -> tuple[Workload, ...]:
        """Return the work per task and length, at most."""
        config = self._config
        return tuple(
            Workload(
                task, length, config.limit, config.limit * length, config.limit * _ANSWER_TOKENS
            )
            for task in dict.fromkeys(self._names)
            for length in sorted(set(config.context_lengths))
        )

    def data_files(self) -> tuple[Path, ...]:
        """Return the local files.

        Raises:
            ConfigError: One is missing.
        """
        return data_files(self._config.name, self._tasks, self._config.data_dir)

    def check_data(self) -> None:
        """Look for the local files; what lm-eval generates or downloads shows when it runs."""
        self.data_files()

    def samples(self, tokenizer: "PreTrainedTokenizerBase") -> tuple[Sample, ...]:
        """Return the first documents of every task and length, as lm-eval would ask them.

        Raises:
            ConfigError: A length is too short for lm-eval's generator.
            PrerequisiteError: A task does not load.
        """
        config = self._config
        lengths = tuple(sorted(set(config.context_lengths)))
        asked = Asked(
            config.name,
            self._tasks,
            lengths,
            tokenizer.name_or_path,
            config.data_dir,
            config.seed,
        )
        made: list[Sample] = []
        for name, task in load_tasks(asked):
            for length in lengths:
                only = length if config.name == "ruler" else None
                numbers = documents(task, length=only, limit=config.limit)
                made += self._task_samples((name, length), task, numbers, tokenizer)
        return tuple(made)

    def _task_samples(
        self,
        where: tuple[str, int],
        task: Any,
        numbers: list[int],
        tokenizer: "PreTrainedTokenizerBase",
    ) -> list[Sample]:
        if not numbers:
            return []
        task.build_all_requests(
            samples=numbers,
            apply_chat_template=self._config.chat_template,
            chat_template=lambda chat, **how: _render(tokenizer, chat, **how),
        )
        documents_of: dict[int, list[Any]] = {}
        for request in task.instances:
            documents_of.setdefault(request.doc_id, []).append(request)
        return [
            self._sample(where, number, requests, (task, tokenizer))
            for number, requests in documents_of.items()
        ]

    def _sample(
        self, where: tuple[str, int], number: int, requests: list[Any], using: tuple[Any, Any]
    ) -> Sample:
        (name, length), (task, tokenizer) = where, using
        prompt, settings = requests[0].args[0], requests[0].args[1]
        choices = isinstance(settings, str)
        identifier = f"lm-eval/{self._config.name}/{name}/{length}/{number}"
        self._asked[identifier] = (task, requests[0].doc)
        budget = 1 if choices else int(settings.get("max_gen_toks", _ANSWER_TOKENS))
        return Sample(
            id=identifier,
            benchmark=self._config.name,
            task=name,
            context_length=length,
            references=_references(task, requests[0].doc),
            prompt_tokens=count_prompt_tokens(tokenizer, prompt),
            tokens_to_generate=budget,
            prompt_sha256=sha256_text(prompt),
            read_prompt=self._spool.add(prompt),
            stop=() if choices else tuple(settings.get("until") or ()),
            choices=tuple(one.args[1] for one in requests) if choices else (),
            measured=True,
            cut_by_backend=True,
        )

    def score(self, sample: Sample, completion: str) -> SampleScore:
        """Score as lm-eval does; of choices, the most likely one is what was read."""
        task, doc = self._asked[sample.id]
        if not sample.choices:
            found = task.process_results(doc, [completion])
            metric = _METRICS.get(sample.benchmark, str(sample.context_length))
            return SampleScore(float(found[metric]), None)
        likelihoods = choice_letters(completion)
        found = task.process_results(doc, likelihoods)
        best = max(range(len(likelihoods)), key=lambda place: likelihoods[place][0])
        return SampleScore(float(found["acc"]), sample.choices[best].strip())

    def follow_up(self, sample: Sample, completion: str) -> Sample | None:
        """Return None: every task is one question."""
        return None

    def aggregate(self, answered: Sequence[Answered]) -> tuple[EvalResult, ...]:
        """Return each task's mean per length, and that of all tasks.

        LongBench v2 weighs every question the same, as lm-eval's group does; elsewhere every task.
        """
        groups: dict[tuple[str, int], list[Answered]] = {}
        for one in answered:
            groups.setdefault((one.sample.task, one.sample.context_length), []).append(one)
        metric = _METRICS.get(self._config.name, "string_match")
        rows = [
            score_row(
                [one.result for one in group],
                task=task,
                context_length=length,
                metric=metric,
                protocol=PROTOCOL,
            )
            for (task, length), group in groups.items()
        ]
        if self._config.name == "longbench-v2":
            whole = score_row(
                [one.result for one in answered],
                task="overall",
                context_length=rows[0].context_length,
                metric=metric,
                protocol=PROTOCOL,
            )
            return (*rows, whole)
        lengths = sorted({row.context_length for row in rows})
        parts = [[row for row in rows if row.context_length == length] for length in lengths]
        return (*rows, *(_average(part) for part in parts if len(part) > 1))


def _average(rows: list[EvalResult]) -> EvalResult:
    """Return the plain mean over tasks; None where a task has no score."""

    def mean(scores: list[float | None]) -> float | None:
        known = [score for score in scores if score is not None]
        return sum(known) / len(known) if len(known) == len(scores) else None

    return rows[0]._replace(
        task=_MEAN,
        metric="mean_score",
        score=mean([row.score for row in rows]),
        n_scored=sum(row.n_scored for row in rows),
        n_failed=sum(row.n_failed for row in rows),
        n_truncated=sum(row.n_truncated for row in rows),
        score_all=mean([row.score_all for row in rows]),
    )


def _references(task: Any, doc: Any) -> tuple[str, ...]:
    """Return what lm-eval compares with, for the page of samples."""
    for key in ("outputs", "answer"):
        if key in doc:
            value = doc[key]
            return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
    return (str(task.doc_to_target(doc)),)


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    chat: list[dict[str, str]],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """Apply the chat template as lm-eval's backends do: a started answer is continued."""
    if not tokenizer.chat_template:
        raise ConfigError(
            f"benchmark.chat_template is true, but the tokenizer of '{tokenizer.name_or_path}' has "
            "none; set benchmark.chat_template=false"
        )
    text = tokenizer.apply_chat_template(
        chat,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=not add_generation_prompt,
    )
    return str(text)
