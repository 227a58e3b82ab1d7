"""Answer samples through a backend, batch by batch, into the journal."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from lm_eval.api.instance import Instance  # noqa: TID253 - subclassing needs lm-eval at import
from lm_eval.api.model import LM  # noqa: TID253

from longact_cli.evaluation.batches import Question, plan_batches
from longact_cli.evaluation.benchmark import EMPTY, Benchmark, Sample, sha256_text
from longact_cli.evaluation.journal import Journal
from longact_cli.evaluation.task import generation_arguments
from longact_cli.evaluation.thinking import is_empty, without_thoughts
from longact_cli.evaluation.tokens import count_prompts
from longact_cli.evaluation.usage import Usage, read_usage, write_usage
from longact_cli.results import SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DOCUMENT_DIGITS = 16


class Flow(NamedTuple):
    """Tokens: those that went through the model in this process, and at most how many are left."""

    tokens: int
    left: int


Progress = Callable[[int, int, Flow], None]


class Journals(NamedTuple):
    """Where answers are looked up and appended: first answers of two-call samples, and results."""

    first: Journal
    results: Journal
    usage: Path | None = None
    """Where the tokens and seconds of all batches are summed up."""


class Due(NamedTuple):
    """A question that is answered now, and its prompt, which is made only once."""

    question: Question
    prompt: str


class JournalLM(LM):  # type: ignore[misc]  # lm-eval has no types
    """An lm-eval model that asks its backend only for answers the journals lack.

    The backend is loaded at the first missing answer. Batches are planned over all samples, so an
    interrupted evaluation continues with the batches it would have run anyway.
    """

    def __init__(
        self,
        journals: Journals,
        benchmark: Benchmark,
        *,
        load: Callable[[], LM],
        tokenizer: "PreTrainedTokenizerBase",
        batch_size: int,
        progress: Progress,
    ) -> None:
        """Wrap the backend that `load` returns.

        Args:
            journals: Where answers are looked up and appended.
            benchmark: Scores the answers and asks second questions.
            load: Loads the backend; called at most once.
            tokenizer: Counts tokens.
            batch_size: Samples per backend call.
            progress: Called with (answered, all, tokens) after every batch.
        """
        super().__init__()
        self._journals, self._benchmark = journals, benchmark
        self._load, self._tokenizer = load, tokenizer
        self._batch_size, self._progress = batch_size, progress
        self._usage = Usage() if journals.usage is None else read_usage(journals.usage)
        self._tokens = 0

    @cached_property
    def _backend(self) -> LM:
        return self._load()

    def generate_until(self, requests: list[Instance]) -> list[str | None]:
        """Return one completion per request; None for a sample whose generation failed."""
        samples: list[Sample] = [request.doc for request in requests]
        self._total, self._done = len(samples), 0
        self._left = sum(_most_tokens(one) for one in samples if self._known(one) is None)
        questions = [Question(sample, sample) for sample in samples]
        while questions:
            questions = self._ask(questions)
        answers = [self._known(sample) for sample in samples]
        return [None if answer is None else answer.completion for answer in answers]

    def _ask(self, questions: Sequence[Question]) -> list[Question]:
        """Answer questions and return those that follow from the answers."""
        following: list[Question] = []
        for batch in plan_batches(questions, batch_size=self._batch_size):
            open_ones = [one for one in batch if self._known(one.sample) is None]
            known = [(one, self._first(one)) for one in open_ones]
            missing = [one for one, first in known if first is None]
            first = [(one, text) for one, text in known if text is not None]
            answered, failed = self._answer(missing)
            self._left -= sum(_most_tokens(one.asked) for one in missing)
            second = self._record(answered, failed)
            second += [again for one, text in first if (again := self._follow_up(one, text))]
            following += second
            self._left += sum(_most_tokens(one.asked) for one in second)
            self._done += len(batch) - len(second)
            self._progress(self._done, self._total, Flow(self._tokens, self._left))
        return following

    def _known(self, sample: Sample) -> SampleResult | None:
        return self._journals.results.get(sample.id, prompt_sha256=sample.prompt_sha256)

    def _first(self, question: Question) -> str | None:
        """Return the stored answer to a first question."""
        if question.asked is not question.sample:
            return None
        sample = question.sample
        found = self._journals.first.get(sample.id, prompt_sha256=sample.prompt_sha256)
        return found.completion if found else None

    def _follow_up(self, question: Question, completion: str) -> Question | None:
        if question.asked is not question.sample:
            return None
        asked = self._benchmark.follow_up(question.sample, without_thoughts(completion))
        return None if asked is None else Question(question.sample, asked)

    def _record(
        self, answered: Sequence[tuple[Question, str]], failed: Sequence[SampleResult]
    ) -> list[Question]:
        """Append answers where they belong and return the questions that follow."""
        results, first, following = list(failed), [], []
        for question, completion in answered:
            again = self._follow_up(question, completion)
            if again is None:
                results.append(self._scored(question.sample, completion))
            else:
                following.append(again)
                first.append(self._unscored(question.sample, completion))
        if first:
            self._journals.first.append(first)
        if results:
            self._journals.results.append(results)
        return following

    def _answer(
        self, questions: Sequence[Question]
    ) -> tuple[list[tuple[Question, str]], list[SampleResult]]:
        """Answer one batch; where it fails, each of its samples gets a try of its own.

        A prompt that does not fit is refused: the backend would cut it without a word.
        """
        due = [Due(question, question.asked.prompt) for question in questions]
        fitting, failed = [], []
        counts = self._counts(due)
        for one, tokens in zip(due, counts, strict=True):
            asked = one.question.asked
            room = asked.context_length - asked.tokens_to_generate
            if tokens > room and not asked.cut_by_backend:
                reason = f"the prompt has {tokens} tokens; the context length leaves {room}"
                failed.append(failed_result(one.question.sample, error=reason))
            else:
                fitting.append(one)
        answered, broken = self._generate(fitting) if fitting else ([], [])
        return answered, failed + broken

    def _counts(self, due: Sequence[Due]) -> list[int]:
        """Return the tokens of each prompt; those whose number is a sum of pieces are encoded."""
        unsure = [one for one in due if not one.question.asked.measured]
        counted = iter(count_prompts(self._tokenizer, [one.prompt for one in unsure]))
        asked = (one.question.asked for one in due)
        return [one.prompt_tokens if one.measured else next(counted) for one in asked]

    def _generate(
        self, due: Sequence[Due]
    ) -> tuple[list[tuple[Question, str]], list[SampleResult]]:
        backend = self._backend  # a model that does not load is no failure of these samples
        started = time.perf_counter()
        try:
            with _sampling_seed(due):
                completions = _completions(backend, due)
        except (RuntimeError, ValueError, OSError) as error:
            if len(due) > 1:
                parts = [self._generate([one]) for one in due]
                return [a for part in parts for a in part[0]], [
                    f for part in parts for f in part[1]
                ]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return [], [failed_result(due[0].question.sample, error=reason)]
        self._count(due, completions, seconds=time.perf_counter() - started)
        return [(one.question, text) for one, text in zip(due, completions, strict=True)], []

    def _count(self, due: Sequence[Due], completions: Sequence[str], *, seconds: float) -> None:
        """Add a batch to the usage."""
        asked = [one.question.asked for one in due]
        lookups = getattr(self._backend, "take_cache_counts", lambda: (0, 0))()
        batch = Usage(
            len(due),
            seconds,
            sum(one.prompt_tokens for one in asked),
            sum(
                min(self._tokens_of(text), one.tokens_to_generate)
                for one, text in zip(asked, completions, strict=True)
            ),
            sum(one.tokens_to_generate for one in asked),
            *lookups,
        )
        self._tokens += batch.tokens
        self._usage = self._usage.plus(batch)
        if self._journals.usage is not None:
            write_usage(self._journals.usage, self._usage)

    def _unscored(self, sample: Sample, completion: str) -> SampleResult:
        """Return a completion's record. Backends return text, so its tokens are counted again.

        Text that is not valid UTF-8 may encode to more tokens than were generated, hence the cap.
        """
        tokens = min(self._tokens_of(completion), sample.tokens_to_generate)
        return failed_result(sample, error=None)._replace(
            completion=completion, completion_tokens=tokens
        )

    def _tokens_of(self, completion: str) -> int:
        return len(self._tokenizer.encode(completion, add_special_tokens=False))

    def _scored(self, sample: Sample, completion: str) -> SampleResult:
        """Score an answer; an empty one is a failed sample, whatever a scorer would give it."""
        record, answer = self._unscored(sample, completion), without_thoughts(completion)
        if is_empty(answer):
            return record._replace(error=EMPTY)
        score, parsed = self._benchmark.score(sample, answer)
        return record._replace(score=score, parsed=parsed)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refuse: no benchmark here asks for likelihoods."""
        raise NotImplementedError("only generation is supported")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refuse: no benchmark here asks for likelihoods."""
        raise NotImplementedError("only generation is supported")


def _most_tokens(asked: Sample) -> int:
    return asked.prompt_tokens + asked.tokens_to_generate


def _completions(backend: LM, due: Sequence[Due]) -> list[str]:
    """Return one completion per prompt; for choices, their likelihoods as JSON."""
    if not due[0].question.asked.choices:
        answers: list[str] = backend.generate_until(_requests(due), disable_tqdm=True)
        return answers
    found = iter(backend.loglikelihood(_choice_requests(due), disable_tqdm=True))
    return [json.dumps([next(found) for _ in one.question.asked.choices]) for one in due]


def _requests(due: Sequence[Due]) -> list[Instance]:
    return [
        Instance(
            "generate_until",
            one.question.sample,
            (one.prompt, generation_arguments(one.question.asked)),
            idx=0,
            metadata=(one.question.sample.task, number, 1),
        )
        for number, one in enumerate(due)
    ]


def _choice_requests(due: Sequence[Due]) -> list[Instance]:
    return [
        Instance(
            "loglikelihood",
            one.question.sample,
            (one.prompt, choice),
            idx=place,
            metadata=(one.question.sample.task, number, 1),
        )
        for number, one in enumerate(due)
        for place, choice in enumerate(one.question.asked.choices)
    ]


@contextmanager
def _sampling_seed(due: Sequence[Due]) -> Iterator[None]:
    """Sample from a stream that depends on the batch alone, and leave the global one as it was."""
    text = "/".join(one.question.asked.prompt_sha256 for one in due)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(sha256_text(text)[:15], 16))
        yield


def failed_result(sample: Sample, *, error: str | None) -> SampleResult:
    """Return the record of a sample without an answer."""
    return SampleResult(
        id=sample.id,
        benchmark=sample.benchmark,
        task=sample.task,
        context_length=sample.context_length,
        prompt_sha256=sample.prompt_sha256,
        prompt_tokens=sample.prompt_tokens,
        completion=None,
        completion_tokens=None,
        references=sample.references,
        score=None,
        truncated=sample.truncated_tokens > 0,
        error=error,
        document=sample.group[:_DOCUMENT_DIGITS],
        difficulty=sample.labels.get("difficulty"),
    )
