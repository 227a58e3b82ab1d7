"""Rollouts from one prefill against transformers' own generation."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from longact_cli.training.prefix_support import refusal
from longact_cli.training.rollout import cut_after_end, generate, pad_left

from .test_shared_prefix import CONFIGS, model_of

ENDS = [2, *range(3, 64, 9)]
PROMPTS = ([5, 6, 7, 8, 9, 10], [11, 12, 13], [7] * 9)
WHERE = (0, 1, 0, 0, 2, 1, 0, 2, 2)
ROWS = [PROMPTS[index] for index in WHERE]


def settings(**changes) -> GenerationConfig:
    plain = {"max_new_tokens": 16, "pad_token_id": 0, "eos_token_id": ENDS, "top_k": 0}
    return GenerationConfig(disable_compile=True, **{**plain, **changes})


def generated(model, chosen: GenerationConfig) -> torch.Tensor:
    """What `model.generate` writes, prompts padded on the left."""
    torch.manual_seed(3)
    ids, kept = pad_left(ROWS, 0, device=torch.device("cpu"))
    return model.generate(input_ids=ids, attention_mask=kept, generation_config=chosen)[:, 9:]


def shared(model, chosen: GenerationConfig) -> torch.Tensor:
    torch.manual_seed(3)
    with torch.no_grad():
        return generate(model, ROWS, generation_config=chosen)


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_those_of_generate(name: str) -> None:
    plain = model_of(name).eval()
    ours = copy.deepcopy(plain)
    assert refusal(ours) is None
    for chosen in (
        settings(do_sample=False),
        settings(do_sample=True, temperature=0.8, top_p=0.9),
    ):
        expected = generated(plain, chosen)
        assert torch.equal(shared(ours, chosen), expected)
    assert 1 < len(set((expected != 0).sum(dim=1).tolist()))  # rows end at different times


def test_each_prompt_is_read_once_and_rows_that_are_done_leave_the_batch() -> None:
    model = model_of("llama").eval()
    assert refusal(model) is None
    sizes = []
    model.base_model.register_forward_pre_hook(
        lambda _, __, keywords: sizes.append(tuple(keywords["input_ids"].shape)),
        with_kwargs=True,
    )
    lengths = (shared(model, settings(do_sample=True)) != 0).sum(dim=1)
    assert sizes[0] == (3, 9)
    assert all(columns == 1 for _, columns in sizes[1:])
    rows = [rows for rows, _ in sizes[1:]]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] <= 3 * 4
    assert rows[-1] < len(WHERE)
    assert len(rows) == int(lengths.max()) - 1


def test_rollouts_are_written_under_autocast() -> None:
    model = model_of("qwen3").eval()
    assert refusal(model) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        written = shared(model, settings(do_sample=False))
    assert len(written) == len(ROWS)
    assert torch.equal(written[0], written[2])  # greedy rollouts of one prompt


def test_settings_beyond_plain_sampling_take_the_way_of_transformers() -> None:
    plain = model_of("llama").eval()
    ours = copy.deepcopy(plain)
    assert refusal(ours) is None
    chosen = settings(do_sample=False, repetition_penalty=1.7)
    assert torch.equal(shared(ours, chosen), generated(plain, chosen))


def test_a_model_with_a_shorter_window_takes_the_way_of_transformers() -> None:
    config = copy.deepcopy(CONFIGS["mistral, window of 64"])
    config.sliding_window = 12
    plain = AutoModelForCausalLM.from_config(config).eval()
    ours = copy.deepcopy(plain)
    assert refusal(ours) is None
    chosen = settings(do_sample=False)
    assert torch.equal(shared(ours, chosen), generated(plain, chosen))


@pytest.mark.parametrize(
    ("row", "kept"),
    [([7, 2, 0, 0], [7, 2]), ([7, 8, 9], [7, 8, 9]), ([3, 2], [3]), ([2, 2], [2])],
)
def test_a_completion_ends_with_its_first_end_token(row: list[int], kept: list[int]) -> None:
    assert cut_after_end(torch.tensor(row), torch.tensor([2, 3])) == kept
