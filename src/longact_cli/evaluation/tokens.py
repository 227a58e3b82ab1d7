"""Count tokens the way lm-eval's backends encode a prompt."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def count_prompt_tokens(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> int:
    """Return the tokens of a whole prompt.

    Special tokens are added unless the prompt, through its chat template, starts with one already.
    """
    bos: str | None = tokenizer.bos_token
    special = not (bos and prompt.startswith(bos))
    return len(tokenizer.encode(prompt, add_special_tokens=special))
