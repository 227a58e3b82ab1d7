"""Batches: what is supervised and what is padding."""

import random

from longact_cli.training.micro.batches import (
    ANSWER,
    CONTEXT,
    PADDING,
    Mixture,
    draw_samples,
    encode,
)
from longact_cli.training.micro.corpus import Segment
from longact_cli.training.micro.tokenizer import build_tokenizer


def test_labels_mark_answers_context_and_padding() -> None:
    sample = (Segment("1", answer=False), Segment("23", answer=True))
    batch = encode(build_tokenizer(0), [sample], length=5)
    assert batch.labels.tolist() == [[CONTEXT, ANSWER, ANSWER, PADDING, PADDING]]
    assert batch.tokens[0, 3:].tolist() == [0, 0]


def test_a_sample_that_is_too_long_is_cut() -> None:
    batch = encode(build_tokenizer(0), [(Segment("12345", answer=True),)], length=3)
    assert batch.labels.tolist() == [[ANSWER, ANSWER, ANSWER]]


def test_a_mixture_draws_only_kinds_with_weight() -> None:
    mixture = Mixture({"copied_list": 0.0, "chat_questions": 1.0}, 128, 2)
    samples = draw_samples(random.Random(0), mixture, rows=8)
    assert len(samples) == 8
    assert all(sample[0].text.startswith("<|im_start|>user") for sample in samples)
