"""Needle-in-a-haystack questions: one magic value hidden in noise or among other needles.

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/niah.py. Differences: every sample has its own
random stream, and no key occurs twice (the official code leaves that to chance).
"""

from random import Random

from longact_cli.evaluation.ruler.draft import Draft
from longact_cli.evaluation.ruler.templates import (
    NEEDLE,
    NIAH_SINGLE_PREFIX,
    NIAH_SINGLE_TEMPLATE,
    NOISE,
    NiahTask,
)
from longact_cli.evaluation.ruler.words import Split, draw_number, draw_uuid, draw_word


def niah_draft(task: NiahTask, rng: Random, *, split: Split) -> Draft:
    """Draw one question: a key, its value, and a haystack that can grow."""
    key, value = draw_key(task, rng, split=split), draw_value(task, rng, split=split)
    others = OtherNeedles(task, Random(rng.getrandbits(64)), split=split, taken=key)
    position_seed = rng.getrandbits(64)
    kind = task.value_kind.removesuffix("s")

    def unit(number: int) -> str:
        return NOISE if task.haystack == "noise" else others.line(number)

    def message(units: int) -> str:
        lines = [unit(number) for number in range(units)]
        position = Random(position_seed).sample(range(units), 1)[0]
        lines.insert(position, NEEDLE.format(kind=task.value_kind, key=key, value=value))
        return NIAH_SINGLE_TEMPLATE.format(kind=kind, context="\n".join(lines), query=key)

    return Draft(
        minimum=1,
        unit=unit,
        message=message,
        prefix=NIAH_SINGLE_PREFIX.format(kind=kind, query=key),
        references=(value,),
    )


class OtherNeedles:
    """The needles nobody asks for, drawn in order and only as far as they are needed."""

    def __init__(self, task: NiahTask, rng: Random, *, split: Split, taken: str) -> None:
        """Start an empty haystack; `taken` is the key of the needle that is asked for."""
        self._task, self._rng, self._split = task, rng, split
        self._keys = {taken}
        self._lines: list[str] = []

    def line(self, number: int) -> str:
        """Return the needle at this place; its key differs from all other keys."""
        while len(self._lines) <= number:
            self._lines.append(self._next())
        return self._lines[number]

    def _next(self) -> str:
        key = draw_key(self._task, self._rng, split=self._split)
        while key in self._keys:
            key = draw_key(self._task, self._rng, split=self._split)
        self._keys.add(key)
        value = draw_value(self._task, self._rng, split=self._split)
        return NEEDLE.format(kind=self._task.value_kind, key=key, value=value)


def draw_key(task: NiahTask, rng: Random, *, split: Split) -> str:
    """Draw a key of the task's kind."""
    return draw_word(rng, split) if task.key_kind == "words" else draw_uuid(rng, split)


def draw_value(task: NiahTask, rng: Random, *, split: Split) -> str:
    """Draw a value of the task's kind."""
    return draw_number(rng, split) if task.value_kind == "numbers" else draw_uuid(rng, split)
