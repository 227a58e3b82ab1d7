"""Make RULER samples: any task, any length, each from its own random stream.

Source: NVIDIA/RULER c3f5e3b, scripts/data/. Templates, lengths and structure are official; sizing
and randomness are ours: a sample depends on nothing but its own coordinates, so subsets, order and
interruptions do not change it, and the same id asks for the same key with every tokenizer.
"""

from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.draft import Draft
from longact_cli.evaluation.ruler.fit import PromptFrame, largest, smallest
from longact_cli.evaluation.ruler.niah import niah_draft
from longact_cli.evaluation.ruler.templates import TASKS, NiahTask, VtTask
from longact_cli.evaluation.ruler.vt import EXAMPLE_TOKENS, ExampleLayout, example_layout, vt_draft
from longact_cli.evaluation.ruler.words import Split
from longact_cli.registry import unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBED_SAMPLES, _ROUND_TO = 16, 16


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


@dataclass(frozen=True, eq=False)
class RulerSource:
    """Where samples come from: the tokenizer that measures them, the seed and the key split."""

    tokenizer: "PreTrainedTokenizerBase"
    seed: int
    split: Split
    chat_template: bool = True

    @cached_property
    def frame(self) -> PromptFrame:
        """The chat template around the messages."""
        return PromptFrame(self.tokenizer, chat_template=self.chat_template)

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
        ConfigError: Not even the shortest prompt fits.
    """
    tokens_to_generate = find_task(task).tokens_to_generate
    draft = _draft(task, context_length, index=index, source=source)
    fit = largest(draft, source.frame, budget=context_length - tokens_to_generate)
    if fit is None:
        needed = _shortest_length(task, context_length, source=source)
        raise ConfigError(
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
        tokens_to_generate=tokens_to_generate,
    )


def find_task(name: str, *, key: str = "benchmark.tasks") -> NiahTask | VtTask:
    """Return the definition of a task; `key` is the setting that named it.

    Raises:
        UnknownNameError: There is no such task.
    """
    if name not in TASKS:
        raise unknown_name(key, name, TASKS)
    return TASKS[name]


def _draft(task: str, context_length: int, *, index: int, source: RulerSource) -> Draft:
    definition, rng = find_task(task), source.stream(task, context_length, index)
    if isinstance(definition, NiahTask):
        return niah_draft(definition, rng, split=source.split)
    return vt_draft(definition, rng, split=source.split, layout=source.example_layout)


def _shortest_length(task: str, context_length: int, *, source: RulerSource) -> int:
    """Return a length in which the smallest prompt of the first samples fits, rounded up."""
    drafts = (
        _draft(task, context_length, index=index, source=source) for index in range(_PROBED_SAMPLES)
    )
    tokens = max(smallest(draft, source.frame).tokens for draft in drafts)
    needed = tokens + find_task(task).tokens_to_generate
    return -(-needed // _ROUND_TO) * _ROUND_TO
