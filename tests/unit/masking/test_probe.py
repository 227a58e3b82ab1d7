import pytest
import torch

from longact_cli.errors import ConfigError
from longact_cli.masking import SaliencyProbe, find_projections

from .masking_toys import K, Q, Toy

ONES = torch.ones(1, 2, dtype=torch.long)


def probe_of(model: Toy, site: str = "proj") -> SaliencyProbe:
    return SaliencyProbe(model, find_projections(model), site=site)


def test_saliency_is_the_mean_absolute_projection_over_tokens() -> None:
    probe = probe_of(Toy())
    probe.add(torch.tensor([[1, 3]]), ONES)  # embeddings 1 and 3: mean 2
    assert probe.saliency()[Q].tolist() == [2.0, 4.0, 6.0, 8.0]
    assert probe.saliency()[K].tolist() == [1.0, 0.5]
    assert probe.tokens == 2


def test_padding_on_either_side_counts_for_nothing() -> None:
    probe = probe_of(Toy())
    ids = torch.tensor([[9, 1, 3], [5, 9, 9]])
    probe.add(ids, torch.tensor([[0, 1, 1], [1, 0, 0]]))  # (1 + 3 + 5) / 3 = 3
    assert probe.saliency()[Q].tolist() == [3.0, 6.0, 9.0, 12.0]


def test_the_prompt_of_a_group_counts_once_within_and_across_micro_batches() -> None:
    probe = probe_of(Toy())
    probe.add(torch.tensor([[1, 3], [1, 3], [0, 5]]), torch.tensor([[1, 1], [1, 1], [0, 1]]))
    probe.add(torch.tensor([[1, 3]]), ONES)
    assert probe.tokens == 3
    assert probe.saliency()[K].tolist() == [1.5, 0.75]


def test_micro_batches_are_pooled_token_by_token() -> None:
    probe = probe_of(Toy())
    probe.add(torch.tensor([[1, 2]]), ONES)
    probe.add(torch.tensor([[9]]), torch.ones(1, 1))
    assert probe.saliency()[Q].tolist() == [4.0, 8.0, 12.0, 16.0]  # (1 + 2 + 9) / 3 = 4


def test_reset_forgets_sums_and_prompts() -> None:
    probe = probe_of(Toy())
    probe.add(torch.tensor([[9, 9]]), ONES)
    probe.reset()
    probe.add(torch.tensor([[9, 9]]), ONES)
    assert probe.tokens == 2


def test_the_norm_site_reads_the_vector_after_qk_norm() -> None:
    probe = probe_of(Toy(norm=True), "norm")
    probe.add(torch.tensor([[1, 3]]), ONES)
    # Head (1, -2): rms sqrt(2.5); head (3, 4): rms sqrt(12.5). The token's scale cancels.
    first, second = 2.5**-0.5, 12.5**-0.5
    expected = [first, 2 * first, 3 * second, 4 * second]
    assert probe.saliency()[Q].tolist() == pytest.approx(expected, rel=1e-6)


def test_without_qk_norm_the_norm_site_is_the_projection() -> None:
    at_norm, at_projection = probe_of(Toy(), "norm"), probe_of(Toy(), "proj")
    for probe in (at_norm, at_projection):
        probe.add(torch.tensor([[1, 3]]), ONES)
    assert torch.equal(at_norm.saliency()[Q], at_projection.saliency()[Q])


def test_the_norm_site_of_a_transformers_model_equals_its_own_modules(tiny_checkpoint) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    projections = find_projections(model)
    ids = torch.randint(0, 100, (2, 7), generator=torch.Generator().manual_seed(1))
    seen = {}
    norm = model.model.layers[2].self_attn.q_norm
    handle = norm.register_forward_hook(lambda module, inputs, output: seen.update(q=output))
    model(input_ids=ids)
    handle.remove()
    probe = SaliencyProbe(model, projections, site="norm")
    probe.add(ids, torch.ones_like(ids))
    expected = seen["q"].abs().flatten(2).mean(dim=(0, 1))
    actual = probe.saliency()["model.layers.2.self_attn.q_proj.weight"]
    assert torch.allclose(actual, expected, rtol=1e-5)


def test_dropout_is_off_in_the_probe_and_modes_come_back() -> None:
    model = Toy().train()
    model.blocks[0].eval()
    probe = probe_of(model)
    probe.add(torch.tensor([[1, 3]]), ONES)
    assert probe.saliency()[Q][0].item() == 2.0
    assert model.training
    assert model.dropout.training
    assert not model.blocks[0].training


def test_the_probe_leaves_no_hook_no_gradient_and_no_random_draw() -> None:
    model = Toy()
    before = torch.random.get_rng_state()
    probe_of(model).add(torch.tensor([[1, 3]]), ONES)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_saliency_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no prompt was probed"):
        probe_of(Toy()).saliency()


def test_an_unknown_norm_layout_is_refused() -> None:
    model = Toy(norm=True)
    projections = find_projections(model)
    model.blocks[0].q_norm.register_forward_hook(lambda m, i, output: output.transpose(1, 2))
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(ConfigError, match=r"mask\.site=proj"):
        SaliencyProbe(model, projections, site="norm").add(ids, torch.ones_like(ids))
