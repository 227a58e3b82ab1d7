"""RULER's prompt templates: protocol data, word for word.

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/constants.py and scripts/synthetic.yaml
(Apache-2.0).
"""

from typing import Literal, NamedTuple

NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

NIAH_TEMPLATE = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n{context}\n"
    "What are all the special magic {kind} for {query} mentioned in the provided text?"
)
NIAH_PREFIX = " The special magic {kind} for {query} mentioned in the provided text are"
NIAH_SINGLE_TEMPLATE = (
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.\n{context}\n"
    "What is the special magic {kind} for {query} mentioned in the provided text?"
)
NIAH_SINGLE_PREFIX = " The special magic {kind} for {query} mentioned in the provided text is"

VT_TEMPLATE = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
    "{context}\n"
    "Question: Find all variables that are assigned the value {query} in the text above."
)
VT_PREFIX = (
    " Answer: According to the chain(s) of variable assignment in the text above, "
    "{num_v} variables are assigned the value {query}, they are: "
)


CWE_TEMPLATE = (
    "Below is a numbered list of words. In these words, some appear more often than others. "
    "Memorize the ones that appear most often.\n{context}\n"
    "Question: What are the 10 most common words in the above list?"
)
CWE_PREFIX = " Answer: The top 10 words that appear most often in the list are:"

FWE_TEMPLATE = (
    "Read the following coded text and track the frequency of each coded word. "
    "Find the three most frequently appeared coded words. {context}\n"
    "Question: Do not provide any explanation. Please ignore the dots '....'. "
    "What are the three most frequently appeared words in the above coded text?"
)
FWE_PREFIX = (
    " Answer: According to the coded text above, the three most frequently appeared words are:"
)

QA_TEMPLATE = (
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words.\n\nThe following are given documents.\n\n{context}\n\n"
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words.\n\nQuestion: {query}"
)
QA_PREFIX = " Answer:"
QA_DOCUMENT = "Document {number}:\n{document}"


class NiahTask(NamedTuple):
    """A needle-in-a-haystack task: where the needles hide and what they are made of."""

    haystack: Literal["noise", "needle", "essay"]
    key_kind: Literal["words", "uuids"]
    value_kind: Literal["numbers", "uuids"]
    tokens_to_generate: int = 128
    keys: int = 1
    values: int = 1
    """Values of each key."""
    queries: int = 1
    """Keys that are asked for."""


class VtTask(NamedTuple):
    """A variable-tracking task: chains of assignments in noise."""

    num_chains: int = 1
    num_hops: int = 4
    tokens_to_generate: int = 30


class CweTask(NamedTuple):
    """Common words: ten words of a list occur more often than all others."""

    tokens_to_generate: int = 120


class FweTask(NamedTuple):
    """Frequent words: coded words whose counts follow a zeta distribution."""

    tokens_to_generate: int = 50


class QaTask(NamedTuple):
    """A real question whose documents hide among others."""

    data: Literal["squad", "hotpotqa"]
    tokens_to_generate: int = 32


RulerTask = NiahTask | VtTask | CweTask | FweTask | QaTask

TASKS: dict[str, RulerTask] = {
    "niah_single_1": NiahTask("noise", "words", "numbers"),
    "niah_single_2": NiahTask("essay", "words", "numbers"),
    "niah_single_3": NiahTask("essay", "words", "uuids"),
    "niah_multikey_1": NiahTask("essay", "words", "numbers", keys=4),
    "niah_multikey_2": NiahTask("needle", "words", "numbers"),
    "niah_multikey_3": NiahTask("needle", "uuids", "uuids"),
    "niah_multivalue": NiahTask("essay", "words", "numbers", values=4),
    "niah_multiquery": NiahTask("essay", "words", "numbers", keys=4, queries=4),
    "vt": VtTask(),
    "cwe": CweTask(),
    "fwe": FweTask(),
    "qa_1": QaTask("squad"),
    "qa_2": QaTask("hotpotqa"),
}
