import re
from random import Random

import pytest
from transformers import AutoTokenizer

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.generator import RulerSource
from longact_cli.evaluation.ruler.words import is_train_key
from longact_cli.training.data import GeneratedPrompts, PromptMixture
from longact_cli.training.keychain import HOPS, keychain_draft, keychain_sample


@pytest.fixture(scope="module")
def source(tiny_checkpoint) -> RulerSource:
    return RulerSource(AutoTokenizer.from_pretrained(tiny_checkpoint), seed=0, split="train")


def follow(prompt: str) -> str:
    links = dict(re.findall(r"The key (\S+) leads to the key (\S+)\.", prompt))
    ends = dict(re.findall(r"The key (\S+) leads to the magic number (\d+)\.", prompt))
    key = re.search(r"Start from (\S+) and follow", prompt)[1]
    hops = 1
    while key in links:
        key, hops = links[key], hops + 1
    assert hops == HOPS
    return ends[key]


@pytest.mark.parametrize("index", range(4))
def test_following_the_keys_leads_to_the_reference(source: RulerSource, index: int) -> None:
    sample = keychain_sample("keychain", 768, index=index, source=source)
    assert follow(sample.prompt) == sample.references[0]
    assert sample.prompt_tokens + 128 <= 768
    assert sample.prompt.count(sample.references[0]) == 1


def test_all_keys_are_different_and_of_the_training_half() -> None:
    draft = keychain_draft(Random(0), split="train")
    lines = draft.message(30).split("\n")
    keys = re.findall(r"The key (\S+) leads", "\n".join(lines))
    assert len(keys) == len(set(keys)) == 33
    assert all(is_train_key(key) for key in keys)


def test_a_longer_haystack_keeps_the_lines_and_their_order() -> None:
    draft = keychain_draft(Random(0), split="train")
    short, long = draft.message(9).split("\n"), draft.message(12).split("\n")
    assert [line for line in long if line in short] == short


def test_a_length_without_room_is_refused(source: RulerSource) -> None:
    with pytest.raises(ConfigError, match=r"data\.context_lengths is 200; keychain needs"):
        keychain_sample("keychain", 200, index=0, source=source)


def test_it_is_one_of_the_tasks_of_a_mixture(tiny_checkpoint) -> None:
    mixture = PromptMixture(("niah_single_1", "keychain"), (768,), True, 0, 1000)
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    row = GeneratedPrompts(mixture, tokenizer=tokenizer).row(1, at=1)
    assert row["sample_id"] == "keychain/768/1"
    assert follow(row["prompt"]) == row["references"][0]
