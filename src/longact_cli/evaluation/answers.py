"""Answer samples through a backend, batch by batch, into the journal."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lm_eval.api.instance import Instance  # noqa: TID253 - subclassing needs lm-eval at import
from lm_eval.api.model import LM  # noqa: TID253

from longact_cli.evaluation.journal import Journal
from longact_cli.evaluation.ruler.generator import RulerSample
from longact_cli.evaluation.ruler.score import string_match_all
from longact_cli.results import SampleResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]


class JournalLM(LM):  # type: ignore[misc]  # lm-eval has no types
    """An lm-eval model that asks its backend only for answers the journal lacks.

    The backend is loaded at the first missing answer. Batches are planned over all samples, so an
    interrupted evaluation continues with the batches it would have run anyway.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        load: Callable[[], LM],
        tokenizer: "PreTrainedTokenizerBase",
        batch_size: int,
        progress: Progress,
    ) -> None:
        """Wrap the backend that `load` returns.

        Args:
            journal: Where answers are looked up and appended.
            load: Loads the backend; called at most once.
            tokenizer: Counts the tokens of completions.
            batch_size: Samples per backend call.
            progress: Called with (answered, all) after every batch.
        """
        super().__init__()
        self._journal, self._load, self._tokenizer = journal, load, tokenizer
        self._batch_size, self._progress = batch_size, progress

    @cached_property
    def _backend(self) -> LM:
        return self._load()

    def generate_until(self, requests: list[Instance]) -> list[str | None]:
        """Return one completion per request; None for a sample whose generation failed."""
        done = 0
        for batch in plan_batches(requests, batch_size=self._batch_size):
            missing = [request for request in batch if self._known(request.doc) is None]
            if missing:
                self._journal.append(self._answer(missing))
            done += len(batch)
            self._progress(done, len(requests))
        answers = [self._known(request.doc) for request in requests]
        return [None if answer is None else answer.completion for answer in answers]

    def _known(self, sample: RulerSample) -> SampleResult | None:
        return self._journal.get(sample.id, prompt_sha256=sha256_text(sample.prompt))

    def _answer(self, requests: Sequence[Instance]) -> list[SampleResult]:
        """Answer one batch; where it fails, each of its samples gets a try of its own."""
        try:
            completions = self._backend.generate_until(list(requests), disable_tqdm=True)
        except (RuntimeError, ValueError) as error:
            if len(requests) > 1:
                return [result for request in requests for result in self._answer([request])]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return [failed_result(requests[0].doc, error=reason)]
        return [
            self._scored_result(request.doc, completion)
            for request, completion in zip(requests, completions, strict=True)
        ]

    def _scored_result(self, sample: RulerSample, completion: str) -> SampleResult:
        """Score a completion. Backends return text, so its tokens are counted by encoding it again.

        Text that is not valid UTF-8 may encode to more tokens than were generated, hence the cap.
        """
        tokens = self._tokenizer.encode(completion, add_special_tokens=False)
        return failed_result(sample, error=None)._replace(
            completion=completion,
            completion_tokens=min(len(tokens), sample.tokens_to_generate),
            score=string_match_all(completion, sample.references),
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refuse: no benchmark here asks for likelihoods."""
        raise NotImplementedError("only generation is supported")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refuse: no benchmark here asks for likelihoods."""
        raise NotImplementedError("only generation is supported")


def plan_batches(requests: Sequence[Instance], *, batch_size: int) -> Iterator[list[Instance]]:
    """Group requests of like length and equal answer budget, the longest prompts first.

    A batch that does not fit into memory thus fails at once and not after hours.
    """

    def key(request: Instance) -> tuple[int, int, str]:
        sample: RulerSample = request.doc
        return (-sample.tokens_to_generate, -sample.prompt_tokens, sample.id)

    waiting: list[Instance] = []
    for request in sorted(requests, key=key):
        budget = request.doc.tokens_to_generate
        if waiting and (len(waiting) == batch_size or waiting[0].doc.tokens_to_generate != budget):
            yield waiting
            waiting = []
        waiting.append(request)
    if waiting:
        yield waiting


def failed_result(sample: RulerSample, *, error: str | None) -> SampleResult:
    """Return the record of a sample without an answer. RULER prompts are never truncated."""
    return SampleResult(
        id=sample.id,
        benchmark="ruler",
        task=sample.task,
        context_length=sample.context_length,
        prompt_sha256=sha256_text(sample.prompt),
        prompt_tokens=sample.prompt_tokens,
        completion=None,
        completion_tokens=None,
        references=sample.references,
        score=None,
        truncated=False,
        error=error,
    )


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
