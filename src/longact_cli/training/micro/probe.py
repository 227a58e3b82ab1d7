"""A quick look at a micro model: does it answer needle questions on held-out keys?"""

import random

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from longact_cli.evaluation.ruler import templates
from longact_cli.evaluation.ruler.words import draw_number, draw_word
from longact_cli.training.micro.tokenizer import TURN_END, TURN_START

_LINE_TOKENS = 24
_FRAME_TOKENS = 110
PROBE_LENGTHS = (192, 320, 448)


def answer_accuracy(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int, samples: int = 64
) -> dict[str, float]:
    """Return the share of exact answers by `task@prompt tokens`, in 0..1.

    An answer is exact when the number, the full stop and the end of turn are all right. This is a
    training diagnostic; scores come from the evaluation package.
    """
    rng = random.Random(f"probe {seed}")
    accuracy = {}
    for needles_only, task in ((False, "niah_single_1"), (True, "niah_multikey_2")):
        for length in PROBE_LENGTHS:
            right = [_answers(model, tokenizer, rng, length, needles_only) for _ in range(samples)]
            accuracy[f"{task}@{length}"] = sum(right) / samples
    return accuracy


@torch.no_grad()
def _answers(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rng: random.Random,
    length: int,
    needles_only: bool,
) -> bool:
    """Ask one question; the greedy answer is exact when every token is the most likely one."""
    prompt, number = probe_prompt(rng, length=length, needles_only=needles_only)
    question = tokenizer(prompt, add_special_tokens=False).input_ids
    answer = tokenizer(f" {number}.{TURN_END}", add_special_tokens=False).input_ids
    logits = model(input_ids=torch.tensor([question + answer])).logits[0]
    predicted: list[int] = logits[len(question) - 1 : -1].argmax(-1).tolist()
    return bool(predicted == answer)


def probe_prompt(rng: random.Random, *, length: int, needles_only: bool) -> tuple[str, str]:
    """Return a chat prompt of about `length` tokens with an evaluation key, and its answer."""
    key, number = draw_word(rng, "eval"), draw_number(rng, "eval")
    lines = max(1, (length - _FRAME_TOKENS) // _LINE_TOKENS)
    text = [_needle(rng) if needles_only else templates.NOISE for _ in range(lines)]
    hidden = templates.NEEDLE.format(kind="numbers", key=key, value=number)
    text.insert(rng.randint(0, lines), hidden)
    user = templates.NIAH_SINGLE_TEMPLATE.format(kind="number", context="\n".join(text), query=key)
    prefix = templates.NIAH_SINGLE_PREFIX.format(kind="number", query=key)
    header = f"{TURN_START}user\n{user}{TURN_END}\n{TURN_START}assistant\n"
    return header + prefix, number


def _needle(rng: random.Random) -> str:
    return templates.NEEDLE.format(
        kind="numbers", key=draw_word(rng, "eval"), value=draw_number(rng, "eval")
    )
