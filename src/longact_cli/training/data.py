"""Training prompts as one endless numbered sequence: a function of the seed."""

import hashlib
import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, TypedDict

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from longact_cli.errors import ConfigError, TooShortError
from longact_cli.evaluation.ruler.generator import RulerSample, RulerSource, make_sample
from longact_cli.files import sha256_json
from longact_cli.training.keychain import KEYCHAIN, keychain_sample

_CACHED_PROMPTS = 512
_HASHED_PROMPTS = 64
_DRAWS = 64
_REDRAWN = 10_000_000
"""Prompt i is drawn anew as number i + this, and so on: no other prompt has such a number."""


class PromptRow(TypedDict):
    """One prompt as the trainer takes it."""

    prompt: str
    references: list[str]
    sample_id: str


class PromptSource(Protocol):
    """An endless sequence of prompts."""

    def row(self, index: int, *, at: int) -> PromptRow:
        """Return prompt number `index`; `at` is the place in the length curriculum."""

    def fingerprint(self) -> tuple[object, ...]:
        """Return what the prompts are a function of, besides their numbers."""


class PromptMixture(NamedTuple):
    """What the prompts of a run are drawn from.

    Attributes:
        tasks: RULER tasks or `keychain`, used in turn.
        context_lengths: Prompt + answer budget in tokens as RULER counts it, used in turn.
        chat_template: Whether prompts carry the tokenizer's chat template.
        seed: Seed of the run; prompts are a function of it and of their index.
        max_prompt_tokens: No prompt may be longer.
        curriculum_prompts: Over this many prompts lengths grow from the shortest to all.
    """

    tasks: tuple[str, ...]
    context_lengths: tuple[int, ...]
    chat_template: bool
    seed: int
    max_prompt_tokens: int
    curriculum_prompts: int = 0


def prompt_dataset(source: PromptSource, count: int) -> Dataset:
    """Return prompts 0 to `count` - 1 with columns `prompt`, `references` and `sample_id`.

    Prompt i is the same whatever `count` is, and is made when it is read: a long run starts at
    once.

    Raises:
        ConfigError: When read, where a prompt is longer than allowed.
    """
    rows = Dataset.from_dict({"index": list(range(count))})
    return rows.with_transform(_Reader(source))


class _Reader:
    """Turns indices into columns; the trainer reads every index several times."""

    def __init__(self, source: PromptSource) -> None:
        self._source = source
        self._cached = lru_cache(maxsize=_CACHED_PROMPTS)(lambda index: source.row(index, at=index))

    def __call__(self, rows: dict[str, list[int]]) -> dict[str, list[object]]:
        made = [self._cached(index) for index in rows["index"]]
        return {
            "prompt": [row["prompt"] for row in made],
            "references": [row["references"] for row in made],
            "sample_id": [row["sample_id"] for row in made],
        }

    def __getstate__(self) -> dict[str, object]:
        """Let `datasets` fingerprint the reader by what it reads."""
        return {"source": self._source.fingerprint()}


class GeneratedPrompts:
    """Prompts of generated tasks, with keys that evaluation never uses."""

    def __init__(self, mixture: PromptMixture, *, tokenizer: PreTrainedTokenizerBase) -> None:
        """Prepare the generator; prompts are made when they are read."""
        self._mixture = mixture
        self._source = RulerSource(
            tokenizer,
            seed=prompt_seed(mixture.seed),
            split="train",
            chat_template=mixture.chat_template,
        )

    def row(self, index: int, *, at: int) -> PromptRow:
        """Return prompt number `index`. Tasks and lengths take turns.

        A prompt whose words alone take more tokens than its length has is drawn anew; its
        `sample_id` then ends in the number that was drawn.

        Raises:
            ConfigError: It is longer than `max_prompt_tokens`, or none of its draws fits.
        """
        lengths = curriculum_lengths(self._mixture, at)
        kinds = tuple(itertools.product(self._mixture.tasks, lengths))
        task, context_length = kinds[index % len(kinds)]
        sample = _first_fitting(task, context_length, index=index, source=self._source)
        if sample.prompt_tokens > self._mixture.max_prompt_tokens:
            raise ConfigError(
                f"data.context_lengths has {context_length}: prompt {sample.id} takes "
                f"{sample.prompt_tokens} tokens and the model's window leaves "
                f"{self._mixture.max_prompt_tokens}; choose a shorter context length"
            )
        return {
            "prompt": sample.prompt,
            "references": list(sample.references),
            "sample_id": sample.id,
        }

    def fingerprint(self) -> tuple[object, ...]:
        """Return the mixture and the tokenizer's name."""
        return (*self._mixture, self._source.tokenizer.name_or_path)


def curriculum_lengths(mixture: PromptMixture, at: int) -> Sequence[int]:
    """Return the context lengths that prompt number `at` may have.

    With a curriculum of n prompts and k lengths, each n/k prompts allow the next longer one.
    """
    lengths = mixture.context_lengths
    if not mixture.curriculum_prompts:
        return lengths
    stage = at * len(lengths) // mixture.curriculum_prompts
    return sorted(lengths)[: stage + 1]


def _first_fitting(
    task: str, context_length: int, *, index: int, source: RulerSource
) -> RulerSample:
    """Return sample `index`, or the first of its replacements that fits its length."""
    for draw in range(_DRAWS - 1):
        try:
            return _sample(task, context_length, index=index + draw * _REDRAWN, source=source)
        except TooShortError:
            continue
    return _sample(task, context_length, index=index + (_DRAWS - 1) * _REDRAWN, source=source)


def _sample(task: str, context_length: int, *, index: int, source: RulerSource) -> RulerSample:
    make = keychain_sample if task == KEYCHAIN else make_sample
    return make(task, context_length, index=index, source=source)


def prompts_sha256(source: PromptSource, count: int) -> str:
    """Return one hash over the first of `count` prompts (64 at most), in order."""
    numbers = range(min(count, _HASHED_PROMPTS))
    return sha256_json([source.row(index, at=index)["prompt"] for index in numbers])


def prompt_seed(seed: int) -> int:
    """Return the generator's seed for a run's seed: no evaluation seed meets it by accident."""
    digest = hashlib.sha256(f"training prompts {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
