import copy

import pytest
import torch
from torch import nn

from longact_cli.errors import ConfigError
from longact_cli.masking import MaskSchedule, MaskSettings, RowMask, find_projections, select_rows
from longact_cli.masking.strategies import step_generator

from .tiny_models import LAYOUTS, batch, tiny_model

COUNTS = {name: (16, 16 if name.startswith("gpt2") else 8) for name in LAYOUTS}


def random_mask(model: nn.Module, ratio: float = 0.5) -> dict[str, torch.Tensor]:
    shapes = {p.parameter_name: torch.zeros(p.rows) for p in find_projections(model)}
    return select_rows("random", shapes, ratio, step_generator(0, 0))


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_queries_and_keys_of_every_layer_are_found(layout: str) -> None:
    found = find_projections(tiny_model(layout))
    assert [(p.kind, p.rows) for p in found] == [
        ("q", COUNTS[layout][0]),
        ("k", COUNTS[layout][1]),
    ] * 2
    assert {p.head_dim for p in found} == {4}
    assert all((p.norm is not None) == layout.startswith("qwen3") for p in found)
    assert all((p.rotary_dim is None) == layout.startswith("gpt2") for p in found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_saliency_is_that_of_the_vectors_attention_is_computed_from(layout: str) -> None:
    """Scaling one channel of the projection scales the saliency of that channel alone."""
    model = tiny_model(layout)
    settings = MaskSettings("salient", 0.25, "proj")

    def saliency() -> dict[str, torch.Tensor]:
        schedule = MaskSchedule(model, settings)
        schedule.observe(0, batch()["input_ids"], batch()["attention_mask"])
        return dict(schedule._probe.saliency())

    before = saliency()
    first_key = next(p for p in find_projections(model) if p.kind == "k")
    layer = getattr(first_key.module, "base_layer", first_key.module)
    row = first_key.offset + 3
    with torch.no_grad():
        (layer.weight[:, row] if hasattr(layer, "nf") else layer.weight[row]).mul_(2.0)
        if layer.bias is not None:
            layer.bias[row].mul_(2.0)
    after = saliency()
    name = first_key.parameter_name
    expected = before[name].clone()
    expected[3] *= 2
    assert torch.allclose(after[name], expected, rtol=1e-5)
    first_query = find_projections(model)[0].parameter_name
    assert torch.equal(before[first_query], after[first_query])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masked_rows_get_zero_and_everything_else_bitwise_the_dense_gradient(layout: str) -> None:
    dense, masked = tiny_model(layout), tiny_model(layout)
    if "LoRA" in layout:  # lora_B starts at zero, where the gradient of lora_A vanishes
        for model in (dense, masked):
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    nn.init.constant_(parameter, 0.1)
    dense(**batch()).loss.backward()
    mask = random_mask(masked)
    with RowMask(masked) as row_mask:
        row_mask.set_mask(mask)
        row_mask.arm()
        masked(**batch()).loss.backward()
    expected, actual = gradients(dense), gradients(masked)
    assert set(expected) == set(actual)
    touched = set()
    for projection in find_projections(masked):
        for block in projection.blocks:
            rows = torch.arange(block.start, block.stop)[~mask[projection.parameter_name]]
            assert expected[block.name].index_select(block.dim, rows).abs().sum() > 0
            expected[block.name].index_fill_(block.dim, rows, 0.0)
            touched.add(block.name)
    assert all(torch.equal(actual[name], gradient) for name, gradient in expected.items())
    assert len(touched) >= 2
    if layout.startswith("qwen2"):
        assert any(name.endswith("q_proj.bias") for name in touched)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "strategy", ["salient", "random-head-matched", "gradient", "weight", "wanda"]
)
def test_strict_training_leaves_masked_rows_bitwise_alone(layout: str, strategy: str) -> None:
    model = tiny_model(layout)
    site = "norm"
    schedule = MaskSchedule(model, MaskSettings(strategy, 0.5, site, update_semantics="strict"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    schedule.row_mask.hold(optimizer)
    blocks = [(p.parameter_name, b) for p in find_projections(model) for b in p.blocks]
    for step in range(3):
        before = {b.name: b.parameter.detach().clone() for _, b in blocks}
        with schedule.observing(step, batch()["input_ids"], batch()["attention_mask"]):
            loss = model(**batch()).loss
        schedule.arm(step)
        loss.backward()
        optimizer.step()
        for key, block in blocks:
            rows = torch.arange(block.start, block.stop)[~schedule.row_mask.mask[key]]
            now, then = (
                t.index_select(block.dim, rows) for t in (block.parameter, before[block.name])
            )
            assert torch.equal(now, then)
            assert len(rows) == len(schedule.row_mask.mask[key]) // 2
        assert schedule.finish_step().drift_max == 0
        optimizer.zero_grad()


def test_value_rows_of_a_fused_weight_are_never_masked() -> None:
    for layout in ("phi3 (fused qkv)", "gpt2 (Conv1D)"):
        model = tiny_model(layout)
        schedule = MaskSchedule(model, MaskSettings("frozen", 0.0))
        schedule.arm(0)
        model(**batch()).loss.backward()
        projection = find_projections(model, ("v",))[0]
        block = projection.blocks[0]
        rows = torch.arange(block.parameter.shape[block.dim])
        gradient = block.parameter.grad
        assert gradient.index_select(block.dim, rows[: block.start]).abs().sum() == 0
        assert gradient.index_select(block.dim, rows[block.start :]).abs().sum() > 0


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "LoRA" not in name])
def test_values_and_outputs_can_be_masked_as_controls(layout: str) -> None:
    model = tiny_model(layout)
    schedule = MaskSchedule(model, MaskSettings("salient", 0.25, "norm", ("q", "k", "v", "o")))
    schedule.observe(0, batch()["input_ids"], batch()["attention_mask"])
    schedule.arm(0)
    model(**batch()).loss.backward()
    kinds = {
        p.parameter_name: (p.kind, p.rows) for p in find_projections(model, ("q", "k", "v", "o"))
    }
    assert [kind for kind, _ in kinds.values()] == ["q", "k", "v", "o"] * 2
    for name, rows in schedule.row_mask.mask.items():
        assert int(rows.sum()) == kinds[name][1] // 4
    schedule.finish_step()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "gpt2" not in name])
def test_rope_pairs_give_both_rows_of_a_pair_the_same_score(layout: str) -> None:
    schedule = MaskSchedule(tiny_model(layout), MaskSettings("salient", 0.5, "rope_pair"))
    schedule.observe(0, batch()["input_ids"], batch()["attention_mask"])
    for values in schedule._probe.saliency().values():
        heads = values.view(-1, 4)
        assert torch.equal(heads[:, :2], heads[:, 2:])
        assert len(heads.unique()) == heads.numel() // 2


def test_rope_pairs_of_a_model_without_rotation_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not rotate channels in pairs"):
        MaskSchedule(tiny_model("gpt2 (Conv1D)"), MaskSettings("salient", 0.5, "rope_pair"))


@pytest.mark.parametrize("layout", ["qwen2 (bias)", "gpt2 (Conv1D)", "gemma"])
def test_tied_embeddings_keep_their_dense_gradient_and_stay_tied(layout: str) -> None:
    model, dense = tiny_model(layout), tiny_model(layout)
    tied = model.get_input_embeddings().weight
    assert tied is model.get_output_embeddings().weight
    with RowMask(model) as row_mask:
        row_mask.set_mask(random_mask(model, 0.0))
        row_mask.arm()
        model(**batch()).loss.backward()
    dense(**batch()).loss.backward()
    assert torch.equal(tied.grad, dense.get_input_embeddings().weight.grad)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_frozen_rows_of_lora_leave_the_whole_weight_row_alone() -> None:
    model = tiny_model("llama + LoRA")
    schedule = MaskSchedule(model, MaskSettings("salient", 0.5, refresh_every=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(4):
        schedule.observe(step, batch()["input_ids"], batch()["attention_mask"])
        schedule.arm(step)
        model(**batch()).loss.backward()
        optimizer.step()
        schedule.finish_step()
        optimizer.zero_grad()
    for projection in find_projections(model):
        change = projection.module.get_delta_weight("default")
        rows = schedule.row_mask.mask[projection.parameter_name]
        assert change[~rows].abs().max() == 0
        assert (change[rows].abs().amax(dim=1) > 0).all()


class Interleaved(nn.Module):
    """Heads are interleaved in one layer, as in GPT-NeoX."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(8, 24)


class FusedAttention(Interleaved):
    pass


def test_a_layout_that_is_not_understood_is_refused_with_what_was_looked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        find_projections(nn.Sequential(FusedAttention()))
    assert "'q_proj' and 'k_proj'" in str(caught.value)
    assert "'qkv_proj' whose rows are [q|k|v]" in str(caught.value)
    assert "own: query_key_value" in str(caught.value)


def test_a_projection_that_makes_a_gate_as_well_is_refused() -> None:
    model = tiny_model("llama")
    attention = model.model.layers[1].self_attn
    attention.q_proj = nn.Linear(16, 32)
    with pytest.raises(ConfigError, match=r"layers\.1\.self_attn\.q_proj has 32 rows, not 4 h"):
        find_projections(model)


def test_layers_that_share_a_projection_are_refused() -> None:
    model = tiny_model("llama")
    model.model.layers[1].self_attn.q_proj.weight = model.model.layers[0].self_attn.q_proj.weight
    with pytest.raises(ConfigError, match="are one parameter"):
        find_projections(model)


def test_dora_is_refused() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        copy.deepcopy(tiny_model("llama")),
        LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
    )
    with pytest.raises(ConfigError, match="carries DoRA"):
        find_projections(model)
