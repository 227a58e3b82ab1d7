from pathlib import Path

import torch

from longact_cli.masking import MaskSchedule
from longact_cli.masking.schedule import MaskSettings

from .masking_toys import K, Q, Toy

SETTINGS = MaskSettings("salient", 0.5, "proj", ("q", "k"), refresh_every=1, seed=0)
IDS, ONES = torch.tensor([[1, 3]]), torch.ones(1, 2, dtype=torch.long)


def step(schedule: MaskSchedule, model: Toy, number: int) -> dict[str, list[bool]]:
    schedule.observe(number, IDS, ONES)
    schedule.arm(number)
    model(IDS).sum().backward()
    schedule.row_mask.finish_step()
    return {name: rows.tolist() for name, rows in schedule.row_mask.mask.items()}


def test_the_mask_of_a_step_comes_from_its_prompts() -> None:
    model = Toy()
    mask = step(MaskSchedule(model, SETTINGS), model, 0)
    assert mask == {Q: [False, False, True, True], K: [True, False]}  # |w| 1 2 3 4 and .5 .25


def test_a_mask_is_kept_until_the_next_refresh() -> None:
    model = Toy()
    schedule = MaskSchedule(model, SETTINGS._replace(refresh_every=3))
    masks = []
    for number in range(4):
        masks.append(step(schedule, model, number)[Q])
        with torch.no_grad():
            model.blocks[0].q_proj.weight.copy_(torch.tensor([[9.0], [8.0], [1.0], [1.0]]))
    assert masks[:3] == [[False, False, True, True]] * 3
    assert masks[3] == [True, True, False, False]


def test_strategies_without_saliency_never_run_the_model() -> None:
    for strategy in ("random", "dense", "frozen"):
        model = Toy()
        schedule = MaskSchedule(model, SETTINGS._replace(strategy=strategy))
        model.register_forward_hook(lambda *_: (_ for _ in ()).throw(AssertionError("ran")))
        schedule.observe(0, IDS, ONES)
        schedule.arm(0)


def test_targets_leave_the_other_projection_dense() -> None:
    model = Toy().eval()  # dropout may drop every token of so short a prompt
    schedule = MaskSchedule(model, SETTINGS._replace(targets=("q",), update_ratio=0.0))
    assert set(step(schedule, model, 0)) == {Q}
    assert model.blocks[0].q_proj.weight.grad.abs().max() == 0
    assert model.blocks[0].k_proj.weight.grad.abs().min() > 0


def test_a_saved_mask_is_used_until_the_next_refresh_after_a_restore(tmp_path: Path) -> None:
    settings = SETTINGS._replace(refresh_every=4)
    model = Toy()
    schedule = MaskSchedule(model, settings)
    saved = step(schedule, model, 0)
    schedule.save(tmp_path / "mask.safetensors")

    resumed_model = Toy()
    with torch.no_grad():
        resumed_model.blocks[0].q_proj.weight.fill_(1.0)
    resumed = MaskSchedule(resumed_model, settings)
    resumed.restore(tmp_path / "mask.safetensors")
    assert step(resumed, resumed_model, 1) == saved


def test_nothing_is_saved_before_the_first_mask(tmp_path: Path) -> None:
    MaskSchedule(Toy(), SETTINGS).save(tmp_path / "mask.safetensors")
    assert not list(tmp_path.iterdir())
