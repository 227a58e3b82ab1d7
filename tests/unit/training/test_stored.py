import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer

from longact_cli.errors import ConfigError
from longact_cli.training.stored import StoredPrompts

ROWS = [
    {"prompt": "What is one and one?", "answer": "2"},
    {"prompt": "Name two numbers.", "answer": "1"},
    {"prompt": "x " * 300, "answer": "3"},
    {"prompt": "And what is this?", "answer": "4"},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path):
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


def stored(path: str, tokenizer, *, seed: int = 0, template: bool = True, **changes):
    settings = {"split": "train", "max_prompt_tokens": 100, **changes}
    return StoredPrompts(path, tokenizer=tokenizer, chat_template=template, seed=seed, **settings)


def test_every_epoch_reads_all_prompts_that_fit_in_another_order(path: str, tokenizer) -> None:
    prompts = stored(path, tokenizer)
    assert prompts.left_out == 1
    epochs = [
        [prompts.row(index, at=0)["sample_id"] for index in range(3 * epoch, 3 * epoch + 3)]
        for epoch in range(6)
    ]
    assert all(set(e) == {"questions/0", "questions/1", "questions/3"} for e in epochs)
    assert len(set(map(tuple, epochs))) > 1


def test_the_order_is_a_function_of_the_seed(path: str, tokenizer) -> None:
    def order(seed: int) -> list[str]:
        prompts = stored(path, tokenizer, seed=seed)
        return [prompts.row(index, at=0)["sample_id"] for index in range(12)]

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_a_text_is_put_into_the_chat_template_where_that_is_asked_for(path, tokenizer) -> None:
    plain = {stored(path, tokenizer, template=False).row(i, at=0)["prompt"] for i in range(3)}
    assert "Name two numbers." in plain
    chat = {stored(path, tokenizer).row(i, at=0)["prompt"] for i in range(3)}
    assert "<|im_start|>user\nName two numbers.<|im_end|>\n<|im_start|>assistant\n" in chat


def test_messages_and_lists_of_answers_are_read(tmp_path: Path, tokenizer) -> None:
    row = {"prompt": [{"role": "user", "content": "Who?"}], "answer": ["a", "b"]}
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps(row) + "\n")
    made = stored(str(file), tokenizer, template=False).row(5, at=0)
    assert made["references"] == ["a", "b"]
    assert made["prompt"].startswith("<|im_start|>user\nWho?<|im_end|>")


def test_a_saved_dataset_is_read_by_its_split(tmp_path: Path, tokenizer) -> None:
    DatasetDict({"dev": Dataset.from_list(ROWS[:1])}).save_to_disk(tmp_path / "set")
    prompts = stored(str(tmp_path / "set"), tokenizer, split="dev")
    assert prompts.row(7, at=0)["references"] == ["2"]


def test_a_dataset_without_its_columns_is_refused(tmp_path: Path, tokenizer) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps({"question": "a", "answer": "b"}) + "\n")
    with pytest.raises(ConfigError, match="no prompt; rename its columns"):
        stored(str(file), tokenizer)


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path, tokenizer) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        stored(str(tmp_path / "none.jsonl"), tokenizer)


def test_a_dataset_of_prompts_that_are_all_too_long_is_refused(path: str, tokenizer) -> None:
    with pytest.raises(ConfigError, match="none of its 4 prompts fits into 2 tokens"):
        stored(path, tokenizer, max_prompt_tokens=2)
