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


class NiahTask(NamedTuple):
    """A needle-in-a-haystack task: where the needles hide and what they are made of."""

    haystack: Literal["noise", "needle"]
    key_kind: Literal["words", "uuids"]
    value_kind: Literal["numbers", "uuids"]
    tokens_to_generate: int = 128


class VtTask(NamedTuple):
    """A variable-tracking task: chains of assignments in noise."""

    num_chains: int = 1
    num_hops: int = 4
    tokens_to_generate: int = 30


TASKS: dict[str, NiahTask | VtTask] = {
    "niah_single_1": NiahTask("noise", "words", "numbers"),
    "niah_multikey_2": NiahTask("needle", "words", "numbers"),
    "niah_multikey_3": NiahTask("needle", "uuids", "uuids"),
    "vt": VtTask(),
}
