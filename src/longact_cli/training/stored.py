"""Training prompts from a JSON Lines file or a Hugging Face dataset, in a seeded endless order."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError
from transformers import PreTrainedTokenizerBase

from longact_cli.errors import ConfigError
from longact_cli.training.data import PromptRow, prompt_seed

_COLUMNS = ("prompt", "answer")


class StoredPrompts:
    """Rows of a dataset with columns `prompt` and `answer`, shuffled anew in every epoch.

    A prompt is a text, put into the chat template where one is asked for, or a list of chat
    messages. An answer is a text or a list of texts.
    """

    def __init__(
        self,
        path: str,
        *,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: bool,
        seed: int,
        max_prompt_tokens: int,
    ) -> None:
        """Read the dataset and leave out prompts longer than `max_prompt_tokens`.

        Raises:
            ConfigError: It cannot be read, lacks a column, or holds no prompt that fits.
        """
        self._path = path
        self._split = split
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._seed = prompt_seed(seed)
        self._rows = _read(path, split)
        self._fitting = [
            place
            for place, row in enumerate(self._rows)
            if len(self._encode(self._text(row["prompt"]))) <= max_prompt_tokens
        ]
        if not self._fitting:
            raise ConfigError(
                f"data.path is '{path}': none of its {len(self._rows)} prompts fits into "
                f"{max_prompt_tokens} tokens; choose shorter prompts or a model with more room"
            )
        self._order = lru_cache(maxsize=4)(self._shuffled)

    @property
    def left_out(self) -> int:
        """How many prompts were too long."""
        return len(self._rows) - len(self._fitting)

    def row(self, index: int, *, at: int) -> PromptRow:
        """Return prompt number `index`; a curriculum (`at`) does not apply."""
        del at
        epoch, place = divmod(index, len(self._fitting))
        number = self._order(epoch)[place]
        row = self._rows[number]
        answer = row["answer"]
        return {
            "prompt": self._text(row["prompt"]),
            "references": [answer] if isinstance(answer, str) else [str(text) for text in answer],
            "sample_id": f"{Path(self._path).stem}/{number}",
        }

    def fingerprint(self) -> tuple[object, ...]:
        """Return the dataset's name and size, and how prompts are made of it."""
        return (self._path, self._split, len(self._rows), self._chat_template, self._seed)

    def _shuffled(self, epoch: int) -> Sequence[int]:
        order = list(self._fitting)
        Random(f"{self._seed}/{epoch}").shuffle(order)
        return order

    def _text(self, prompt: str | list[dict[str, str]]) -> str:
        if isinstance(prompt, str) and not self._chat_template:
            return prompt
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _read(path: str, split: str) -> Sequence[Mapping[str, Any]]:
    try:
        dataset = _load(path, split)
    except (OSError, ValueError, DatasetsError) as error:
        # The library's own words for a broken file are those of the cause.
        reason = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(
            f"data.path is '{path}' and cannot be read ({reason}); give a .jsonl file, or a "
            "dataset folder or hub id"
        ) from None
    missing = [name for name in _COLUMNS if name not in dataset.column_names]
    if missing:
        raise ConfigError(
            f"data.path is '{path}', which has columns {', '.join(dataset.column_names)} and no "
            f"{' or '.join(missing)}; rename its columns to {' and '.join(_COLUMNS)}"
        )
    return list(dataset.select_columns(list(_COLUMNS)))


def _load(path: str, split: str) -> Dataset:
    if path.endswith((".jsonl", ".json")):
        return load_dataset("json", data_files=path, split="train")
    if Path(path).is_dir() and any(Path(path).glob("**/state.json")):
        stored = load_from_disk(path)
        return stored[split] if isinstance(stored, DatasetDict) else stored
    return load_dataset(path, split=split)
