"""Verifiable rewards: a completion is compared with the known answers of its prompt.

Rewards that look for one final answer read the end of a completion only and take the last answer
there: a long completion cannot collect guesses, and checking it costs no more than a short one.
"""

import re
from collections.abc import Callable, Sequence

from longact_cli.errors import PrerequisiteError
from longact_cli.registry import Registry

Match = Callable[[str, Sequence[str]], float]

REWARDS: Registry[Match] = Registry("data.reward")
"""Name -> `(completion, references) -> match in 0..1`."""

_READ = 2000
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_LETTER = re.compile(r"\banswer(?:\s+is)?\s*:?\s*\**\(?([A-Z])\)?(?![A-Za-z])")
_STATED = re.compile(r"\banswer(?:\s+is)?\s*:?\s*\S", flags=re.IGNORECASE)
_LONE_LETTER = re.compile(r"\s*\(?([A-Z])\)?[.\s]*")


@REWARDS.register("string_match")
def string_match(completion: str, references: Sequence[str]) -> float:
    """Return the fraction of references that the completion contains as whole words, 0..1.

    Case does not matter. A reference inside a longer word or number does not count, so digits
    cannot be sprayed until one of them fits.

    Source: `string_match_all` of NVIDIA/RULER, scripts/eval/synthetic/constants.py, which accepts
    any substring; the training reward is the stricter of the two.
    """
    return sum(_contains(completion, reference) for reference in references) / len(references)


@REWARDS.register("string_match_any")
def string_match_any(completion: str, references: Sequence[str]) -> float:
    """Return 1 where the completion contains at least one reference as a whole word, else 0.

    Source: `string_match_part` of NVIDIA/RULER, with whole words as above.
    """
    return float(any(_contains(completion, reference) for reference in references))


@REWARDS.register("choice_letter")
def choice_letter(completion: str, references: Sequence[str]) -> float:
    r"""Return 1 where the last chosen letter is a reference, else 0.

    A choice is `\boxed{B}`, `answer is (B)`, `answer: B`, or a completion of nothing but a letter.
    """
    return float(_last_choice(completion[-_READ:]) in {text.strip("() .") for text in references})


@REWARDS.register("math_equal")
def math_equal(completion: str, references: Sequence[str]) -> float:
    """Return 1 where the last formula or number equals a reference as mathematics, else 0.

    Raises:
        PrerequisiteError: The package `math-verify` is missing.
    """
    try:
        from math_verify import parse, verify  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise PrerequisiteError(
            "data.reward is 'math_equal', which needs the package math-verify: "
            "pip install math-verify"
        ) from None
    answer = parse(completion[-_READ:])
    return float(any(verify(parse(_as_formula(text)), answer) for text in references))


@REWARDS.register("format")
def one_final_answer(completion: str, references: Sequence[str]) -> float:
    r"""Return 1 where the completion states exactly one final answer, right or wrong, else 0.

    A statement is a non-empty `\boxed{...}`; without any box, the words `answer is` or `answer:`.
    """
    del references
    boxes = [box for box in _BOXED.findall(completion) if box.strip()]
    return float((len(boxes) or len(_STATED.findall(completion))) == 1)


def overlong_punishment(tokens: int, *, longest: int, cache: int) -> float:
    """Return the soft overlong punishment of a completion, -1..0.

    0 up to `longest - cache` tokens, then falling in a line to -1 at `longest` tokens.

    Source: DAPO, arXiv 2503.14476, equation 13.
    """
    free = longest - cache
    if tokens <= free:
        return 0.0
    return max((free - tokens) / cache, -1.0)


def overlong_cache_tokens(overlong_cache: float, max_completion_tokens: int) -> int:
    """Return the tokens over which the punishment falls, at least one."""
    return max(1, int(overlong_cache * max_completion_tokens))


def terminated(completion_ids: Sequence[int], eos_token_ids: Sequence[int]) -> bool:
    """Return whether the model ended the completion itself, rather than the token limit."""
    return bool(completion_ids) and completion_ids[-1] in eos_token_ids


def score_completion(match: float, ended: bool) -> float:
    """Return the reward of one rollout, 0..1: its match, or 0 where it did not end by itself.

    Without the second condition the end of the answer is never rewarded and drifts away while the
    match stays high.
    """
    return match if ended else 0.0


def _contains(completion: str, reference: str) -> bool:
    """Return whether `reference` stands in the text between characters that end a word."""
    pattern = rf"(?<![\w-]){re.escape(reference)}(?![\w-])"
    return re.search(pattern, completion, flags=re.IGNORECASE) is not None


def _last_choice(text: str) -> str | None:
    boxed = [str(box).strip("() ") for box in _BOXED.findall(text)]
    stated = [str(letter) for letter in _LETTER.findall(text)]
    lone = _LONE_LETTER.fullmatch(text)
    found = boxed or ([lone[1]] if lone else stated)
    return found[-1] if found else None


def _as_formula(text: str) -> str:
    return text if "\\boxed" in text or "$" in text else f"${text}$"
