"""Fill LongBench v2's prompts the official way."""

from typing import Literal, NamedTuple

from longact_cli.evaluation.longbench_v2 import templates

Variant = Literal["zero-shot", "cot", "no-context"]

_FIRST_QUESTION: dict[Variant, str] = {
    "zero-shot": templates.ZERO_SHOT,
    "cot": templates.COT,
    "no-context": templates.NO_CONTEXT,
}


class Item(NamedTuple):
    """One row of the data set; field names are the official ones without the underscore of `_id`.

    `choices` are A to D; `answer` is one of these letters.
    """

    id: str
    domain: str
    sub_domain: str
    difficulty: str
    length: str
    question: str
    choices: tuple[str, str, str, str]
    answer: str
    context: str


def question_prompt(item: Item, variant: Variant) -> str:
    """Return the user message that asks the question (for `cot`: the first of two)."""
    return _fill(_FIRST_QUESTION[variant], item)


def cot_answer_prompt(item: Item, thoughts: str) -> str:
    """Return the second message of `cot`: the thoughts are pasted, the document is left out."""
    return _fill(templates.COT_ANSWER, item).replace("$COT$", thoughts.strip())


def _fill(template: str, item: Item) -> str:
    """Replace the placeholders one after another, as the official code does.

    A placeholder's text inside an earlier field (the document, say) is therefore replaced too.
    """
    filled = template
    for placeholder, text in (
        ("$DOC$", item.context),
        ("$Q$", item.question),
        *((f"$C_{letter}$", text) for letter, text in zip("ABCD", item.choices, strict=True)),
    ):
        filled = filled.replace(placeholder, text.strip())
    return filled
