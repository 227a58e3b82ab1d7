"""Which questions go to the backend together, and in which order."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from longact_cli.evaluation.benchmark import Sample


class Question(NamedTuple):
    """What is asked now about a sample: the sample itself, or the question that follows it."""

    sample: Sample
    asked: Sample


def plan_batches(questions: Sequence[Question], *, batch_size: int) -> Iterator[list[Question]]:
    """Group questions of like length and equal generation settings, the longest prompts first.

    A batch that does not fit into memory thus fails at once and not after hours. Samples of one
    group follow each other, so that a prefix cache still holds what they share.
    """
    longest: dict[str, int] = {}
    for _, asked in questions:
        group = asked.group or asked.id
        longest[group] = max(longest.get(group, 0), asked.prompt_tokens)

    def settings(question: Question) -> tuple[int, float, tuple[str, ...], tuple[str, ...]]:
        asked = question.asked
        return (-asked.tokens_to_generate, asked.temperature, asked.stop, asked.choices)

    def key(question: Question) -> tuple[object, ...]:
        asked = question.asked
        group = asked.group or asked.id
        order = (-longest[group], group if asked.group else "", -asked.prompt_tokens, asked.id)
        return (*settings(question), *order)

    waiting: list[Question] = []
    for question in sorted(questions, key=key):
        if waiting and (len(waiting) == batch_size or settings(waiting[0]) != settings(question)):
            yield waiting
            waiting = []
        waiting.append(question)
    if waiting:
        yield waiting
