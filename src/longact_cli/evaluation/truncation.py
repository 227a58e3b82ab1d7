"""Cut a text in its middle, counted in tokens, before any chat template or backend sees it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

Halves = Literal["exact", "equal"]
"""How an odd budget is shared: `exact` gives the end one token more, `equal` drops one token."""

_SMALLEST_BUDGET = 2


class Truncation(NamedTuple):
    """A text that fits its budget, and what that took. Lengths in tokens."""

    text: str
    tokens_in: int
    tokens_cut: int


def keep_ends(tokens: Sequence[T], max_tokens: int, *, halves: Halves = "exact") -> Sequence[T]:
    """Return the first half and the last half of the budget; all tokens where they fit.

    Raises:
        ValueError: The budget leaves no token for one of the ends.

    Source: `exact` is THUDM/LongBench 2e00731, pred.py (`query_llm`) and OpenBMB/InfiniteBench
    88b3daa, src/eval_utils.py (`truncate_input`); `equal` is the latter's src/eval_yarn_mistral.py.
    """
    if max_tokens < _SMALLEST_BUDGET:
        raise ValueError(f"max_tokens is {max_tokens}; both ends need at least one token")
    if len(tokens) <= max_tokens:
        return tokens
    head = max_tokens // 2
    tail = max_tokens - head if halves == "exact" else head
    return [*tokens[:head], *tokens[-tail:]]


class LongText:
    """A text, encoded once, that can be cut to several budgets.

    As in the official code, the tokenizer's own special tokens (a start token, say) count, and
    special tokens vanish from a text that is cut.
    """

    def __init__(self, text: str, *, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Encode the whole prompt, as it is before the chat template."""
        self._text, self._tokenizer = text, tokenizer
        self._tokens: list[int] = tokenizer.encode(text)

    def cut(self, max_tokens: int, *, halves: Halves = "exact") -> Truncation:
        """Return the text within a budget; where it fits, unchanged, byte for byte.

        Joining the ends can create a few tokens more than the budget when the result is encoded.

        Args:
            max_tokens: Budget of the text, at least 2.
            halves: How an odd budget is shared.
        """
        kept = keep_ends(self._tokens, max_tokens, halves=halves)
        if len(kept) == len(self._tokens):
            return Truncation(self._text, tokens_in=len(kept), tokens_cut=0)
        return Truncation(
            str(self._tokenizer.decode(list(kept), skip_special_tokens=True)),
            tokens_in=len(self._tokens),
            tokens_cut=len(self._tokens) - len(kept),
        )
