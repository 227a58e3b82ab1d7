"""Verifiable rewards: a completion is compared with the known answers of its prompt."""

import re
from collections.abc import Callable, Sequence

from longact_cli.registry import Registry

Match = Callable[[str, Sequence[str]], float]

REWARDS: Registry[Match] = Registry("data.reward")
"""Name -> `(completion, references) -> match in 0..1`."""


@REWARDS.register("string_match")
def string_match(completion: str, references: Sequence[str]) -> float:
    """Return the fraction of references that the completion contains as whole words, 0..1.

    Case does not matter. A reference inside a longer word or number does not count, so digits
    cannot be sprayed until one of them fits.

    Source: `string_match_all` of NVIDIA/RULER, scripts/eval/synthetic/constants.py, which accepts
    any substring; the training reward is the stricter of the two.
    """
    return sum(_contains(completion, reference) for reference in references) / len(references)


def _contains(completion: str, reference: str) -> bool:
    """Return whether `reference` stands in the text between characters that end a word."""
    pattern = rf"(?<![\w-]){re.escape(reference)}(?![\w-])"
    return re.search(pattern, completion, flags=re.IGNORECASE) is not None


def terminated(completion_ids: Sequence[int], eos_token_ids: Sequence[int]) -> bool:
    """Return whether the model ended the completion itself, rather than the token limit."""
    return bool(completion_ids) and completion_ids[-1] in eos_token_ids


def score_completion(match: float, ended: bool) -> float:
    """Return the reward of one rollout, 0..1: its match, or 0 where it did not end by itself.

    Without the second condition the end of the answer is never rewarded and drifts away while the
    match stays high.
    """
    return match if ended else 0.0
