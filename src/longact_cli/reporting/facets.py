"""How each benchmark is split into columns: which questions of it make up which number."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from longact_cli.reporting.arms import Arm, Part

LONGBENCH, RULER, INFINITEBENCH = "longbench-v2", "ruler", "infinitebench"
_INFINITEBENCH_TASKS = {
    "passkey": "Retrieve.PassKey",
    "number_string": "Retrieve.Number",
    "kv_retrieval": "Retrieve.KV",
    "longbook_sum_eng": "En.Sum",
    "longbook_qa_eng": "En.QA",
    "longbook_choice_eng": "En.MC",
    "longdialogue_qa_eng": "En.Dia",
    "longbook_qa_chn": "Zh.QA",
    "code_debug": "Code.Debug",
    "code_run": "Code.Run",
    "math_calc": "Math.Calc",
    "math_find": "Math.Find",
}


class Facet(NamedTuple):
    """One number of a benchmark; `part` is None for the number over all questions."""

    key: str
    title: str
    part: Part | None


@cache
def longbench_facets() -> tuple[Facet, ...]:
    """Return the official columns of LongBench v2."""
    return (
        Facet("overall", "Overall", None),
        *(_facet(name, _difficulty_part(name)) for name in ("easy", "hard")),
        *(_facet(name, task_part(name)) for name in ("short", "medium", "long")),
    )


def _difficulty_part(name: str) -> Part:
    return lambda question: question.difficulty == name


def _facet(name: str, part: Part) -> Facet:
    return Facet(name, name.capitalize(), part)


@cache
def infinitebench_facets() -> tuple[Facet, ...]:
    """Return InfiniteBench's twelve tasks in the order of its paper, then their average."""
    tasks = (Facet(name, title, task_part(name)) for name, title in _INFINITEBENCH_TASKS.items())
    return (*tasks, Facet("average", "Average", None))


@cache
def task_part(task: str) -> Part:
    """Return the questions of one task at all lengths."""
    return lambda question: question.task == task


@cache
def length_part(length: int, task: str | None = None) -> Part:
    """Return the questions at one context length, of one task or of all."""
    return lambda question: question.context_length == length and task in (None, question.task)


def tasks_of(arms: Sequence[Arm]) -> tuple[str, ...]:
    """Return every task that was asked, sorted."""
    return tuple(sorted({question.task for arm in arms for question in arm.questions}))


def lengths_of(arms: Sequence[Arm]) -> tuple[int, ...]:
    """Return every context length that was asked, sorted."""
    return tuple(sorted({question.context_length for arm in arms for question in arm.questions}))
