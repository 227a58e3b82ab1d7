"""Count tokens the way lm-eval's backends encode a prompt."""

import hashlib
from collections.abc import Sequence
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


def count_prompts(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[int]:
    """Return the tokens of whole prompts, counted together: the wrapper is slow for each alone."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None or tokenizer.bos_token:
        return [count_prompt_tokens(tokenizer, prompt) for prompt in prompts]
    fast.no_padding()
    fast.no_truncation()
    return [len(ids) for ids in fast.encode_batch_fast(list(prompts), add_special_tokens=True)]


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
