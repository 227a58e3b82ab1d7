"""Answer samples through a backend, batch by batch, into the journal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from lm_eval.api.instance import Instance  # noqa: TID253 - subclassing needs lm-eval at import
from lm_eval.api.model import LM  # noqa: TID253

from longact_cli.evaluation.batches import Question, plan_batches
from longact_cli.evaluation.benchmark import Benchmark, Sample, sha256_text
from longact_cli.evaluation.journal import Journal
from longact_cli.evaluation.task import generation_arguments
from longact_cli.evaluation.thinking import without_thoughts
from longact_cli.evaluation.tokens import count_prompt_tokens
from longact_cli.results import SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
_DOCUMENT_DIGITS = 16


class Journals(NamedTuple):
    """Where answers are looked up and appended: first answers of two-call samples, and results."""

    first: Journal
    results: Journal


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
            progress: Called with (answered, all) after every batch.
        """
        super().__init__()
        self._journals, self._benchmark = journals, benchmark
        self._load, self._tokenizer = load, tokenizer
        self._batch_size, self._progress = batch_size, progress

    @cached_property
    def _backend(self) -> LM:
        return self._load()

    def generate_until(self, requests: list[Instance]) -> list[str | None]:
        """Return one completion per request; None for a sample whose generation failed."""
        samples: list[Sample] = [request.doc for request in requests]
        self._total, self._done = len(samples), 0
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
            second = self._record(answered, failed)
            second += [again for one, text in first if (again := self._follow_up(one, text))]
            following += second
            self._done += len(batch) - len(second)
            self._progress(self._done, self._total)
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
        fitting, failed = [], []
        for question in questions:
            tokens = count_prompt_tokens(self._tokenizer, question.asked.prompt)
            room = question.asked.context_length - question.asked.tokens_to_generate
            if tokens > room:
                reason = f"the prompt has {tokens} tokens; the context length leaves {room}"
                failed.append(failed_result(question.sample, error=reason))
            else:
                fitting.append(question)
        answered, broken = self._generate(fitting) if fitting else ([], [])
        return answered, failed + broken

    def _generate(
        self, questions: Sequence[Question]
    ) -> tuple[list[tuple[Question, str]], list[SampleResult]]:
        backend = self._backend  # a model that does not load is no failure of these samples
        try:
            with _sampling_seed(questions):
                completions = backend.generate_until(_requests(questions), disable_tqdm=True)
        except (RuntimeError, ValueError, OSError) as error:
            if len(questions) > 1:
                parts = [self._generate([question]) for question in questions]
                return [a for part in parts for a in part[0]], [
                    f for part in parts for f in part[1]
                ]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return [], [failed_result(questions[0].sample, error=reason)]
        return list(zip(questions, completions, strict=True)), []

    def _unscored(self, sample: Sample, completion: str) -> SampleResult:
        """Return a completion's record. Backends return text, so its tokens are counted again.

        Text that is not valid UTF-8 may encode to more tokens than were generated, hence the cap.
        """
        tokens = self._tokenizer.encode(completion, add_special_tokens=False)
        return failed_result(sample, error=None)._replace(
            completion=completion, completion_tokens=min(len(tokens), sample.tokens_to_generate)
        )

    def _scored(self, sample: Sample, completion: str) -> SampleResult:
        score, parsed = self._benchmark.score(sample, without_thoughts(completion))
        return self._unscored(sample, completion)._replace(score=score, parsed=parsed)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refuse: no benchmark here asks for likelihoods."""
        raise NotImplementedError("only generation is supported")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refuse: no benchmark here asks for likelihoods."""
        raise NotImplementedError("only generation is supported")


def _requests(questions: Sequence[Question]) -> list[Instance]:
    """Read the prompts of one batch."""
    return [
        Instance(
            "generate_until",
            question.sample,
            (question.asked.prompt, generation_arguments(question.asked)),
            idx=0,
            metadata=(question.sample.task, number, 1),
        )
        for number, question in enumerate(questions)
    ]


@contextmanager
def _sampling_seed(questions: Sequence[Question]) -> Iterator[None]:
    """Sample from a stream that depends on the batch alone, and leave the global one as it was."""
    text = "/".join(question.asked.prompt_sha256 for question in questions)
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
