"""Questions over documents: SQuAD and HotpotQA among documents that do not help.

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/qa.py: question number i of the file, its own
documents first, then the others of its article (SQuAD), then any; their order is shuffled.
Difference: every sample has its own random stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.draft import Draft, Prediction
from longact_cli.evaluation.ruler.frame import PromptFrame
from longact_cli.evaluation.ruler.templates import QA_DOCUMENT, QA_PREFIX, QA_TEMPLATE


class Question(NamedTuple):
    """One question; documents are numbers of the collection."""

    query: str
    answers: tuple[str, ...]
    documents: tuple[int, ...]
    related: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Collection:
    """All questions and documents of one data set."""

    name: str
    questions: tuple[Question, ...]
    documents: tuple[str, ...]


def qa_draft(collection: Collection, index: int, rng: Random) -> Draft:
    """Draw the documents around question number `index`.

    Raises:
        ConfigError: There are not that many questions.
    """
    if index >= len(collection.questions):
        raise ConfigError(
            f"benchmark.limit asks for question {index + 1} of {collection.name}, which has "
            f"{len(collection.questions)}; set benchmark.limit to at most that"
        )
    question = collection.questions[index]
    order = _order(question, len(collection.documents), rng)
    seed = rng.getrandbits(64)
    head, tail = QA_TEMPLATE.format(context="\0", query=question.query).split("\0")

    def document(number: int) -> str:
        place = number if number < len(order) else number - len(order)
        chosen = order[place] if number < len(order) else place % len(collection.documents)
        return collection.documents[chosen]

    def message(count: int) -> str:
        shown = [document(number) for number in range(count)]
        Random(seed).shuffle(shown)
        texts = [QA_DOCUMENT.format(number=i, document=text) for i, text in enumerate(shown, 1)]
        return head + "\n\n".join(texts) + tail

    def measure(frame: PromptFrame, budget: int) -> Prediction | None:
        fixed = frame.opening(frame.surroundings[0] + head)
        count, total = 0, fixed + frame.count(tail.removeprefix("\n\n") + frame.ending(QA_PREFIX))
        while total <= budget:
            tokens, count = total, count + 1
            header = QA_DOCUMENT.format(number=count, document="")
            total += sum(frame.counts([header, f"{document(count - 1)}\n\n"]))
        fitting = count - 1
        return Prediction(fitting, tokens) if fitting >= len(question.documents) else None

    return Draft(
        minimum=len(question.documents),
        message=message,
        prefix=QA_PREFIX,
        references=question.answers,
        measure=measure,
    )


def _order(question: Question, documents: int, rng: Random) -> Sequence[int]:
    """Return all documents, those that come into the prompt first at the front."""
    known = {*question.documents, *question.related}
    others = [number for number in range(documents) if number not in known]
    related = list(question.related)
    rng.shuffle(related)
    rng.shuffle(others)
    return (*question.documents, *related, *others)
