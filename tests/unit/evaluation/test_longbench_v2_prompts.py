import hashlib

import pytest

from longact_cli.evaluation.longbench_v2 import templates
from longact_cli.evaluation.longbench_v2.prompts import Item, cot_answer_prompt, question_prompt

ITEM = Item(
    id="1",
    domain="Code",
    sub_domain="x",
    difficulty="easy",
    length="short",
    question="  Which?\n",
    choices=(" one", "two ", "three", "four"),
    answer="A",
    context="\n\nThe document. ",
)

# MD5 of the files in prompts/ of THUDM/LongBench at 2e00731.
OFFICIAL_MD5 = {
    "ZERO_SHOT": "f1b4ff43eddf825879aa59b30cdde4fc",
    "COT": "2bf5c54201cc61aa329a3dc8f8f2e95c",
    "COT_ANSWER": "6d9684822ecf99d159c149e6c0fee8d7",
    "NO_CONTEXT": "367024be608e6b2b12513ee295d3d344",
}


@pytest.mark.parametrize(("name", "digest"), OFFICIAL_MD5.items())
def test_templates_are_the_official_files_byte_for_byte(name, digest):
    text = getattr(templates, name)
    assert hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == digest


def test_fields_are_stripped_and_filled_in():
    assert question_prompt(ITEM, "zero-shot") == (
        "Please read the following text and answer the question below.\n\n"
        "<text>\nThe document.\n</text>\n\n"
        "What is the correct answer to this question: Which?\n"
        "Choices:\n(A) one\n(B) two\n(C) three\n(D) four\n\n"
        'Format your response as follows: "The correct answer is (insert answer here)".'
    )


def test_a_placeholder_inside_an_earlier_field_is_replaced_too():
    item = ITEM._replace(
        context="cost: $Q$ and $C_B$", question="Is it $C_A$?", choices=("$DOC$", "b", "$Q$", "d")
    )
    prompt = question_prompt(item, "zero-shot")
    assert "cost: Is it $DOC$? and b" in prompt
    assert "(A) $DOC$" in prompt  # the document was filled in before
    assert "(C) $Q$" in prompt


def test_without_context_the_document_is_absent():
    prompt = question_prompt(ITEM, "no-context")
    assert "The document." not in prompt
    assert prompt.startswith(
        "What is the correct answer to this question: Which?\nChoices:\n(A) one"
    )


def test_the_second_call_pastes_the_stripped_thoughts_and_leaves_the_document_out():
    prompt = cot_answer_prompt(ITEM, "  First, $Q$ matters.\n")
    assert "The text is too long and omitted here." in prompt
    assert "step by step: First, $Q$ matters.\n\nBased on the above" in prompt
    assert "The document." not in prompt
