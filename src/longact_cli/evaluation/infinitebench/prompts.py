"""Build InfiniteBench's prompts.

Source: OpenBMB/InfiniteBench 88b3daa, src/eval_utils.py (`create_prompt`, `create_msgs`,
`get_answer`). Kimi got its documents as uploaded files (`{file:...}` and `{fcontext}` in its
templates, which the official code cannot fill); here the text stands in their place.
"""

import re
from typing import NamedTuple

from longact_cli.evaluation.infinitebench.tasks import Family
from longact_cli.evaluation.infinitebench.templates import (
    ASSISTANT,
    CALCULATOR,
    CALCULATOR_EXAMPLE,
    TEMPLATES,
)
from longact_cli.evaluation.prompt_fit import Message

WITH_OPTIONS = ("code_debug", "longbook_choice_eng")

_UPLOAD = re.compile(r"\{file:\{(?:context|document)\}\}|\{fcontext\}")
_CALL = re.compile(r"func_[0-9]+\(-?[0-9]+\)")
_TARGET = re.compile("The .+ of")


class Row(NamedTuple):
    """One row of the data set; `answer` holds texts or numbers, `options` four texts or none."""

    id: str
    context: str
    input: str
    answer: tuple[str | int | float, ...]
    options: tuple[str, ...]


def prompt_text(task: str, row: Row, family: Family) -> str:
    """Return the message that is cut to the budget and then asked.

    Raises:
        ValueError: The row lacks what the task's template needs.
    """
    if family == "gpt4" and task == "math_calc":
        return row.context
    template = _UPLOAD.sub("{context}", TEMPLATES[family][task])
    fields = {"context": row.context, "input": row.input, "question": row.input}
    return template.format(**fields, **_extra_fields(task, row))


def _extra_fields(task: str, row: Row) -> dict[str, str]:
    if task == "code_run":
        call = _CALL.search(row.input)
        if call is None:
            raise ValueError("its input names no function call")
        return {"func": call.group().split("(")[0], "func_call": call.group()}
    if task == "math_find":
        target = _TARGET.search(row.input)
        if target is None:
            raise ValueError("its input does not say which number to find")
        return {"prefix": f"What is {target.group().lower()[:-3]} in the following list?"}
    if task in WITH_OPTIONS:
        if len(row.options) != len("ABCD"):
            raise ValueError(f"it has {len(row.options)} options instead of 4")
        return {f"OPTION_{x}": text for x, text in zip("ABCD", row.options, strict=True)}
    return {}


def chat(task: str, text: str, family: Family) -> tuple[Message, ...]:
    """Return the whole chat around the (cut) message: only `gpt4` has more than that message."""
    question = Message("user", text)
    if family != "gpt4":
        return (question,)
    if task != "math_calc":
        return (Message("system", ASSISTANT), question)
    asked, answered = CALCULATOR_EXAMPLE
    return (
        Message("system", CALCULATOR),
        Message("user", asked),
        Message("system", answered),
        question,
    )


def label(task: str, row: Row) -> tuple[str, ...]:
    """Return the reference texts; for a choice: the right option and its letter.

    Raises:
        ValueError: The answer is none of the options.
    """
    texts = tuple(str(value) for value in row.answer)
    if task not in WITH_OPTIONS:
        return texts
    if len(texts) == 2 and texts[1] in tuple("ABCD"):
        return texts
    if len(texts) != 1 or texts[0] not in row.options:
        raise ValueError("its answer is none of its options")
    return texts[0], "ABCD"[row.options.index(texts[0])]
