"""Seeded training text for the micro model: copying, recall and needle questions.

A sample is one context with many questions after it, so that nearly every row of a batch carries
several supervised answers. Keys come from the training half only. Lengths are budgets in tokens;
the constants below are what the pieces cost with the micro tokenizer.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from longact_cli.evaluation.ruler import templates
from longact_cli.evaluation.ruler.words import draw_number, draw_word, word_list
from longact_cli.training.micro.tokenizer import TURN_END, TURN_START

RECENCY_BIAS = 0.6
"""Share of chat demonstrations that name the last number of the text, right or wrong."""

_NEEDLE_TOKENS = 24
_NOISE_TOKENS = 24
_PAIR_TOKENS = 17
_NUMBER_TOKENS = 8
_KEY_TOKENS = 6
_INTRODUCTION_TOKENS = 30
_SHORT_QUESTION_TOKENS = 26
_FULL_QUESTION_TOKENS = 44
_TURN_TOKENS = 54


def draw_key(rng: random.Random) -> str:
    """Draw an `adjective-noun` key from the half that evaluation never uses."""
    return draw_word(rng, "train")


def draw_value(rng: random.Random) -> str:
    """Draw a seven-digit number from the half that evaluation never uses."""
    return draw_number(rng, "train")


class Segment(NamedTuple):
    """A piece of text; `answer` = it can be derived from what precedes it and is supervised."""

    text: str
    answer: bool


Sample = tuple[Segment, ...]
Draw = Callable[[random.Random, int, int], Sample]


class _Context(NamedTuple):
    """A haystack, the (key, value) pairs to ask for in order, and the value nearest the end."""

    text: str
    asked: tuple[tuple[str, str], ...]
    last_value: str


def _needle(key: str, value: str) -> str:
    return templates.NEEDLE.format(kind="numbers", key=key, value=value)


def _filler(rng: random.Random, count: int) -> list[str]:
    """Mostly RULER's noise line; a quarter of the time word salad, so that noise is not a cue."""
    if rng.random() < 0.75:
        return [templates.NOISE] * count
    words = word_list("nounlist.txt")
    return [" ".join(rng.choices(words, k=9)).capitalize() + "." for _ in range(count)]


def _haystack(rng: random.Random, tokens: int, *, max_keys: int, question_cost: int) -> _Context:
    """Hide needles, leave room for questions about as many of them as fit, fill up with noise.

    A third of the contexts hold as many needles as allowed, like niah_multikey_2; a third have less
    filler than there is room for, so that the distance to the needle varies.
    """
    fit = max(1, (tokens - question_cost) // _NEEDLE_TOKENS)
    count = min(max_keys if rng.random() < 0.35 else rng.randint(1, max_keys), fit)
    left = tokens - count * _NEEDLE_TOKENS
    asked = max(1, min(count, left // question_cost))
    noise = max(0, (left - asked * question_cost) // _NOISE_TOKENS)
    if rng.random() < 0.35:
        noise = rng.randint(0, noise)
    pairs = tuple((draw_key(rng), draw_value(rng)) for _ in range(count))
    sentences = _filler(rng, noise)
    values: list[str | None] = [None] * noise
    for key, value in pairs:
        place = rng.randint(0, len(sentences))
        sentences.insert(place, _needle(key, value))
        values.insert(place, value)
    last_value = [value for value in values if value is not None][-1]
    return _Context("\n".join(sentences), tuple(rng.sample(pairs, asked)), last_value)


def copied_list(rng: random.Random, tokens: int, max_keys: int) -> Sample:
    """A list of numbers, keys or pairs, then the same list again from some item on."""
    del max_keys
    makers: tuple[tuple[int, Callable[[], str]], ...] = (
        (_NUMBER_TOKENS, lambda: draw_value(rng)),
        (_KEY_TOKENS, lambda: draw_key(rng)),
        (_PAIR_TOKENS, lambda: f"{draw_key(rng)} is: {draw_value(rng)}."),
    )
    cost, make = rng.choice(makers)
    items = [make() for _ in range(max(2, tokens // 2 // cost))]
    start = rng.randint(0, max(0, len(items) - 3))
    shown = " " + " ".join(items) + "\n " + items[start]
    return Segment(shown, answer=False), Segment(" " + " ".join(items[start + 1 :]), answer=True)


def pairs_recall(rng: random.Random, tokens: int, max_keys: int) -> Sample:
    """`key is: value.` pairs, then keys again in another order, each followed by its value."""
    count = min(rng.randint(1, max_keys), max(1, tokens // 2 // _PAIR_TOKENS))
    pairs = [(draw_key(rng), draw_value(rng)) for _ in range(count)]
    segments = [Segment("".join(f" {k} is: {v}." for k, v in pairs) + "\n", answer=False)]
    asked = max(1, (tokens - len(pairs) * _PAIR_TOKENS) // _PAIR_TOKENS)
    for key, value in rng.sample(pairs, min(asked, len(pairs))):
        segments += [Segment(f" {key} is:", answer=False), Segment(f" {value}.", answer=True)]
    return tuple(segments)


def needle_recall(rng: random.Random, tokens: int, max_keys: int) -> Sample:
    """Needles in noise, then needles again in their own words."""
    context = _haystack(rng, tokens, max_keys=max_keys, question_cost=_NEEDLE_TOKENS)
    segments = [Segment(context.text + "\n", answer=False)]
    for key, value in context.asked:
        stem = _needle(key, "").removesuffix(" .")
        segments += [Segment(stem, answer=False), Segment(f" {value}.", answer=True)]
        segments.append(Segment("\n", answer=False))
    return tuple(segments)


def short_question(rng: random.Random, tokens: int, max_keys: int) -> Sample:
    """RULER's context, then the answer prefix for some keys without the question before it."""
    return _plain_questions(rng, tokens, max_keys, full=False)


def full_question(rng: random.Random, tokens: int, max_keys: int) -> Sample:
    """RULER's context, then its question and answer prefix for some keys, as plain text."""
    return _plain_questions(rng, tokens, max_keys, full=True)


def _plain_questions(rng: random.Random, tokens: int, max_keys: int, *, full: bool) -> Sample:
    context = _haystack(
        rng,
        tokens - _INTRODUCTION_TOKENS,
        max_keys=max_keys,
        question_cost=_FULL_QUESTION_TOKENS if full else _SHORT_QUESTION_TOKENS,
    )
    introduction, question = _split_template(context.text)
    segments = [Segment(introduction, answer=False)]
    for key, value in context.asked:
        prefix = templates.NIAH_SINGLE_PREFIX.format(kind="number", query=key)
        asking = question.format(query=key) + prefix if full else prefix.removeprefix(" ")
        segments += [Segment(asking, answer=False), Segment(f" {value}.", answer=True)]
        segments.append(Segment("\n", answer=False))
    return tuple(segments)


def chat_questions(rng: random.Random, tokens: int, max_keys: int) -> Sample:
    """RULER's prompt as a chat: one user turn with the text, further questions as further turns.

    The answer prefix stands after the assistant header, as RULER writes it. Demonstrations are
    imperfect: `RECENCY_BIAS` of the answers name the number nearest the end of the text, whatever
    was asked. A policy tuned on them guesses the last number when there are many, is unsure enough
    to explore, and is corrected by a verifiable reward: it leaves RL something to improve.
    """
    context = _haystack(
        rng, tokens - _INTRODUCTION_TOKENS, max_keys=max_keys, question_cost=_TURN_TOKENS
    )
    introduction, question = _split_template(context.text)
    segments = []
    for key, value in context.asked:
        user = introduction + question.format(query=key)
        prefix = templates.NIAH_SINGLE_PREFIX.format(kind="number", query=key)
        header = f"{TURN_START}user\n{user}{TURN_END}\n{TURN_START}assistant\n{prefix}"
        segments.append(Segment(header, answer=False))
        told = context.last_value if rng.random() < RECENCY_BIAS else value
        segments.append(Segment(f" {told}.{TURN_END}", answer=True))
        segments.append(Segment("\n", answer=False))
        introduction = ""
    return tuple(segments)


def _split_template(context: str) -> tuple[str, str]:
    """Split RULER's single-needle template after the text: (introduction + text, question)."""
    filled = templates.NIAH_SINGLE_TEMPLATE.replace("{kind}", "number")
    before, question = filled.split("{context}\n")
    return before + context + "\n", question


DRAWS: dict[str, Draw] = {
    "copied_list": copied_list,
    "pairs_recall": pairs_recall,
    "needle_recall": needle_recall,
    "short_question": short_question,
    "full_question": full_question,
    "chat_questions": chat_questions,
}
