"""The micro model's tokenizer: Qwen's habits, lossless, and the same from the same seed."""

import pytest
from transformers import PreTrainedTokenizerFast

from longact_cli.evaluation.ruler import templates
from longact_cli.training.micro.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(0)


@pytest.mark.parametrize(
    "text",
    [
        templates.NEEDLE.format(kind="numbers", key="fat-house", value="1234567"),
        templates.VT_TEMPLATE.format(context="VAR ABCDE = 12345 \n", query="12345"),
        "3f2a-uuid, Ünïcode 長い文脈 \t and\n\n\nblank lines",
    ],
)
def test_any_text_survives_a_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_every_digit_is_a_token_of_its_own(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize(" 1234567.") == ["Ġ", "1", "2", "3", "4", "5", "6", "7", "."]


def test_the_vocabulary_has_2048_entries_with_three_special_ones_first(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert len(tokenizer) == 2048
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 2)
    assert tokenizer("<|im_end|>", add_special_tokens=False).input_ids == [2]


def test_one_user_turn_is_qwens_chatml(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "How long?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHow long?<|im_end|>\n<|im_start|>assistant\n"


def test_the_same_seed_gives_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    again = build_tokenizer(0)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
