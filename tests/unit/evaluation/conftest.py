"""Fixtures of the evaluation tests."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from longact_cli.evaluation.ruler.generator import RulerSource


@pytest.fixture(scope="session")
def tokenizer(tiny_checkpoint: Path):
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="session")
def source(tokenizer) -> RulerSource:
    return RulerSource(tokenizer, seed=0, split="eval")
