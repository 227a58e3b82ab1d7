"""Which option does a completion choose? Code.Debug and En.MC, in both official versions.

Source: OpenBMB/InfiniteBench, src/compute_scores.py (`get_score_one_code_debug`,
`get_score_one_longbook_choice_eng`): 88b3daa (2024-06), and after pull request 22 (2024-08). The
order of the rules matters; every rule and quirk is kept.
"""

import re
from collections.abc import Sequence

from longact_cli.evaluation.benchmark import SampleScore

WRONG = SampleScore(0.0, None)

_DEBUG_MARKS = ("\n", "`", "'", '"', "-", "*", "Option", "option")
_CHOICE_MARKS = ("\n", '"', "'", ".", ",", "?", "!", "{", "}")
_DEBUG_LEADS = ("answer is:", "is:", "answer:", "correct option is:")
_CHOICE_LEADS = ("answer is:", "answer:", "answer is", "option is")
_OPTIONS = "ABCD"

# The last lone letter of the first line that has one: `.` stops at the end of a line.
_LONE_A_TO_J = re.compile(r"\b[A-J]\b(?!.*\b[A-J]\b)")
_LONE_A_TO_D = re.compile(r"\b[A-D]\b(?!.*\b[A-D]\b)")


def debug_2024_06(completion: str, label: tuple[str, str]) -> SampleScore:
    """Score Code.Debug: `X.` or `X:` at the very start, else what follows an answer phrase."""
    function, letter = label
    text = completion.strip()
    if text[:2] in (f"{letter}.", f"{letter}:"):
        return SampleScore(1.0, letter)
    return _by_lead(_blanked(text, _DEBUG_MARKS), _DEBUG_LEADS, labels=(letter, function))


def debug_2024_08(completion: str, label: tuple[str, str]) -> SampleScore:
    """Score Code.Debug: a lone letter A-J, else the start of the text, else an answer phrase."""
    function, letter = label
    text = completion.strip()
    lone = _LONE_A_TO_J.search(text)
    if lone and lone.group() == letter:
        return SampleScore(1.0, letter)
    text = _blanked(text, _DEBUG_MARKS)
    if text.startswith((letter, function)):
        return SampleScore(1.0, letter)
    verdict = _by_lead(text, _DEBUG_LEADS, labels=(letter, function))
    return verdict if verdict.score or not lone else SampleScore(0.0, lone.group())


def choice_2024_06(completion: str, labels: Sequence[str]) -> SampleScore:
    """Score En.MC: the first character, else the whole text, else a phrase, else the first word.

    The last rule takes the first word that is a part of `ABCD`, `BC` for one.
    """
    text = completion.strip()
    if not text:
        return WRONG
    if text[0] in _OPTIONS:
        return SampleScore(float(text[0] in labels), text[0])
    if text in labels:
        return SampleScore(1.0, text)
    text = _blanked(text, _CHOICE_MARKS)
    if any(lead in text for lead in _CHOICE_LEADS):
        return _by_lead(text, _CHOICE_LEADS, labels=labels)
    word = next((word for word in text.split() if word in _OPTIONS), None)
    return SampleScore(float(word in labels), word)


def choice_2024_08(completion: str, labels: Sequence[str]) -> SampleScore:
    """Score En.MC: right if the lone letter A-D is right, else as in 2024-06."""
    lone = _LONE_A_TO_D.search(completion.strip())
    if lone and lone.group() in labels:
        return SampleScore(1.0, lone.group())
    return choice_2024_06(completion, labels)


def _blanked(text: str, marks: Sequence[str]) -> str:
    """Turn marks into blanks and runs of blanks into one."""
    for mark in marks:
        text = text.replace(mark, " ")
    return re.sub(" +", " ", text)


def _by_lead(text: str, leads: Sequence[str], *, labels: Sequence[str]) -> SampleScore:
    """Look only behind the first phrase of the list that occurs, one character later."""
    for lead in leads:
        _before, found, after = text.partition(lead)
        if found:
            answer = after[1:]
            right = any(label and answer.startswith(label) for label in labels)
            return SampleScore(
                float(right), answer.split(maxsplit=1)[0] if answer.strip() else None
            )
    return WRONG
