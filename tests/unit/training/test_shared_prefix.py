"""Packed prompts against the same sequences one by one, through TRL's own scoring."""

import copy

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen3Config,
    Qwen3MoeConfig,
)
from trl.trainer.utils import add_fused_lm_head

from longact_cli.masking import SaliencyProbe, find_projections
from longact_cli.training import prefix_support, shared_prefix
from longact_cli.training.prefix_support import attention_window, refusal
from longact_cli.training.shared_prefix import (
    add_prefix_scores,
    pack,
    shares_prompts,
    with_mask,
)
from plain_flex import allow_flex_on_the_cpu

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
CONFIGS = {
    "qwen3": Qwen3Config(head_dim=16, **SIZES),
    "llama": LlamaConfig(**SIZES),
    "mistral, window of 64": MistralConfig(sliding_window=64, **SIZES),
    "gemma": GemmaConfig(head_dim=16, **SIZES),
    "gemma3, window of 64": Gemma3TextConfig(head_dim=16, sliding_window=64, **SIZES),
    "phi3": Phi3Config(**SIZES),
    "qwen3-moe": Qwen3MoeConfig(
        head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, **SIZES
    ),
}
PROMPTS = ([5, 6, 7, 8, 9, 10], [11, 12, 13])
WHERE = (0, 1, 0, 0, 1)  # the prompt of each completion
LENGTHS = (3, 4, 2, 0, 1)
TEMPERATURE = 0.7


def model_of(name: str) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]), dtype=torch.float32)


class Rows:
    """Prompts and completions as TRL hands them over; the completions are ragged."""

    flex = False

    def __init__(self, rows: tuple[int, ...] = (0, 1, 2, 3, 4), *, padding: str = "left") -> None:
        width = max(map(len, PROMPTS))
        self.ids = torch.zeros(len(rows), width, dtype=torch.long)
        self.kept = torch.zeros_like(self.ids)
        tokens = torch.randint(3, 64, (5, 4), generator=torch.Generator().manual_seed(1))
        self.completions = tokens[list(rows)]
        self.counted = torch.zeros(len(rows), 4, dtype=torch.long)
        for place, row in enumerate(rows):
            prompt = PROMPTS[WHERE[row]]
            begin = width - len(prompt) if padding == "left" else 0
            self.ids[place, begin : begin + len(prompt)] = torch.tensor(prompt)
            self.kept[place, begin : begin + len(prompt)] = 1
            self.counted[place, : LENGTHS[row]] = 1
        weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
        self.weights = weights[list(rows)]

    def packed(self) -> shared_prefix.PackedBatch:
        return pack(
            self.ids,
            self.kept,
            completion_ids=self.completions,
            completion_mask=self.counted,
            flex=self.flex,
        )


def separate(model: torch.nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
    """TRL's own scores: one forward over every whole sequence."""
    ids = torch.cat([rows.ids, rows.completions], dim=1)
    kept = torch.cat([rows.kept, rows.counted], dim=1)
    labels = ids.masked_fill(kept == 0, -100)
    labels[:, : rows.ids.shape[1]] = -100
    add_fused_lm_head(model, TEMPERATURE, outputs=("log_probs", "entropy"))
    output = model(input_ids=ids, attention_mask=kept, labels=labels, fused_lm_head=True)
    return output.log_probs[:, -4:], output.entropy[:, -4:]


def shared(model: torch.nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
    assert refusal(model) is None
    add_prefix_scores(model, temperature=TEMPERATURE)
    return model(shared_prefix=rows.packed())


def loss_of(log_probs: Tensor, rows: Rows) -> Tensor:
    return (log_probs * rows.weights).sum() / sum(LENGTHS)


def assert_same_gradients(model: torch.nn.Module, expected: torch.nn.Module) -> None:
    wanted = dict(expected.named_parameters())
    for name, parameter in model.named_parameters():
        if wanted[name].grad is None:  # an expert that no token reached
            continue
        scale = wanted[name].grad.abs().max().item()
        assert torch.allclose(parameter.grad, wanted[name].grad, rtol=0, atol=1e-5 * scale), name


@pytest.fixture(params=["in parts", "with a mask", "in flex blocks"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways to compute the completions' block; the first is that of the CPU."""
    if request.param == "with a mask":
        monkeypatch.setattr(shared_prefix, "needs_no_mask", lambda device: False)
    if request.param == "in flex blocks":
        allow_flex_on_the_cpu(monkeypatch)
        monkeypatch.setattr(Rows, "flex", True)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_and_gradients_equal_those_of_separate_sequences(name: str) -> None:
    rows, ours = Rows(), model_of(name).train()
    theirs = copy.deepcopy(ours)
    expected_log_probs, expected_entropies = separate(theirs, rows)
    log_probs, entropies = shared(ours, rows)
    assert torch.allclose(log_probs, expected_log_probs, atol=1e-5)
    assert torch.allclose(entropies, expected_entropies, atol=1e-5)
    loss, expected = loss_of(log_probs, rows), loss_of(expected_log_probs, rows)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    expected.backward()
    assert_same_gradients(ours, theirs)


def test_scores_equal_those_of_one_sequence_without_any_padding() -> None:
    rows, model = Rows(), model_of("llama")
    log_probs, _ = shared(copy.deepcopy(model), rows)
    for row, length in enumerate(LENGTHS):
        tokens = rows.completions[row, :length]
        prompt = torch.tensor(PROMPTS[WHERE[row]])
        logits = model(input_ids=torch.cat([prompt, tokens]).unsqueeze(0)).logits[0]
        log_p = (logits[len(prompt) - 1 : -1] / TEMPERATURE).log_softmax(-1)
        expected = log_p.gather(1, tokens.unsqueeze(1)).squeeze(1)
        assert torch.allclose(log_probs[row, :length], expected, atol=1e-5)
        assert log_probs[row, length:].abs().sum() == 0


@pytest.mark.usefixtures("block")
def test_bfloat16_autocast_takes_packed_prompts() -> None:
    rows, ours = Rows(), model_of("qwen3")  # its QK norm puts out float32, its values are bfloat16
    theirs = copy.deepcopy(ours)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs, _ = shared(ours, rows)
        expected, _ = separate(theirs, rows)
    loss_of(log_probs.float(), rows).backward()
    loss_of(expected.float(), rows).backward()
    assert torch.allclose(log_probs.float(), expected.float(), atol=0.15)
    ours_q = ours.model.layers[0].self_attn.q_proj.weight.grad
    theirs_q = theirs.model.layers[0].self_attn.q_proj.weight.grad
    assert torch.cosine_similarity(ours_q.flatten(), theirs_q.flatten(), dim=0) > 0.99


@pytest.mark.usefixtures("block")
def test_the_side_on_which_prompts_are_padded_does_not_matter() -> None:
    left, _ = shared(model_of("qwen3"), Rows())
    right, _ = shared(model_of("qwen3"), Rows(padding="right"))
    assert torch.allclose(left, right, atol=1e-5)


@pytest.mark.usefixtures("block")
def test_gradient_checkpointing_and_accumulation_over_split_groups_change_nothing() -> None:
    ours = model_of("qwen3").train()
    theirs = copy.deepcopy(ours)
    loss_of(separate(theirs, Rows())[0], Rows()).backward()
    ours.activation_checkpointing_enable()
    for rows in (Rows((0, 1, 2)), Rows((3, 4))):
        loss_of(shared(ours, rows)[0], rows).backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("name", ["qwen3", "llama", "phi3"])
def test_the_probe_reads_the_same_saliency_from_a_packed_pass(name: str) -> None:
    model, rows = model_of(name), Rows()
    own = SaliencyProbe(model, find_projections(model))
    own.add(rows.ids, rows.kept)
    probe = SaliencyProbe(model, find_projections(model))
    passes = []
    model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    refusal(model)
    checks = len(passes)
    with probe.listening(rows.ids, rows.kept):
        shared(model, rows)
    assert len(passes) == 2 * checks + 1  # the check that `shared` repeats, and the pass itself
    assert probe.tokens == sum(map(len, PROMPTS))
    for name, rows_of in own.saliency().items():
        assert torch.allclose(probe.saliency()[name], rows_of, rtol=1e-5)


@pytest.mark.usefixtures("block")
def test_a_micro_batch_in_which_nothing_is_scored_has_zero_gradients() -> None:
    model, rows = model_of("llama"), Rows((3, 0))
    rows.counted[:] = 0
    log_probs, _ = shared(model, rows)
    (log_probs * rows.weights).sum().backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.parameters())
    assert log_probs.abs().sum() == 0


def test_prompts_are_read_once_and_completions_start_where_their_prompt_ends() -> None:
    rows = Rows((0, 1, 2))
    packed, tokens = rows.packed(), rows.completions.tolist()
    assert packed.input_ids.tolist() == [
        [5, 6, 7, 8, 9, 10, *tokens[0], *tokens[2]],
        [11, 12, 13, 0, 0, 0, *tokens[1], 0, 0, 0, 0],
    ]
    # The columns that they had in TRL's rows, where shorter prompts are padded on the left.
    assert packed.position_ids[0].tolist() == [*range(6), *(6, 7, 8, 9) * 2]
    assert packed.position_ids[1].tolist() == [3, 4, 5, 0, 1, 2, *(6, 7, 8, 9) * 2]
    assert packed.layout[:4] == (6, 2, 4, (6, 3))
    assert packed.predictors.tolist() == [5, 6, 7, 14 + 2, 14 + 6, 14 + 7, 14 + 8, 5, 10]


def test_a_completion_sees_its_prompt_and_itself_only() -> None:
    layout = with_mask(Rows((0, 1, 2)).packed().layout, torch.device("cpu"))
    visible = layout.mask[:, 0]
    assert visible[0, 5].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5, 10, 11]
    assert visible[1, 1].nonzero().flatten().tolist() == [0, 1, 2, 6, 7]


def test_sharing_needs_equal_prompts() -> None:
    rows = Rows()
    assert shares_prompts(rows.ids, rows.kept)
    assert not shares_prompts(rows.ids[:2], rows.kept[:2])


def test_a_model_that_cannot_share_says_why() -> None:
    assert refusal(AutoModelForCausalLM.from_config(Gemma2Config(**SIZES))) == (
        "its attention is eager, not sdpa"
    )
    capped = model_of("llama")
    capped.config.attn_logit_softcapping = 50.0
    assert "attn_logit_softcapping" in refusal(capped)
    narrow = AutoModelForCausalLM.from_config(MistralConfig(sliding_window=4, **SIZES))
    assert refusal(narrow) == "its attention window is 4 tokens"
    assert attention_window(model_of("llama")) is None
    assert attention_window(model_of("mistral, window of 64")) == 64
    scaled = model_of("llama")
    scaled.config.logits_scaling = 8.0
    assert "logits_scaling" in refusal(scaled)
    dropping = model_of("llama")
    dropping.config.attention_dropout = 0.1
    assert "dropout" in refusal(dropping)


def test_a_model_whose_states_differ_is_found_out_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("llama")
    monkeypatch.setattr(prefix_support, "use_prefix_attention", lambda model: None)
    assert "its states differ by" in refusal(model)
    assert model.config._attn_implementation == "sdpa"
