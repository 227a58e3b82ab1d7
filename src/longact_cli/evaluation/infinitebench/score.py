"""InfiniteBench's scorers, as published in June and as changed in August 2024.

Source: OpenBMB/InfiniteBench, src/compute_scores.py: 88b3daa (2024-06, the numbers of its README),
and after pull request 22 and issue 18 (2024-08). They differ in Code.Debug, En.MC, En.Dia and in
lists as labels of Retrieve.KV. Where the official code stops with an error (a decimal answer to an
integer question of Math.Find), the answer is wrong here.
"""

import re
from collections.abc import Callable
from typing import Literal

from longact_cli.evaluation.benchmark import SampleScore
from longact_cli.evaluation.infinitebench import labels
from longact_cli.evaluation.infinitebench.choice import (
    WRONG,
    choice_2024_06,
    choice_2024_08,
    debug_2024_06,
    debug_2024_08,
)
from longact_cli.evaluation.infinitebench.text import (
    best_f1,
    best_rouge_lsum,
    chinese_tokens,
    english_tokens,
)
from longact_cli.registry import unknown_name

Scorer = Literal["2024-06", "2024-08"]

SCORERS: tuple[Scorer, ...] = ("2024-06", "2024-08")

_DIGITS = re.compile("[0-9]+")
_NUMBER = re.compile(r"\d+\.\d+|\d+")
_WORD_MARKS = str.maketrans(dict.fromkeys("\n:\"'.,?!{}", " "))
_RUN_MARKS = str.maketrans(dict.fromkeys("\n.`'\":", " "))
_OFFSET_MODEL = "gpt4"
"""The model whose answers to Math.Calc begin with one value too many."""


def score_completion(
    task: str, completion: str, label: object, *, scorer: Scorer, model: str = ""
) -> SampleScore:
    """Score one completion in 0..1.

    Args:
        task: A key of `METRICS`.
        completion: The model's answer, unchanged.
        label: As the data set has it: a text, a number, or a list of either.
        scorer: Which version of the rules.
        model: `gpt4` drops the first value of a Math.Calc answer; any other name changes nothing.

    Raises:
        UnknownNameError: There is no such task.
        ValueError: The label has no form that the task can use.
    """
    if task == "math_calc":
        return _math_calc(completion, label, skip=int(model == _OFFSET_MODEL))
    if task not in _RULES:
        raise unknown_name("task", task, METRICS)
    rule = _CHANGED_2024_08.get(task, _RULES[task]) if scorer == "2024-08" else _RULES[task]
    return rule(completion, label)


def _first_digits(completion: str, label: object) -> SampleScore:
    found = _DIGITS.search(completion)
    digits = found.group() if found else ""
    return SampleScore(float(labels.first_text(label) == digits), digits or None)


def _kv_2024_06(completion: str, label: object) -> SampleScore:
    """A list never matches here: the official code compares the list itself with words."""
    return _kv(completion, label) if not isinstance(label, list | tuple) else WRONG


def _kv(completion: str, label: object) -> SampleScore:
    value = labels.first_text(label)
    found = value in completion.translate(_WORD_MARKS).split()
    return SampleScore(1.0, value) if found else WRONG


def _dialogue_2024_06(completion: str, label: object) -> SampleScore:
    """Only the first name counts, and only as one upper-cased word."""
    name = labels.texts(label)[0]
    words = [word.upper() for word in completion.translate(_WORD_MARKS).split()]
    return SampleScore(1.0, name) if name in words else WRONG


def _dialogue_2024_08(completion: str, label: object) -> SampleScore:
    text = completion.strip().upper()
    found = next((name for name in labels.texts(label) if name.upper() in text), None)
    return WRONG if found is None else SampleScore(1.0, found)


def _code_run(completion: str, label: object) -> SampleScore:
    expected = labels.number(label)
    words = completion.translate(_RUN_MARKS).split()
    value = _integer(words[-1]) if words else None
    return WRONG if value is None else SampleScore(float(value == expected), words[-1])


def _math_find(completion: str, label: object) -> SampleScore:
    expected = labels.number(label)
    found = _NUMBER.search(completion)
    if found is None:
        return WRONG
    text = found.group()
    value = float(text) if isinstance(expected, float) else _integer(text)
    return SampleScore(float(value == expected), text)


def _math_calc(completion: str, label: object, *, skip: int) -> SampleScore:
    """Return the share of leading values that are right; signs are not read."""
    expected = labels.numbers(label)
    values = [_integer(digits) for digits in _DIGITS.findall(completion)][skip:]
    right = 0
    for wanted, value in zip(expected, values, strict=False):
        if value != wanted:
            break
        right += 1
    return SampleScore(right / len(expected), f"{len(values)} values" if values else None)


def _integer(text: str) -> int | None:
    """Read an integer as Python does; None where it cannot (or has thousands of digits)."""
    try:
        return int(text)
    except ValueError:
        return None


def _english_f1(completion: str, label: object) -> SampleScore:
    tokens = english_tokens(completion)
    score = best_f1(tokens, [english_tokens(text) for text in labels.texts(label)])
    return SampleScore(score, " ".join(tokens) or None)


def _chinese_f1(completion: str, label: object) -> SampleScore:
    tokens = chinese_tokens(completion)
    score = best_f1(tokens, [chinese_tokens(text) for text in labels.texts(label)])
    return SampleScore(score, "".join(tokens) or None)


def _summary(completion: str, label: object) -> SampleScore:
    return SampleScore(best_rouge_lsum(completion, labels.texts(label)), completion.strip() or None)


_RULES: dict[str, Callable[[str, object], SampleScore]] = {
    "passkey": _first_digits,
    "number_string": _first_digits,
    "kv_retrieval": _kv_2024_06,
    "longdialogue_qa_eng": _dialogue_2024_06,
    "longbook_sum_eng": _summary,
    "longbook_choice_eng": lambda text, label: choice_2024_06(text, labels.texts(label)),
    "longbook_qa_eng": _english_f1,
    "longbook_qa_chn": _chinese_f1,
    "math_find": _math_find,
    "code_run": _code_run,
    "code_debug": lambda text, label: debug_2024_06(text, labels.option(label)),
}
_CHANGED_2024_08: dict[str, Callable[[str, object], SampleScore]] = {
    "kv_retrieval": _kv,
    "longdialogue_qa_eng": _dialogue_2024_08,
    "longbook_choice_eng": lambda text, label: choice_2024_08(text, labels.texts(label)),
    "code_debug": lambda text, label: debug_2024_08(text, labels.option(label)),
}

METRICS: dict[str, str] = {
    **dict.fromkeys(_RULES, "accuracy"),
    "longbook_sum_eng": "rouge_lsum",
    "longbook_qa_eng": "f1",
    "longbook_qa_chn": "f1",
    "math_calc": "leading_values",
}
"""The metric of every task, in the official order of tasks."""
