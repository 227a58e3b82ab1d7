"""From corpus samples to token batches with a label for what is supervised."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from longact_cli.training.micro.corpus import DRAWS, Sample

CONTEXT, ANSWER, PADDING = 0, 1, -1


class Batch(NamedTuple):
    """`tokens` and `labels` are int64, [rows, length]; a label is CONTEXT, ANSWER or PADDING."""

    tokens: torch.Tensor
    labels: torch.Tensor


class Mixture(NamedTuple):
    """What one phase of training draws from."""

    weights: Mapping[str, float]
    """Kind of sample (see `corpus.DRAWS`) -> share of rows, in any unit."""
    length: int
    max_keys: int


def draw_samples(rng: random.Random, mixture: Mixture, *, rows: int) -> list[Sample]:
    """Draw `rows` samples of about `mixture.length` tokens each."""
    kinds = rng.choices(list(mixture.weights), list(mixture.weights.values()), k=rows)
    return [DRAWS[kind](rng, mixture.length, mixture.max_keys) for kind in kinds]


def encode(tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample], *, length: int) -> Batch:
    """Encode segment by segment, so that an answer never shares a token with its question."""
    texts = [segment.text for sample in samples for segment in sample]
    encodings = iter(tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
    tokens = torch.full((len(samples), length), tokenizer.pad_token_id, dtype=torch.long)
    labels = torch.full((len(samples), length), PADDING, dtype=torch.long)
    for row, sample in enumerate(samples):
        ids: list[int] = []
        marks: list[int] = []
        for segment in sample:
            piece = next(encodings).ids
            ids += piece
            marks += [ANSWER if segment.answer else CONTEXT] * len(piece)
        used = min(length, len(ids))
        tokens[row, :used] = torch.tensor(ids[:used])
        labels[row, :used] = torch.tensor(marks[:used])
    return Batch(tokens, labels)
