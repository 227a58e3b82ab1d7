"""Make RULER samples: any task, any length, each from its own random stream.

Source: NVIDIA/RULER c3f5e3b, scripts/data/. Templates, lengths and structure are official; sizing
and randomness are ours: a sample depends on nothing but its own coordinates, so subsets, order and
interruptions do not change it, and the same id asks for the same key with every tokenizer.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from random import Random
from typing import TYPE_CHECKING

from longact_cli.errors import ConfigError, TooShortError
from longact_cli.evaluation.ruler.cwe import cwe_draft
from longact_cli.evaluation.ruler.data import load_collection, load_essays, spare_words
from longact_cli.evaluation.ruler.draft import Draft
from longact_cli.evaluation.ruler.essay import essay_draft
from longact_cli.evaluation.ruler.fit import Fit, largest, smallest
from longact_cli.evaluation.ruler.frame import PromptFrame
from longact_cli.evaluation.ruler.fwe import fwe_draft
from longact_cli.evaluation.ruler.niah import niah_draft
from longact_cli.evaluation.ruler.qa import qa_draft
from longact_cli.evaluation.ruler.templates import (
    TASKS,
    CweTask,
    FweTask,
    NiahTask,
    QaTask,
    RulerTask,
    VtTask,
)
from longact_cli.evaluation.ruler.vt import EXAMPLE_TOKENS, ExampleLayout, example_layout, vt_draft
from longact_cli.evaluation.ruler.words import Split
from longact_cli.evaluation.tokens import tokenizer_rules_sha256
from longact_cli.registry import unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATOR_VERSION = 1
"""Raise it when a sample changes for equal coordinates."""
_PROBED_SAMPLES, _ROUND_TO = 16, 16
ALWAYS_ENCODED = 2048
"""Up to this context length a prompt's tokens are counted on the whole prompt."""
_CALIBRATION_LENGTH, _CALIBRATION_SAMPLES = 8192, 3


@dataclass(frozen=True, slots=True)
class RulerSample:
    """One question, ready for the model.

    `prompt` is everything the model sees: chat template, message, generation header and the start
    of the answer. `prompt_tokens + tokens_to_generate <= context_length`.
    """

    id: str
    task: str
    context_length: int
    index: int
    prompt: str
    references: tuple[str, ...]
    prompt_tokens: int
    tokens_to_generate: int
    units: int
    """Size of the haystack; with the coordinates it is all that makes the prompt again."""


@dataclass(frozen=True, eq=False)
class RulerSource:
    """Where samples come from: the tokenizer that measures them, the seed and the key split.

    `answer_prefix` tells whether prompts end with the start of the answer; `thinking_tokens` are
    reserved for thoughts before it; `data_dir` holds the essays and questions (None: the hub).
    """

    tokenizer: "PreTrainedTokenizerBase"
    seed: int
    split: Split
    chat_template: bool = True
    answer_prefix: bool = True
    thinking_tokens: int = 0
    data_dir: str | None = None

    @cached_property
    def frame(self) -> PromptFrame:
        """The chat template around the messages."""
        return PromptFrame(
            self.tokenizer,
            chat_template=self.chat_template,
            thinking=self.thinking_tokens > 0,
            answer_prefix=self.answer_prefix,
        )

    @cached_property
    def tokenizer_sha256(self) -> str:
        """What identifies the tokenizer's behaviour."""
        return tokenizer_rules_sha256(self.tokenizer)

    @cached_property
    def _additive(self) -> dict[tuple[str, int], bool]:
        return {}

    def is_additive(self, task: str, context_length: int) -> bool:
        """Return whether token counts of pieces add up, as measured on a few prompts.

        Short prompts are always encoded as a whole: that costs little. Long ones are encoded once
        more before they are answered, so that a wrong sum could not go unnoticed.
        """
        key = (task, context_length)
        if context_length <= ALWAYS_ENCODED:
            return False
        if key not in self._additive:
            short = min(context_length, _CALIBRATION_LENGTH)
            fits = _summed(task, short, index=0, source=self) is not None
            self._additive[key] = all(
                _adds_up(task, short if fits else context_length, index=index, source=self)
                for index in range(_CALIBRATION_SAMPLES)
            )
        return self._additive[key]

    @cached_property
    def example_layout(self) -> ExampleLayout:
        """The layout of the variable-tracking example, equal for all samples of this source."""
        return example_layout(
            VtTask(),
            self.stream("vt", "example"),
            split=self.split,
            fits=lambda text: self.frame.tokens(text) <= EXAMPLE_TOKENS,
        )

    def stream(self, *coordinates: object) -> Random:
        """Return the random stream of these coordinates; equal ones give equal streams."""
        return Random("/".join(map(str, (self.seed, self.split, *coordinates))))

    @property
    def lengths_key(self) -> str:
        """The setting that chooses the context lengths of this split."""
        return f"{'data' if self.split == 'train' else 'benchmark'}.context_lengths"


def make_sample(task: str, context_length: int, *, index: int, source: RulerSource) -> RulerSample:
    """Return sample number `index` of a task at a context length.

    Args:
        task: A key of `TASKS`.
        context_length: Prompt tokens + `tokens_to_generate`, at most.
        index: Any number >= 0.
        source: Tokenizer, seed and key split.

    Raises:
        UnknownNameError: There is no such task.
        TooShortError: Not even the shortest prompt fits.
    """
    answer = answer_budget(task, source=source)
    draft = _draft(task, context_length, index=index, source=source)
    trusted = source.is_additive(task, context_length)
    fit = largest(draft, source.frame, budget=context_length - answer, trusted=trusted)
    if fit is None:
        needed = _shortest_length(task, context_length, index=index, source=source)
        raise TooShortError(
            f"{source.lengths_key} is {context_length}; {task} needs at least {needed} tokens with "
            "this tokenizer; choose a larger length or leave the task out"
        )
    return RulerSample(
        id=f"ruler/{task}/{context_length}/{index}",
        task=task,
        context_length=context_length,
        index=index,
        prompt=fit.prompt,
        references=draft.references,
        prompt_tokens=fit.tokens,
        tokens_to_generate=answer,
        units=fit.units,
    )


def shortest_length(task: str, context_length: int, *, index: int, source: RulerSource) -> int:
    """Return the tokens of sample `index` with the smallest haystack and its whole answer.

    `make_sample` has room for it at `context_length` where that is not below the result.

    Raises:
        UnknownNameError: There is no such task.
    """
    draft = _draft(task, context_length, index=index, source=source)
    return smallest(draft, source.frame).tokens + answer_budget(task, source=source)


def make_prompt(
    task: str, context_length: int, *, index: int, units: int, source: RulerSource
) -> str:
    """Return the prompt of a sample whose size is known, without counting a token."""
    draft = _draft(task, context_length, index=index, source=source)
    return source.frame.prompt(draft.message(units), draft.prefix)


def answer_budget(task: str, *, source: RulerSource) -> int:
    """Return the tokens a model may generate: thoughts and answer."""
    return find_task(task).tokens_to_generate + source.thinking_tokens


def find_task(name: str, *, key: str = "benchmark.tasks") -> RulerTask:
    """Return the definition of a task; `key` is the setting that named it.

    Raises:
        UnknownNameError: There is no such task.
    """
    if name not in TASKS:
        raise unknown_name(key, name, TASKS)
    return TASKS[name]


def _draft(task: str, context_length: int, *, index: int, source: RulerSource) -> Draft:
    definition, rng = find_task(task), source.stream(task, context_length, index)
    split = source.split
    match definition:
        case NiahTask(haystack="essay"):
            return essay_draft(definition, rng, split=split, essays=load_essays(source.data_dir))
        case NiahTask():
            return niah_draft(definition, rng, split=split)
        case VtTask():
            return vt_draft(definition, rng, split=split, layout=source.example_layout)
        case CweTask():
            spare = partial(spare_words, source.data_dir)
            return cwe_draft(context_length, rng, split=split, spare=spare)
        case FweTask():
            return fwe_draft(context_length - definition.tokens_to_generate, rng, split=split)
        case QaTask():
            if split == "train":
                raise ConfigError(
                    f"data.tasks has {task}; its questions are for evaluation only: leave it out"
                )
            return qa_draft(load_collection(definition.data, source.data_dir), index, rng)


def _summed(task: str, context_length: int, *, index: int, source: RulerSource) -> Fit | None:
    """Return the sample whose size is a sum alone; None where nothing fits."""
    budget = context_length - answer_budget(task, source=source)
    draft = _draft(task, context_length, index=index, source=source)
    return largest(draft, source.frame, budget=budget, trusted=True)


def _adds_up(task: str, context_length: int, *, index: int, source: RulerSource) -> bool:
    """Compare the summed tokens of one prompt with a real encode."""
    fit = _summed(task, context_length, index=index, source=source)
    return fit is not None and source.frame.tokens(fit.prompt) == fit.tokens


def _shortest_length(task: str, context_length: int, *, index: int, source: RulerSource) -> int:
    """Return a length that holds the smallest prompts of this and the first samples, rounded up."""
    needed = max(
        shortest_length(task, context_length, index=probed, source=source)
        for probed in (index, *range(_PROBED_SAMPLES))
    )
    return -(-needed // _ROUND_TO) * _ROUND_TO
