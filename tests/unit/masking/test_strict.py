import copy

import pytest
import torch

from longact_cli.errors import PrerequisiteError
from longact_cli.masking import MaskSchedule, MaskSettings, RowMask
from longact_cli.masking.strict import torch_optimizer

from .masking_toys import K, Q, Toy, toy_mask

KERNELS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
DECAY, RATE = 0.1, 1e-2


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(1, 16, (2, 6), generator=generator) for _ in range(count)]


def adamw(model: torch.nn.Module, kernel: str, decay: float = DECAY) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=decay, **KERNELS[kernel])


def loss_of(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    # Linear in the masked rows: what is left out of one row changes no other row's gradient.
    attention = model.blocks[0]
    states = model.embed(ids).mean(dim=(0, 1)).detach()
    return sum(
        (w.weight.squeeze(1) * states * i).sum()
        for i, w in ((1, attention.q_proj), (2, attention.k_proj))
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_masked_rows_move_by_exactly_zero_in_each_of_fifty_steps(kernel: str) -> None:
    model = Toy().eval()
    schedule = MaskSchedule(model, MaskSettings("random", 0.5, update_semantics="strict"))
    optimizer = adamw(model, kernel)
    schedule.row_mask.hold(optimizer)
    moved_when_active = 0.0
    for step, ids in enumerate(batches(50)):
        before = {name: model.get_parameter(name).detach().clone() for name in (Q, K)}
        schedule.arm(step)
        model(ids).square().mean().backward()
        optimizer.step()
        mask = schedule.row_mask.mask
        for name, values in before.items():
            moved = (model.get_parameter(name).detach() - values).abs()
            assert moved[~mask[name]].max() == 0.0
            moved_when_active = max(moved_when_active, moved[mask[name]].max().item())
        report = schedule.finish_step()
        assert report.drift_max == 0.0
        optimizer.zero_grad()
    assert moved_when_active > RATE / 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_active_rows_are_bitwise_those_of_plain_adamw(kernel: str) -> None:
    held, plain = Toy(), Toy()
    optimizers = adamw(held, kernel), adamw(plain, kernel)
    active = toy_mask([True, False, False, True], [False, True])
    with RowMask(held) as row_mask:
        row_mask.set_mask(active)
        row_mask.hold(optimizers[0])
        for ids in batches(30):
            row_mask.arm()
            for model, optimizer in zip((held, plain), optimizers, strict=True):
                loss_of(model, ids).backward()
                optimizer.step()
                optimizer.zero_grad()
            row_mask.finish_step()
    start = Toy()
    for name, rows in active.items():
        ours, theirs = held.get_parameter(name), plain.get_parameter(name)
        assert torch.equal(ours[rows], theirs[rows])
        assert torch.equal(ours[~rows], start.get_parameter(name)[~rows])
        assert (theirs[~rows] != start.get_parameter(name)[~rows]).all()


def test_gradient_semantics_let_decay_and_momentum_move_a_masked_row() -> None:
    model = Toy().eval()
    schedule = MaskSchedule(model, MaskSettings("random", 0.5))
    optimizer = adamw(model, "loop")
    drift = []
    for step, ids in enumerate(batches(3)):
        schedule.arm(step)
        model(ids).square().mean().backward()
        optimizer.step()
        drift.append(schedule.finish_step().drift_max)
        optimizer.zero_grad()
    assert drift[0] > 0  # decay alone: there is no momentum yet
    assert max(drift[1:]) > RATE / 10


def test_a_row_that_becomes_active_again_starts_without_momentum() -> None:
    model = Toy()
    optimizer = adamw(model, "loop", decay=0.0)
    on, off = toy_mask([True] * 4, [True] * 2), toy_mask([False] * 4, [True] * 2)
    with RowMask(model) as row_mask:
        row_mask.hold(optimizer)
        for mask in (on, off):
            row_mask.set_mask(mask)
            row_mask.arm()
            loss_of(model, batches(1)[0]).backward()
            optimizer.step()
            row_mask.finish_step()
            optimizer.zero_grad()
    state = optimizer.state[model.blocks[0].q_proj.weight]
    assert state["exp_avg"].abs().max() == 0
    assert state["exp_avg_sq"].abs().max() == 0
    assert optimizer.state[model.blocks[0].k_proj.weight]["exp_avg"].abs().min() > 0


def test_strict_adds_no_parameter_group_and_remove_takes_the_hooks_away() -> None:
    model = Toy()
    optimizer = adamw(model, "loop")
    groups = copy.deepcopy([len(group["params"]) for group in optimizer.param_groups])
    row_mask = RowMask(model)
    row_mask.hold(optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == groups
    row_mask.remove()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_wrapped_optimizer_is_hooked_inside() -> None:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    Accelerator(cpu=True)
    inner = adamw(Toy(), "loop")
    assert torch_optimizer(AcceleratedOptimizer(inner, device_placement=False)) is inner


def test_an_optimizer_that_moves_masked_rows_all_the_same_is_refused() -> None:
    model = Toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(toy_mask([False] * 4, [True] * 2))
        row_mask.hold(adamw(model, "loop"))
        row_mask.arm()
        loss_of(model, batches(1)[0]).backward()
        with torch.no_grad():
            model.blocks[0].q_proj.weight.add_(1.0)  # not through the optimizer
        with pytest.raises(PrerequisiteError, match="a masked row moved by 1 with"):
            row_mask.finish_step()


def test_a_gradient_written_after_the_mask_is_noticed_in_the_first_step() -> None:
    model = Toy()
    with RowMask(model) as row_mask:
        row_mask.set_mask(toy_mask([False] * 4, [True] * 2))
        row_mask.arm()
        loss_of(model, batches(1)[0]).backward()
        model.blocks[0].q_proj.weight.grad.add_(1.0)
        with pytest.raises(PrerequisiteError, match=r"masked rows of blocks\.0\.q_proj"):
            row_mask.finish_step()
