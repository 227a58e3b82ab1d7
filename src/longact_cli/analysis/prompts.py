"""The prompts of an analysis: long and short ones, drawn anew for each seed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from longact_cli.analysis.settings import AnalysisSettings, Context
from longact_cli.errors import ConfigError
from longact_cli.evaluation.truncation import keep_ends
from longact_cli.training.data import GeneratedPrompts, PromptMixture
from longact_cli.training.probe_prompts import read_prompts

_FIRST_INDEX = 2_000_000  # beyond every prompt that trains or probes

PromptDraw = Callable[[Context, int], "tuple[Prompt, ...]"]
"""(context, seed) -> prompts."""


class Prompt(NamedTuple):
    """One prompt as the model takes it.

    Attributes:
        id: Where it comes from.
        input_ids: Tokens, [1, time].
    """

    id: str
    input_ids: Tensor

    @property
    def sha256(self) -> str:
        """Hash of the tokens, in hex."""
        return hashlib.sha256(self.input_ids.numpy().tobytes()).hexdigest()


def prompt_draw(settings: AnalysisSettings, tokenizer: PreTrainedTokenizerBase) -> PromptDraw:
    """Return the source of an analysis's prompts for one tokenizer.

    Raises:
        ConfigError: A file of prompts cannot be read, or holds no prompt long enough.
    """
    if settings.files.long is None:
        return lambda context, seed: _generated(settings, tokenizer, context=context, seed=seed)
    long = short = _StoredTexts("--data", settings.files.long, settings)
    if settings.files.short is not None:
        short = _StoredTexts("--short-data", settings.files.short, settings)
    by_context = {"long": long, "short": short}

    def draw(context: Context, seed: int) -> tuple[Prompt, ...]:
        drawn = by_context[context.name].draw(seed)
        found = tuple(
            Prompt(name, _cut(text, tokenizer, max_tokens=context.length)) for name, text in drawn
        )
        shortest = settings.contexts[1].length
        longest = max(prompt.input_ids.shape[1] for prompt in found)
        if context.name == "long" and longest <= shortest:
            raise ConfigError(
                f"--data is {settings.files.long}: no prompt drawn from it has more than "
                f"{shortest} tokens, the short length: lower --short-length or give longer prompts"
            )
        return found

    return draw


class _StoredTexts:
    """Texts of a file; no two seeds draw the same line, and both lengths draw the same ones."""

    def __init__(self, key: str, path: Path, settings: AnalysisSettings) -> None:
        self._name = path.stem
        self._texts = read_prompts(path, key)
        self._seeds, self._count = settings.seeds, settings.prompts
        needed = len(self._seeds) * self._count
        if len(self._texts) < needed:
            raise ConfigError(
                f"{key} is {path}; it holds {len(self._texts)} prompts, and {len(self._seeds)} "
                f"draws of {self._count} that share none take {needed}: lower --prompts or --seeds"
            )

    def draw(self, seed: int) -> list[tuple[str, str]]:
        lines = list(range(len(self._texts)))
        Random(f"analysis prompts {self._seeds}").shuffle(lines)
        first = self._seeds.index(seed) * self._count
        chosen = lines[first : first + self._count]
        return [(f"{self._name}/{line}", self._texts[line]) for line in chosen]


def _cut(text: str, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> Tensor:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([list(keep_ends(ids, max_tokens))])


def _generated(
    settings: AnalysisSettings, tokenizer: PreTrainedTokenizerBase, *, context: Context, seed: int
) -> tuple[Prompt, ...]:
    source = GeneratedPrompts(
        PromptMixture(
            tasks=settings.tasks,
            context_lengths=(context.length,),
            chat_template=settings.chat_template,
            seed=seed,
            max_prompt_tokens=context.length,
        ),
        tokenizer=tokenizer,
    )
    try:
        rows = [source.row(_FIRST_INDEX + i, at=0) for i in range(settings.prompts)]
    except ConfigError as error:
        key = "--length" if context.name == "long" else "--short-length"
        raise ConfigError(str(error).replace("data.context_lengths", key)) from None
    return tuple(
        Prompt(
            row["sample_id"],
            torch.tensor([tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]]),
        )
        for row in rows
    )
