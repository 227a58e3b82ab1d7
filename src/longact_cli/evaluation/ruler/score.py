"""RULER's scorer: which share of the references does the completion contain?

Source: NVIDIA/RULER c3f5e3b, scripts/eval/evaluate.py (`postprocess_pred`) and
scripts/eval/synthetic/constants.py (`string_match_all`, `string_match_part`). The official score is
a percentage rounded to two decimals; here it is a fraction and not rounded.
"""

import re
from collections.abc import Sequence

METRIC = "string_match_all"
METRIC_ANY = "string_match_part"
SCORER_VERSION = "ruler-c3f5e3b"

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f]")


def clean_completion(completion: str) -> str:
    """Strip blanks and turn every control character into a newline, as the official scorer does."""
    return _CONTROL_CHARACTERS.sub("\n", completion.strip()).strip()


def string_match_all(completion: str, references: Sequence[str]) -> float:
    """Return the share of references that occur in the completion, ignoring case, in 0..1.

    Raises:
        ValueError: There are no references to look for.
    """
    if not references:
        raise ValueError("string_match_all needs at least one reference")
    text = clean_completion(completion).lower()
    return sum(reference.lower() in text for reference in references) / len(references)


def string_match_any(completion: str, references: Sequence[str]) -> float:
    """Return 1 where any reference occurs in the completion, ignoring case, else 0.

    Raises:
        ValueError: There are no references to look for.
    """
    if not references:
        raise ValueError("string_match_any needs at least one reference")
    text = clean_completion(completion).lower()
    return float(any(reference.lower() in text for reference in references))
