import copy
import math

import pytest
import torch

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.masking import RowMask
from longact_cli.masking.report import mask_overlap

from .masking_toys import K, Q, Toy, toy_mask

BATCHES = (torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 1], [2, 2]]))
HALF = toy_mask([True, False, False, True], [False, True])


def toy(**options: bool) -> Toy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Toy(**options).eval()


def backward(model: Toy, ids: torch.Tensor) -> None:
    (model(ids).square().mean() / 7).backward()


def gradients(model: Toy) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def masked_and_dense(
    batches: tuple[torch.Tensor, ...], **options: bool
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Gradients of the same micro-batches with the mask armed in the last one, and without."""
    dense = toy(**options)
    for ids in batches:
        backward(dense, ids)
    model = toy(**options)
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        for index, ids in enumerate(batches):
            if index == len(batches) - 1:
                row_mask.arm()
            backward(model, ids)
    return gradients(model), gradients(dense)


@pytest.mark.parametrize("batches", [BATCHES[:1], BATCHES], ids=["one batch", "accumulation"])
def test_masked_rows_are_zero_and_the_others_bitwise_the_dense_gradient(
    batches: tuple[torch.Tensor, ...],
) -> None:
    masked, dense = masked_and_dense(batches)
    for name, rows in HALF.items():
        assert torch.equal(masked[name][rows], dense[name][rows])
        assert torch.equal(masked[name][~rows], torch.zeros_like(dense[name][~rows]))
        assert dense[name].abs().min() > 0
    for name in set(dense) - set(HALF):
        assert torch.equal(masked[name], dense[name])


def test_a_bias_follows_the_mask_of_its_weight() -> None:
    masked, dense = masked_and_dense(BATCHES, bias=True)
    bias, rows = "blocks.0.q_proj.bias", HALF[Q]
    assert torch.equal(masked[bias][rows], dense[bias][rows])
    assert masked[bias][~rows].tolist() == [0.0, 0.0]
    assert dense[bias].abs().min() > 0


def test_a_nan_in_a_masked_row_does_not_survive() -> None:
    model = toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        (model(BATCHES[0]).mean() * float("nan")).backward()
    assert model.blocks[0].q_proj.weight.grad[1].item() == 0.0


def test_unarmed_backward_passes_keep_the_dense_gradient() -> None:
    model, dense = toy(), toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        row_mask.disarm()
        backward(model, BATCHES[0])
    backward(dense, BATCHES[0])
    assert torch.equal(gradients(model)[Q], gradients(dense)[Q])


def test_the_clipping_norm_leaves_masked_rows_out() -> None:
    model, (_, dense) = toy(), masked_and_dense(BATCHES[:1])
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        backward(model, BATCHES[0])
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9).item()
    kept = sum(
        gradient[HALF[name]].square().sum() if name in HALF else gradient.square().sum()
        for name, gradient in dense.items()
    )
    everything = sum(gradient.square().sum() for gradient in dense.values())
    assert norm == pytest.approx(math.sqrt(kept), rel=1e-6)
    assert norm < 0.999 * math.sqrt(everything)


def test_the_report_has_the_hand_computed_norms_and_ratios() -> None:
    model = toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        for name, gradient in ((Q, [1.0, 2.0, 2.0, 4.0]), (K, [8.0, 6.0])):
            weight = model.get_parameter(name)
            (weight * torch.tensor(gradient).unsqueeze(1)).sum().backward()
        report = row_mask.finish_step()
    assert report.update_ratios == {Q: 0.5, K: 0.5}
    assert report.dense_norm == pytest.approx(math.sqrt(1 + 4 + 4 + 16 + 64 + 36))
    assert report.kept_norm == pytest.approx(math.sqrt(1 + 16 + 36))
    metrics = report.metrics()
    assert metrics["mask/kept_grad_norm_share"] == pytest.approx(math.sqrt(53 / 125))
    assert metrics["mask/update_ratio"] == 0.5
    ratios = {n: v for n, v in metrics.items() if n.startswith("mask/update_ratio/")}
    assert ratios == {f"mask/update_ratio/{name}": 0.5 for name in (Q, K)}


def test_drift_is_what_masked_rows_moved_over_the_optimizer_step() -> None:
    model = toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        backward(model, BATCHES[0])
        with torch.no_grad():
            model.get_parameter(Q).add_(torch.tensor([[9.0], [3.0], [12.0], [9.0]]))
            model.get_parameter(K).add_(torch.tensor([[-4.0], [9.0]]))
        report = row_mask.finish_step()
    assert report.drift_norm == pytest.approx(13.0)  # rows q1 (3), q2 (12) and k0 (-4)
    assert report.drift_max == pytest.approx(12.0)


def test_adamw_without_decay_moves_no_masked_row_in_its_first_step() -> None:
    model = toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        backward(model, BATCHES[0])
        optimizer.step()
        assert row_mask.finish_step().drift_max == 0.0


def test_momentum_moves_newly_masked_rows_and_the_report_says_so() -> None:
    model = toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    flipped = {name: ~rows for name, rows in HALF.items()}
    with RowMask(model) as row_mask:
        for mask in (HALF, flipped):
            row_mask.set_mask(mask)
            row_mask.arm()
            backward(model, BATCHES[0])
            optimizer.step()
            report = row_mask.finish_step()
            optimizer.zero_grad()
    # First step: m = 0.1 g, v = 0.001 g^2. Second, g = 0: m = 0.09 g, v = 0.000999 g^2; bias-
    # corrected by 1 - 0.9^2 = 0.19 and 1 - 0.999^2 = 0.001999: a move of lr * 0.4737 / 0.7069.
    move = 0.1 * (0.09 / 0.19) / math.sqrt(0.000999 / 0.001999)
    assert report.drift_max == pytest.approx(move, rel=1e-4)


def test_overlap_with_the_previous_mask_is_the_jaccard_index() -> None:
    other = toy_mask([True, True, False, False], [False, True])
    assert mask_overlap(HALF, other) == pytest.approx(2 / 4)  # shared q0 k1; either q0 q1 q3 k1
    empty = toy_mask([False] * 4, [False] * 2)
    assert mask_overlap(empty, empty) == 1.0


def test_overlap_is_unknown_at_first_then_compares_with_the_step_before() -> None:
    model = toy()
    other = toy_mask([True, True, False, False], [False, True])
    overlaps = []
    with RowMask(model) as row_mask:
        for mask in (HALF, other, None):
            if mask is not None:
                row_mask.set_mask(mask)
            row_mask.arm()
            backward(model, BATCHES[0])
            overlaps.append(row_mask.finish_step().overlap)
    assert overlaps == [None, 0.5, 1.0]


def test_dense_training_installs_no_hook_and_reports_ratio_one() -> None:
    model = toy()
    row_mask = RowMask(model)
    row_mask.set_mask(toy_mask([True] * 4, [True] * 2))
    row_mask.arm()
    backward(model, BATCHES[0])
    assert not model.blocks[0].q_proj.weight._post_accumulate_grad_hooks
    assert row_mask.finish_step().metrics()["mask/update_ratio"] == 1.0


def test_remove_leaves_no_hook_behind() -> None:
    model = toy(bias=True)
    row_mask = RowMask(model)
    row_mask.set_mask(HALF)
    row_mask.arm()
    assert model.blocks[0].q_proj.bias._post_accumulate_grad_hooks
    row_mask.remove()
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("replaced", [("k_proj",), ("q_proj", "k_proj")])
def test_parameters_that_sharding_replaces_are_hooked_anew(replaced: tuple[str, ...]) -> None:
    model = toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        backward(model, BATCHES[0])
        row_mask.finish_step()
        for name in replaced:
            module = getattr(model.blocks[0], name)
            module.weight = torch.nn.Parameter(module.weight.detach().clone())
        model.zero_grad()
        row_mask.arm()
        backward(model, BATCHES[0])
        row_mask.finish_step()
    for name, rows in HALF.items():
        assert not model.get_parameter(name).grad[~rows].any()


def test_a_backend_that_hides_gradients_is_noticed() -> None:
    row_mask = RowMask(toy())
    row_mask.set_mask(HALF)
    row_mask.arm()
    with pytest.raises(PrerequisiteError, match=r"never saw the gradient of blocks\.0"):
        row_mask.finish_step()


def test_a_mask_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 weights with 4 rows; the model needs 2 weights"):
        RowMask(toy()).set_mask({Q: torch.ones(4, dtype=torch.bool)})


def test_arming_or_finishing_out_of_order_is_refused() -> None:
    row_mask = RowMask(toy())
    with pytest.raises(ConfigError, match="before set_mask"):
        row_mask.arm()
    row_mask.set_mask(HALF)
    with pytest.raises(ConfigError, match="without arm"):
        row_mask.finish_step()


def test_a_row_mask_is_armed_for_one_step_and_not_after_its_removal() -> None:
    model = toy()
    row_mask = RowMask(model)
    row_mask.set_mask(HALF)
    assert not row_mask.armed
    assert not list(row_mask.masked_rows())
    row_mask.arm()
    assert row_mask.armed
    assert {masked.name for masked, _, _ in row_mask.masked_rows()} == set(HALF)
    backward(model, BATCHES[0])
    row_mask.finish_step()
    assert not row_mask.armed
    row_mask.arm()
    row_mask.disarm()
    assert not list(row_mask.masked_rows())
    row_mask.arm()
    row_mask.remove()
    assert not row_mask.armed


def test_two_row_masks_do_not_disturb_each_other() -> None:
    first, second = toy(), copy.deepcopy(toy())
    with RowMask(first) as row_mask:
        row_mask.set_mask(HALF)
        row_mask.arm()
        backward(first, BATCHES[0])
        backward(second, BATCHES[0])
    assert gradients(second)[Q].abs().min() > 0
