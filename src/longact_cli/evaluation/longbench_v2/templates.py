"""LongBench v2's prompts and limits: protocol data, word for word.

Source: THUDM/LongBench 2e00731, prompts/*.txt, pred.py and config/model2maxlen.json (MIT).
"""

# ruff: noqa: RUF001 - the official prompts have a curly apostrophe

ZERO_SHOT = """Please read the following text and answer the question below.

<text>
$DOC$
</text>

What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

Format your response as follows: "The correct answer is (insert answer here)"."""

COT = """Please read the following text and answer the questions below.

<text>
$DOC$
</text>

What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

Let’s think step by step:"""

COT_ANSWER = """Please read the following text and answer the questions below.

The text is too long and omitted here.

What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

Let’s think step by step: $COT$

Based on the above, what is the single, most likely answer choice? Format your response as follows: "The correct answer is (insert answer here)"."""  # noqa: E501 - word for word

NO_CONTEXT = """What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

What is the single, most likely answer choice? Format your response as follows: "The correct answer is (insert answer here)"."""  # noqa: E501 - word for word

ANSWER_TOKENS, THOUGHT_TOKENS = 128, 1024
"""Tokens to generate for an answer, and for the chain of thought before it."""

TEMPERATURE = 0.1
MAX_PROMPT_TOKENS = 120_000
"""Budget of the whole prompt for every open model, Qwen included."""
