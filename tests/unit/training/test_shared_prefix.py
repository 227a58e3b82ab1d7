import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from longact_cli.training.rollout import cut_after_end, generate, pad_left
from longact_cli.training.shared_prefix import (
    completion_log_probs,
    pack,
    shares_prompts,
    supports_shared_prefix,
)

PROMPTS = ([5, 6, 7, 8, 9, 10], [11, 12, 13])
COMPLETIONS = torch.tensor([[20, 21, 22], [30, 31, 2], [40, 2, 0], [50, 51, 52]])
KEPT = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]])
WHERE = (0, 1, 0, 0)  # the prompt of each completion


@pytest.fixture
def model(tiny_checkpoint):
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return pad_left([PROMPTS[index] for index in WHERE], 0, device=torch.device("cpu"))


def separate(model, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies from one plain forward per completion."""
    log_probs, entropies = torch.zeros(4, 3), torch.zeros(4, 3)
    for row, index in enumerate(WHERE):
        tokens = COMPLETIONS[row][: int(KEPT[row].sum())]
        prompt = torch.tensor(PROMPTS[index])
        logits = model(input_ids=torch.cat([prompt, tokens]).unsqueeze(0)).logits[0]
        log_p = (logits[len(prompt) - 1 : -1] / temperature).log_softmax(-1)
        log_probs[row, : len(tokens)] = log_p.gather(1, tokens.unsqueeze(1)).squeeze(1)
        entropies[row, : len(tokens)] = -(log_p.exp() * log_p).sum(-1)
    return log_probs, entropies


def test_prompts_are_read_once_and_completions_start_where_their_prompt_ends() -> None:
    packed = pack(*batch(), completion_ids=COMPLETIONS, completion_mask=KEPT)
    assert packed.input_ids.tolist() == [
        [5, 6, 7, 8, 9, 10, 20, 21, 22, 40, 2, 0, 50, 51, 52],
        [0, 0, 0, 11, 12, 13, 30, 31, 2, 0, 0, 0, 0, 0, 0],
    ]
    assert packed.position_ids[0].tolist() == [*range(6), 6, 7, 8, 6, 7, 8, 6, 7, 8]
    assert packed.predictors.tolist() == [[5, 6, 7], [20, 21, 22], [5, 9, 10], [5, 12, 13]]


def test_a_completion_sees_its_prompt_and_itself_only() -> None:
    visible = pack(*batch(), completion_ids=COMPLETIONS, completion_mask=KEPT).attention_mask[:, 0]
    assert visible[0, 13].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5, 12, 13]
    assert visible[1, 7].nonzero().flatten().tolist() == [3, 4, 5, 6, 7]
    assert visible[0, 3].nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert visible[1, 0].nonzero().flatten().tolist() == [0]  # padding sees itself: no NaN


def test_log_probs_and_entropies_equal_those_of_separate_sequences(model) -> None:
    packed = pack(*batch(), completion_ids=COMPLETIONS, completion_mask=KEPT)
    log_probs, entropies = completion_log_probs(model, packed, COMPLETIONS, temperature=0.7)
    expected_log_probs, expected_entropies = separate(model, 0.7)
    assert torch.allclose(log_probs * KEPT, expected_log_probs, atol=2e-6)
    assert torch.allclose(entropies * KEPT, expected_entropies, atol=2e-6)


def test_gradients_equal_those_of_separate_sequences(model) -> None:
    weights = torch.tensor([[1.0], [-2.0], [0.5], [1.5]]) * KEPT
    (separate(model, 1.0)[0] * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    packed = pack(*batch(), completion_ids=COMPLETIONS, completion_mask=KEPT)
    log_probs, _ = completion_log_probs(model, packed, COMPLETIONS, temperature=1.0)
    (log_probs * weights).sum().backward()
    for name, parameter in model.named_parameters():
        scale = expected[name].abs().max().item()
        assert torch.allclose(parameter.grad, expected[name], atol=2e-5 * scale), name


def test_sharing_needs_equal_prompts_and_plain_attention(model) -> None:
    assert shares_prompts(batch()[0])
    assert not shares_prompts(batch()[0][:2])
    assert supports_shared_prefix(model)
    model.config.final_logit_softcapping = 30.0
    assert not supports_shared_prefix(model)
    model.config.final_logit_softcapping = None
    model.config.layer_types = ["sliding_attention", "full_attention"]
    assert not supports_shared_prefix(model)


def test_generation_from_one_prefill_equals_plain_generation(model) -> None:
    settings = GenerationConfig(
        max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=2, disable_compile=True
    )
    rows = [PROMPTS[index] for index in WHERE]
    ids, kept = pad_left(rows, 0, device=torch.device("cpu"))
    plain = model.generate(input_ids=ids, attention_mask=kept, generation_config=settings)[:, 6:]
    assert torch.equal(generate(model, rows, generation_config=settings), plain)
    assert len(set(map(tuple, plain.tolist()))) == 2  # the two prompts go on differently


@pytest.mark.parametrize(
    ("row", "kept"),
    [([7, 2, 0, 0], [7, 2]), ([7, 8, 9], [7, 8, 9]), ([3, 2], [3]), ([2, 2], [2])],
)
def test_a_completion_ends_with_its_first_end_token(row: list[int], kept: list[int]) -> None:
    assert cut_after_end(torch.tensor(row), torch.tensor([2, 3])) == kept
