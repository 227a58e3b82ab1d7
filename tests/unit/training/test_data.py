import re

import pytest
from transformers import AutoTokenizer

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.words import is_train_key
from longact_cli.training.data import (
    GeneratedPrompts,
    PromptMixture,
    curriculum_lengths,
    prompt_seed,
)
from longact_cli.training.data import prompt_dataset as dataset_of

MIXTURE = PromptMixture(("niah_single_1", "niah_multikey_2"), (400, 448), True, 0, 1000)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


def prompt_dataset(mixture: PromptMixture, count: int, *, tokenizer):
    return dataset_of(GeneratedPrompts(mixture, tokenizer=tokenizer), count)


def test_tasks_and_lengths_take_turns(tokenizer) -> None:
    rows = prompt_dataset(MIXTURE, 5, tokenizer=tokenizer)[:]
    kinds = [name.split("/")[1:3] for name in rows["sample_id"]]
    assert kinds == [
        ["niah_single_1", "400"],
        ["niah_single_1", "448"],
        ["niah_multikey_2", "400"],
        ["niah_multikey_2", "448"],
        ["niah_single_1", "400"],
    ]


def test_a_prompt_does_not_depend_on_how_many_there_are(tokenizer) -> None:
    few = prompt_dataset(MIXTURE, 3, tokenizer=tokenizer)
    many = prompt_dataset(MIXTURE, 9, tokenizer=tokenizer)
    assert few[2] == many[2]
    assert len(many) == 9


def test_prompts_fit_their_length_and_hold_their_references(tokenizer) -> None:
    for row in prompt_dataset(MIXTURE, 4, tokenizer=tokenizer):
        length = int(row["sample_id"].split("/")[2])
        tokens = len(tokenizer(row["prompt"], add_special_tokens=False)["input_ids"])
        assert tokens <= length - 128
        assert all(reference in row["prompt"] for reference in row["references"])


def test_keys_and_answers_are_of_the_training_half(tokenizer) -> None:
    rows = prompt_dataset(MIXTURE, 8, tokenizer=tokenizer)[:]
    keys = [re.search(r"number for (\S+?) mentioned", text)[1] for text in rows["prompt"]]
    assert all(is_train_key(key) for key in keys)
    assert all(is_train_key(value) for values in rows["references"] for value in values)


def test_another_seed_gives_other_prompts(tokenizer) -> None:
    first = prompt_dataset(MIXTURE, 1, tokenizer=tokenizer)[0]
    other = prompt_dataset(MIXTURE._replace(seed=1), 1, tokenizer=tokenizer)[0]
    assert first["prompt"] != other["prompt"]
    assert prompt_seed(0) != 0


def test_a_prompt_beyond_the_window_is_refused_when_it_is_read(tokenizer) -> None:
    dataset = prompt_dataset(MIXTURE._replace(max_prompt_tokens=50), 1, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match=r"data\.context_lengths has 400.*leaves 50"):
        dataset[0]


def test_a_curriculum_allows_the_next_longer_length_after_each_stage() -> None:
    mixture = MIXTURE._replace(context_lengths=(448, 400, 512), curriculum_prompts=6)
    stages = [list(curriculum_lengths(mixture, at)) for at in (0, 1, 2, 3, 4, 6, 100)]
    assert stages == [[400], [400], [400, 448], [400, 448], *[[400, 448, 512]] * 3]
    assert curriculum_lengths(MIXTURE, 0) == (400, 448)


def test_a_replacement_prompt_follows_the_curriculum_of_the_step_it_serves(tokenizer) -> None:
    mixture = MIXTURE._replace(curriculum_prompts=8)
    prompts = GeneratedPrompts(mixture, tokenizer=tokenizer)
    early = {prompts.row(index, at=0)["sample_id"].split("/")[2] for index in range(100, 104)}
    late = {prompts.row(index, at=8)["sample_id"].split("/")[2] for index in range(100, 104)}
    assert (early, late) == ({"400"}, {"400", "448"})
