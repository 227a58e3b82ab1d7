"""The prompts that activations are measured on, where they are not the training prompts."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError
from longact_cli.masking.schedule import ProbePrompts
from longact_cli.training.context_lengths import probe_length
from longact_cli.training.data import GeneratedPrompts, PromptMixture, PromptSource

_FIRST_INDEX = 1_000_000  # beyond every training prompt


def probe_prompts(
    config: RunConfig, *, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int
) -> ProbePrompts | None:
    """Return the prompts of each step, or None where the training prompts are measured.

    Long and short prompts are generated from the tasks of `data.tasks`, with the keys of training,
    anew for each step, as many as a step has prompts. A file gives the same prompts in every step.

    Raises:
        ConfigError: The file cannot be read.
    """
    mask = config.mask
    if mask.prompts == "training":
        return None
    if mask.prompts_file is not None:
        stored = encode(read_prompts(Path(mask.prompts_file)), tokenizer)
        return lambda step: stored
    longest = max_prompt_tokens + config.algorithm.max_completion_tokens
    length = probe_length(config, window=longest)
    source = GeneratedPrompts(
        PromptMixture(
            tasks=config.data.tasks,
            context_lengths=(length,),
            chat_template=config.data.chat_template,
            seed=config.seed,
            max_prompt_tokens=longest,  # nothing is generated after it
        ),
        tokenizer=tokenizer,
    )
    count = config.algorithm.prompts_per_step
    return lambda step: encode(
        step_prompts(source, count, first=_FIRST_INDEX + step * count), tokenizer
    )


def step_prompts(source: PromptSource, count: int, *, first: int) -> Sequence[str]:
    """Return `count` prompts from number `first` on."""
    return [source.row(index, at=index)["prompt"] for index in range(first, first + count)]


def read_prompts(path: Path, key: str = "mask.prompts_file") -> Sequence[str]:
    """Read JSON lines with a `prompt` each; `key` is the setting that names the file.

    Raises:
        ConfigError: There is no such file, or a line has no prompt.
    """
    if not path.is_file():
        raise ConfigError(f"{key} is {path}; there is no such file")
    prompts = []
    # What is not UTF-8 is not JSON either, and is named with its line.
    text = path.read_text("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            prompts.append(str(json.loads(line)["prompt"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ConfigError(
                f"{key} {path}, line {number}: not a JSON object with a 'prompt'"
            ) from None
    if not prompts:
        raise ConfigError(f"{key} is {path}; it holds no prompt")
    return prompts


def encode(prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    """Return (input_ids, attention_mask), [prompts, time] each, padded."""
    batch = tokenizer(list(prompts), add_special_tokens=False, padding=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]
