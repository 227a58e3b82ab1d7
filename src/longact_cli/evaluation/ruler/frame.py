"""What surrounds a message, and how many tokens texts have."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from longact_cli.errors import ConfigError
from longact_cli.evaluation.tokens import count_prompt_tokens

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase

_MARK = "<<<longact-message>>>"


class PromptFrame:
    """What surrounds the user's message: the chat template and the start of the answer."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        chat_template: bool,
        thinking: bool = False,
        answer_prefix: bool = True,
    ) -> None:
        """Keep the tokenizer.

        Args:
            tokenizer: Holds the chat template and counts tokens.
            chat_template: Whether the message stands in the template, or alone.
            thinking: Whether the template is asked for its thinking mode.
            answer_prefix: Whether the start of the answer belongs to the prompt.
        """
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._thinking, self._answer_prefix = thinking, answer_prefix
        self._known: dict[str, int] = {}
        self._openings: dict[str, int] = {}
        self._numbers = np.zeros(1, dtype=np.int64)

    @cached_property
    def surroundings(self) -> tuple[str, str]:
        """The text before and after the message.

        A template that offers a thinking mode is asked for the mode without, unless the task gives
        thoughts a budget: an answer prefix leaves no room for them.
        """
        if not self._chat_template:
            return "", ""
        if not self._tokenizer.chat_template:
            raise ConfigError(
                f"chat_template is true, but the tokenizer of '{self._tokenizer.name_or_path}' has "
                "none; set benchmark.chat_template=false (training: data.chat_template=false)"
            )
        rendered = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self._thinking,
        )
        before, _, after = str(rendered).partition(_MARK)
        return before, after

    def ending(self, prefix: str) -> str:
        """Return what follows the message: the template, and the answer's prefix if it is shown."""
        return self.surroundings[1] + (prefix if self._answer_prefix else "")

    def prompt(self, message: str, prefix: str) -> str:
        """Return everything the model sees before it answers."""
        return self.surroundings[0] + message + self.ending(prefix)

    def tokens(self, text: str) -> int:
        """Count the tokens of a prompt the way lm-eval's backends encode it."""
        return count_prompt_tokens(self._tokenizer, text)

    def counts(self, pieces: Sequence[str]) -> list[int]:
        """Count the tokens of each piece as if it stood alone; every piece is encoded once."""
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self._known]
        if new:
            self._known.update(zip(new, self._lengths(new), strict=True))
        return [self._known[piece] for piece in pieces]

    def _lengths(self, texts: list[str]) -> list[int]:
        fast = getattr(self._tokenizer, "backend_tokenizer", None)
        if fast is None:
            encoded = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
            return [len(ids) for ids in encoded]
        # The wrapper spends more time on each of many short texts than the encoding takes.
        fast.no_padding()
        fast.no_truncation()
        return [len(ids) for ids in fast.encode_batch_fast(texts, add_special_tokens=False)]

    def count(self, piece: str) -> int:
        """Count the tokens of one piece, which is encoded once."""
        return self.counts([piece])[0]

    def opening(self, text: str) -> int:
        """Count the tokens of the start of a prompt, special ones included; encoded once."""
        if text not in self._openings:
            self._openings[text] = self.tokens(text)
        return self._openings[text]

    def numbers(self, last: int) -> "npt.NDArray[np.int64]":
        """Return the tokens of ` 1.` to ` n.` in sum, for n = 0 to `last` or beyond."""
        if len(self._numbers) <= last:
            first = len(self._numbers)
            more = self._lengths([f" {number}." for number in range(first, 2 * last + 1)])
            sums = np.cumsum(more) + self._numbers[-1]
            self._numbers = np.concatenate([self._numbers, sums])
        return self._numbers

    def line_tokens(self, lines: list[str]) -> list[int]:
        """Count the tokens of each line with its newline; equal lines are counted once."""
        unique = list(dict.fromkeys(lines))
        known = dict(zip(unique, self._lengths([f"{line}\n" for line in unique]), strict=True))
        return [known[line] for line in lines]
