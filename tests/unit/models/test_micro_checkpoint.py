"""The shipped checkpoint: stock architecture, small, as its provenance says, and able."""

import json
import random
import re

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from longact_cli.models.loading import checkpoint_sha256, context_window, tokenizer_sha256
from longact_cli.models.micro import micro_checkpoint_path
from longact_cli.training.micro.probe import probe_prompt

CHECKPOINT = str(micro_checkpoint_path())


def test_it_loads_as_stock_qwen3() -> None:
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT)
    assert type(model) is Qwen3ForCausalLM
    assert model.dtype == torch.bfloat16
    attention = model.model.layers[0].self_attn
    assert (attention.q_norm.weight.shape, attention.q_proj.bias) == (
        (model.config.head_dim,),
        None,
    )
    assert model.config.num_attention_heads == 2 * model.config.num_key_value_heads


def test_it_weighs_less_than_two_megabytes() -> None:
    files = list(micro_checkpoint_path().iterdir())
    assert 100_000 < sum(file.stat().st_size for file in files) < 2_000_000
    assert not [file.name for file in files if file.suffix in {".bin", ".pt", ".pkl"}]


def test_its_window_is_2048_tokens() -> None:
    assert context_window(CHECKPOINT) == 2048


def test_its_hashes_are_those_of_its_provenance() -> None:
    provenance = json.loads((micro_checkpoint_path() / "PROVENANCE.json").read_text())
    assert provenance["checkpoint_sha256"] == checkpoint_sha256(CHECKPOINT)
    assert provenance["tokenizer_sha256"] == tokenizer_sha256(CHECKPOINT)


def test_generation_ends_at_the_end_of_a_turn() -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id


def test_it_answers_short_questions_and_stops() -> None:
    answers = _ask(questions=5, needles_only=False)
    assert sum(completion == f" {number}.<|im_end|>" for completion, number, _ in answers) >= 4


def test_among_many_needles_it_stops_after_a_number_of_the_text() -> None:
    answers = _ask(questions=5, needles_only=True)
    numbers = [re.fullmatch(r" (\d{7})\.<\|im_end\|>", completion) for completion, *_ in answers]
    in_text = [n and n[1] in prompt for n, (*_, prompt) in zip(numbers, answers, strict=True)]
    assert sum(map(bool, in_text)) >= 4


def _ask(*, questions: int, needles_only: bool) -> list[tuple[str, str, str]]:
    """Return (greedy completion, right number, prompt) of prompts of about 160 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    rng = random.Random(11)
    answers = []
    for _ in range(questions):
        prompt, number = probe_prompt(rng, length=160, needles_only=needles_only)
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        output = model.generate(**ids, max_new_tokens=16)[0, ids.input_ids.shape[1] :]
        answers.append((tokenizer.decode(output), number, prompt))
    return answers
