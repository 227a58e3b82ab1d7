"""Count tokens the way lm-eval's backends encode a prompt."""

import hashlib
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


def tokenizer_rules_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return a SHA-256, in hex, of what decides a prompt's tokens: vocabulary, rules, template."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules = fast.to_str() if fast is not None else "\n".join(sorted(tokenizer.get_vocab()))
    parts = (
        type(tokenizer).__name__,
        str(tokenizer.bos_token),
        str(tokenizer.chat_template),
        rules,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
