"""Training prompts: RULER-like samples, made when they are first needed."""

import hashlib
import itertools
from functools import lru_cache
from typing import NamedTuple

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.generator import RulerSample, RulerSource, make_sample
from longact_cli.files import sha256_json

_CACHED_PROMPTS = 512
_HASHED_PROMPTS = 64


class PromptMixture(NamedTuple):
    """What the prompts of a run are drawn from.

    Attributes:
        tasks: RULER tasks, used in turn.
        context_lengths: Prompt + answer budget in tokens as RULER counts it, used in turn.
        chat_template: Whether prompts carry the tokenizer's chat template.
        seed: Seed of the run; prompts are a function of it and of their index.
        max_prompt_tokens: No prompt may be longer.
    """

    tasks: tuple[str, ...]
    context_lengths: tuple[int, ...]
    chat_template: bool
    seed: int
    max_prompt_tokens: int


def prompt_dataset(
    mixture: PromptMixture, count: int, *, tokenizer: PreTrainedTokenizerBase
) -> Dataset:
    """Return `count` prompts with columns `prompt`, `references` and `sample_id`.

    Prompt i is the same whatever `count` is, and is made when it is read: a long run starts at
    once. Tasks and lengths alternate, so every step sees the whole mixture.

    Raises:
        ConfigError: When read, where a prompt is longer than `max_prompt_tokens`.
    """
    maker = _PromptMaker(mixture, tokenizer)
    rows = Dataset.from_dict({"index": list(range(count))})
    return rows.with_transform(maker)


class _PromptMaker:
    """Turns indices into prompts; the trainer reads every index several times."""

    def __init__(self, mixture: PromptMixture, tokenizer: PreTrainedTokenizerBase) -> None:
        self._mixture = mixture
        self._kinds = tuple(itertools.product(mixture.tasks, mixture.context_lengths))
        self._source = RulerSource(
            tokenizer,
            seed=prompt_seed(mixture.seed),
            split="train",
            chat_template=mixture.chat_template,
        )
        self._cached = lru_cache(maxsize=_CACHED_PROMPTS)(self._make)

    def __call__(self, rows: dict[str, list[int]]) -> dict[str, list[object]]:
        samples = [self._cached(index) for index in rows["index"]]
        return {
            "prompt": [sample.prompt for sample in samples],
            "references": [list(sample.references) for sample in samples],
            "sample_id": [sample.id for sample in samples],
        }

    def __getstate__(self) -> dict[str, object]:
        """Let `datasets` fingerprint the maker by what it makes."""
        return {"mixture": tuple(self._mixture), "tokenizer": self._source.tokenizer.name_or_path}

    def _make(self, index: int) -> RulerSample:
        task, context_length = self._kinds[index % len(self._kinds)]
        sample = make_sample(task, context_length, index=index, source=self._source)
        if sample.prompt_tokens > self._mixture.max_prompt_tokens:
            raise ConfigError(
                f"data.context_lengths has {context_length}: prompt {sample.id} takes "
                f"{sample.prompt_tokens} tokens and the model's window leaves "
                f"{self._mixture.max_prompt_tokens}; choose a shorter context length"
            )
        return sample


def prompts_sha256(dataset: Dataset) -> str:
    """Return one hash over the first prompts of a run (64 at most), in order."""
    prompts = dataset[: min(len(dataset), _HASHED_PROMPTS)]["prompt"]
    return sha256_json(list(prompts))


def prompt_seed(seed: int) -> int:
    """Return the generator's seed for a run's seed: no evaluation seed meets it by accident."""
    digest = hashlib.sha256(f"training prompts {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
