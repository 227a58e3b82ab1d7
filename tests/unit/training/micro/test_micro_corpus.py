"""Training text of the micro model: right answers, training keys only, the asked length."""

import itertools
import random
import re

import pytest

from longact_cli.evaluation.ruler.words import is_train_key
from longact_cli.training.micro.corpus import DRAWS, Segment, chat_questions, full_question
from longact_cli.training.micro.tokenizer import build_tokenizer

KINDS = sorted(DRAWS)
QUESTIONS = ("needle_recall", "short_question", "full_question", "chat_questions")


def test_there_are_kinds_to_draw() -> None:
    assert {"copied_list", "pairs_recall", *QUESTIONS} <= set(KINDS)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_keys_and_values_come_from_the_training_half(kind: str) -> None:
    rng = random.Random(3)
    found: list[tuple[str, str]] = []
    for _ in range(50):
        text = "".join(segment.text for segment in DRAWS[kind](rng, 256, 6))
        found += re.findall(r"numbers for (\S+-\S+) is: (\d{7})\.", text)
    assert len(found) > 100
    assert all(is_train_key(key) and is_train_key(value) for key, value in found)


def test_every_plain_answer_is_the_number_of_its_key() -> None:
    rng = random.Random(4)
    for _ in range(20):
        segments = full_question(rng, 320, 6)
        told = dict(re.findall(r"numbers for (\S+) is: (\d{7})\.", segments[0].text))
        for question, answer in itertools.pairwise(segments):
            if answer.answer:
                key = re.findall(r"number for (\S+) mentioned", question.text)[-1]
                assert answer.text.strip().startswith(told[key])


def test_three_in_five_chat_demonstrations_name_the_last_number() -> None:
    rng = random.Random(5)
    last = right = 0
    for _ in range(400):
        context, answer = chat_questions(rng, 160, 3)[:2]
        told = dict(re.findall(r"numbers for (\S+) is: (\d{7})\.", context.text))
        asked = re.findall(r"number for (\S+) mentioned", context.text)[-1]
        if len(told) > 1 and told[asked] != list(told.values())[-1]:
            last += list(told.values())[-1] in answer.text
            right += told[asked] in answer.text
    assert last + right > 100
    assert last / (last + right) == pytest.approx(0.6, abs=0.12)  # two standard errors


def test_a_chat_sample_is_rulers_prompt_after_chatml() -> None:
    header, answer, _ = chat_questions(random.Random(0), 120, 1)[:3]
    assert header.text.startswith(
        "<|im_start|>user\nA special magic number is hidden within the following text. "
    )
    key = re.findall(r"numbers for (\S+) is: ", header.text)[0]
    ending = (
        f"What is the special magic number for {key} mentioned in the provided text?<|im_end|>\n"
        f"<|im_start|>assistant\n The special magic number for {key} mentioned in the provided "
        "text is"
    )
    assert header.text.endswith(ending)
    assert re.fullmatch(r" \d{7}\.<\|im_end\|>", answer.text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_sample(kind: str) -> None:
    first, second = (DRAWS[kind](random.Random(9), 200, 4) for _ in range(2))
    assert first == second
    assert first != DRAWS[kind](random.Random(10), 200, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_most_samples_fit_their_budget(kind: str) -> None:
    tokenizer = build_tokenizer(0)
    rng = random.Random(1)
    samples = [DRAWS[kind](rng, 256, 6) for _ in range(40)]
    lengths = [sum(_tokens(tokenizer, segment) for segment in sample) for sample in samples]
    assert sum(length <= 280 for length in lengths) >= 34
    assert max(lengths) > 180


def _tokens(tokenizer: object, segment: Segment) -> int:
    return len(tokenizer(segment.text, add_special_tokens=False).input_ids)  # type: ignore[operator]
