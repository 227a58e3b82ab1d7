"""KeyChain-like multi-hop questions: follow a chain of keys through the context to a value.

Every hop is one line anywhere in the context, and other chains of the same shape surround it, so a
single look-up cannot answer. Keys and values come from the training half.

Source: the idea of LoongRL, arXiv 2510.19363 (chains of UUIDs that hide the real question); text,
keys and sizing are ours.
"""

from itertools import pairwise
from random import Random

from longact_cli.errors import TooShortError
from longact_cli.evaluation.ruler.draft import Draft
from longact_cli.evaluation.ruler.fit import largest, smallest
from longact_cli.evaluation.ruler.generator import RulerSample, RulerSource
from longact_cli.evaluation.ruler.words import Split, draw_number, draw_word

KEYCHAIN = "keychain"
HOPS = 3
ANSWER_TOKENS = 128
_TEMPLATE = (
    "Keys lead to other keys within the following text, and the last key of a chain leads to a "
    "magic number. Make sure to memorize it. I will quiz you about the number afterwards.\n"
    "{context}\n"
    "Start from {start} and follow the keys. What is the magic number at the end of its chain?"
)
_PREFIX = " The magic number at the end of the chain from {start} is"
_HOP = "The key {key} leads to the key {target}."
_END = "The key {key} leads to the magic number {target}."


def keychain_sample(
    task: str, context_length: int, *, index: int, source: RulerSource
) -> RulerSample:
    """Return question number `index`, at most `context_length` tokens with its answer.

    Raises:
        TooShortError: Not even two chains fit.
    """
    draft = keychain_draft(source.stream(task, context_length, index), split=source.split)
    fit = largest(draft, source.frame, budget=context_length - ANSWER_TOKENS)
    if fit is None:
        needed = keychain_shortest(context_length, index=index, source=source)
        raise TooShortError(
            f"{source.lengths_key} is {context_length}; {task} needs about {needed} tokens with "
            "this tokenizer; choose a larger length or leave the task out"
        )
    return RulerSample(
        id=f"{task}/{context_length}/{index}",
        task=task,
        context_length=context_length,
        index=index,
        prompt=fit.prompt,
        references=draft.references,
        prompt_tokens=fit.tokens,
        tokens_to_generate=ANSWER_TOKENS,
        units=fit.units,
    )


def keychain_shortest(context_length: int, *, index: int, source: RulerSource) -> int:
    """Return the tokens of question number `index` with two chains and its whole answer."""
    draft = keychain_draft(source.stream(KEYCHAIN, context_length, index), split=source.split)
    return smallest(draft, source.frame).tokens + ANSWER_TOKENS


def keychain_draft(rng: Random, *, split: Split, hops: int = HOPS) -> Draft:
    """Draw one question: a chain of `hops` keys and its number among other chains.

    A unit of the haystack is one line of another chain.
    """
    chains = _Chains(Random(rng.getrandbits(64)), split=split, hops=hops)
    asked = chains.chain(0)
    order_seed = rng.getrandbits(64)
    start, value = chains.start(0), chains.value(0)

    def unit(number: int) -> str:
        return chains.chain(1 + number // hops)[number % hops]

    def message(units: int) -> str:
        lines = [*asked, *(unit(number) for number in range(units))]
        # Sorting by a key per line keeps the order of the others when a line is added.
        lines.sort(key=lambda line: Random(f"{order_seed}/{line}").random())
        return _TEMPLATE.format(context="\n".join(lines), start=start)

    return Draft(
        minimum=hops,
        unit=unit,
        message=message,
        prefix=_PREFIX.format(start=start),
        references=(value,),
    )


class _Chains:
    """Chains with keys that never repeat, drawn in order and only as far as needed."""

    def __init__(self, rng: Random, *, split: Split, hops: int) -> None:
        self._rng, self._split, self._hops = rng, split, hops
        self._keys: set[str] = set()
        self._made: list[tuple[tuple[str, ...], str]] = []

    def start(self, number: int) -> str:
        """Return the first key of a chain."""
        return self._get(number)[0][0]

    def value(self, number: int) -> str:
        """Return the number at the end of a chain."""
        return self._get(number)[1]

    def chain(self, number: int) -> tuple[str, ...]:
        """Return the lines of a chain from its first key to its number."""
        keys, value = self._get(number)
        hops = [_HOP.format(key=key, target=target) for key, target in pairwise(keys)]
        return (*hops, _END.format(key=keys[-1], target=value))

    def _get(self, number: int) -> tuple[tuple[str, ...], str]:
        while len(self._made) <= number:
            keys = tuple(self._new_key() for _ in range(self._hops))
            self._made.append((keys, draw_number(self._rng, self._split)))
        return self._made[number]

    def _new_key(self) -> str:
        key = draw_word(self._rng, self._split)
        while key in self._keys:
            key = draw_word(self._rng, self._split)
        self._keys.add(key)
        return key
