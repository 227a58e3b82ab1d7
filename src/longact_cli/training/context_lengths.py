"""Refuse context lengths that do not go with the tasks, before a run begins.

A generated prompt has a shortest form, whose tokens vary with the words that were drawn. A length
that most samples fit is served by drawing the others anew; one that most do not fit is refused.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from longact_cli.config.schema import RunConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.generator import RulerSource, find_task, shortest_length
from longact_cli.models.loading import load_tokenizer
from longact_cli.training.keychain import ANSWER_TOKENS, KEYCHAIN, keychain_shortest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHORT_SHARE = 8
_PROBED, _ROUND_TO = 32, 16
# What a chat template adds, and how much longer than the first another sample may be.
_TEMPLATE_TOKENS, _SPARE_SHARE = 64, 1.3


class _Asked(NamedTuple):
    """One context length that prompts are generated at.

    Attributes:
        key: The setting that asks for it.
        length: Prompt and answer, in tokens.
        room: Tokens a prompt may have.
        why: What leaves that room.
    """

    key: str
    length: int
    room: int
    why: str


def check_context_lengths(config: RunConfig, *, checkpoint: Path, window: int) -> None:
    """Refuse lengths too short for most samples of a task, or whose prompts exceed the window.

    Args:
        config: The cell; prompts that come from a dataset are not looked at.
        checkpoint: Folder with the tokenizer.
        window: Tokens of the model's window.

    Raises:
        ConfigError: One of both, or a task cannot be trained on.
        PrerequisiteError: A task's data cannot be had.
    """
    if config.data.path is not None:
        return
    for asked in _asked(config, window):
        for task in dict.fromkeys(config.data.tasks):
            _check_room(task, asked)
            if (checkpoint / "tokenizer.json").is_file():
                _check_shortest(task, asked, config=config, checkpoint=checkpoint)


def probe_length(config: RunConfig, *, window: int) -> int:
    """Return the context length of the prompts that activations are measured on."""
    mask = config.mask
    return mask.prompt_length or (window if mask.prompts == "long" else window // _SHORT_SHARE)


def _asked(config: RunConfig, window: int) -> Iterator[_Asked]:
    completion = config.algorithm.max_completion_tokens
    room = window - completion
    why = f"algorithm.max_completion_tokens={completion} leaves {room} of the model's {window}"
    for length in dict.fromkeys(config.data.context_lengths):
        yield _Asked("data.context_lengths", length, room, why)
    if config.mask.prompts in ("long", "short"):
        length, why = probe_length(config, window=window), f"the model's window is {window}"
        yield _Asked("mask.prompt_length", length, window, why)


def _check_room(task: str, asked: _Asked) -> None:
    """Refuse a length at which prompts may be longer than the window allows."""
    answer = _answer_tokens(task)
    if asked.length - answer > asked.room:
        raise ConfigError(
            f"{asked.key} has {asked.length}: prompts of {task} take up to {asked.length - answer} "
            f"tokens, and {asked.why}; give lengths of at most {asked.room + answer}"
        )


def _check_shortest(task: str, asked: _Asked, *, config: RunConfig, checkpoint: Path) -> None:
    """Refuse a length that most samples of a task do not fit."""
    length = asked.length
    first = _shortest(task, length, index=0, source=_quick_source(checkpoint))
    if first * _SPARE_SHARE + _TEMPLATE_TOKENS <= length:
        return
    source = RulerSource(
        load_tokenizer(str(checkpoint), trust_remote_code=config.model.trust_remote_code),
        seed=0,
        split="train",
        chat_template=config.data.chat_template,
    )
    needed = [_shortest(task, length, index=index, source=source) for index in range(_PROBED)]
    if sum(tokens <= length for tokens in needed) < _PROBED // 2:
        enough = -(-max(needed) // _ROUND_TO) * _ROUND_TO
        raise ConfigError(
            f"{asked.key} has {length}: {task} needs {min(needed)} to {max(needed)} tokens with "
            f"this tokenizer; give lengths of {enough} or more, or leave {task} out of data.tasks"
        )


def _shortest(task: str, length: int, *, index: int, source: RulerSource) -> int:
    if task == KEYCHAIN:
        return keychain_shortest(length, index=index, source=source)
    return shortest_length(task, length, index=index, source=source)


def _answer_tokens(task: str) -> int:
    if task == KEYCHAIN:
        return ANSWER_TOKENS
    return find_task(task, key="data.tasks").tokens_to_generate


class _PlainTokenizer:
    """Counts tokens by `tokenizer.json` alone: transformers takes seconds to import."""

    bos_token = None

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self.backend_tokenizer = Tokenizer.from_file(str(path))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        encoding = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids


@lru_cache(maxsize=4)
def _quick_source(checkpoint: Path) -> RulerSource:
    """Return a source that counts without the chat template."""
    tokenizer = cast("PreTrainedTokenizerBase", _PlainTokenizer(checkpoint / "tokenizer.json"))
    return RulerSource(tokenizer, seed=0, split="train", chat_template=False)
