import pytest
import torch

from longact_cli.masking import MaskSchedule, MaskSettings, SaliencyProbe, find_projections
from longact_cli.masking.tokens import PromptMatcher, all_tokens

from .tiny_models import tiny_model

PAD = 0
PROMPTS = torch.tensor([[PAD, PAD, 5, 6, 7], [PAD, 8, 9, 10, 11], [PAD, PAD, 5, 6, 7]])
KEPT = (PROMPTS != PAD).long()
COMPLETIONS = torch.tensor([[20, 21], [22, 23], [24, 25]])
ROWS = torch.cat([PROMPTS, COMPLETIONS], dim=1)
ROWS_KEPT = torch.cat([KEPT, torch.ones_like(COMPLETIONS)], dim=1)


class Counted:
    """A model with a probe, and how often its decoder ran."""

    def __init__(self, layout: str = "qwen3 (QK norm)") -> None:
        self.model = tiny_model(layout)
        self.probe = SaliencyProbe(self.model, find_projections(self.model))
        self.passes = 0
        self.model.model.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.passes += 1

    def own_pass(self) -> dict[str, torch.Tensor]:
        fresh = SaliencyProbe(self.model, find_projections(self.model))
        fresh.add(PROMPTS, KEPT)
        return dict(fresh.saliency())


def equal(first, second) -> bool:
    return all(torch.allclose(first[name], second[name], rtol=1e-5) for name in second)


def test_the_training_forward_gives_the_saliency_of_a_pass_of_its_own() -> None:
    counted = Counted()
    expected, before = counted.own_pass(), counted.passes
    with counted.probe.listening(PROMPTS, KEPT):
        counted.model(input_ids=ROWS, attention_mask=ROWS_KEPT)
    assert counted.passes == before + 1
    assert counted.probe.tokens == 3 + 4  # the third prompt is the first one again
    assert equal(counted.probe.saliency(), expected)


def test_columns_that_are_padding_in_every_row_may_be_left_out() -> None:
    counted = Counted()
    expected, before = counted.own_pass(), counted.passes
    with counted.probe.listening(PROMPTS, KEPT):
        counted.model(input_ids=ROWS[:2, 1:], attention_mask=ROWS_KEPT[:2, 1:])
    assert counted.passes == before + 1
    assert equal(counted.probe.saliency(), expected)


def test_a_forward_in_several_chunks_counts_every_prompt_once() -> None:
    counted = Counted()
    expected, before = counted.own_pass(), counted.passes
    with counted.probe.listening(PROMPTS, KEPT):
        for row in range(3):
            chunk = slice(row, row + 1)
            counted.model(input_ids=ROWS[chunk], attention_mask=ROWS_KEPT[chunk])
    assert counted.passes == before + 3
    assert counted.probe.tokens == 7
    assert equal(counted.probe.saliency(), expected)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_is_not_counted_twice(reentrant: bool) -> None:
    counted = Counted()
    expected = counted.own_pass()
    model = counted.model.train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    with counted.probe.listening(PROMPTS, KEPT):
        loss = model(input_ids=ROWS, attention_mask=ROWS_KEPT).logits.square().mean()
    loss.backward()
    assert counted.probe.tokens == 7
    assert equal(counted.probe.saliency(), expected)


def test_a_persistent_listener_survives_the_recomputation_of_checkpointing() -> None:
    counted = Counted()
    model = counted.model.train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    counted.probe.start(all_tokens)
    model(input_ids=ROWS, attention_mask=ROWS_KEPT).logits.square().mean().backward()
    found = counted.probe.saliency()
    counted.probe.stop()
    assert counted.probe.tokens == int(ROWS_KEPT.sum())
    fresh = SaliencyProbe(model, find_projections(model))
    fresh.start(all_tokens)
    model.activation_checkpointing_disable()
    model(input_ids=ROWS, attention_mask=ROWS_KEPT)
    fresh.stop()
    assert equal(found, fresh.saliency())


def test_generation_and_scoring_without_gradients_are_not_counted() -> None:
    counted = Counted()
    counted.probe.start(all_tokens)
    with torch.no_grad():
        counted.model(input_ids=ROWS, attention_mask=ROWS_KEPT)
    counted.model.generate(PROMPTS, attention_mask=KEPT, max_new_tokens=2, do_sample=False)
    counted.probe.stop()
    assert counted.probe.tokens == 0


def test_prompts_that_no_forward_begins_with_are_read_in_a_pass_of_their_own() -> None:
    counted = Counted()
    expected, before = counted.own_pass(), counted.passes
    with counted.probe.listening(PROMPTS, KEPT):
        counted.model(input_ids=COMPLETIONS)
    assert counted.passes == before + 2
    assert equal(counted.probe.saliency(), expected)


def test_the_pass_of_its_own_ends_with_the_last_projection() -> None:
    model = tiny_model("qwen3 (QK norm)")
    ran = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda *_: ran.append("mlp"))
    SaliencyProbe(model, find_projections(model)).add(PROMPTS, KEPT)
    assert ran == ["mlp"]  # of the first of two layers


def test_listening_leaves_no_hook() -> None:
    counted = Counted()
    with counted.probe.listening(PROMPTS, KEPT):
        pass
    layers = counted.model.model.layers.modules()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layers)


def test_the_matcher_finds_each_missing_row_once() -> None:
    matcher = PromptMatcher(PROMPTS, KEPT, fresh=[0, 1])
    found = matcher(ROWS[1:2], None)
    assert (found.rows, found.tokens) == ((0,), 4)
    assert matcher.missing == [0]
    assert matcher(ROWS[1:2], None) is None
    assert matcher(PROMPTS[:, :3], None) is None  # shorter than the prompts


def test_prompts_of_another_choice_are_probed_instead_of_the_training_prompts() -> None:
    model = tiny_model("llama")
    ids = torch.tensor([[30, 31, 32]])
    asked = []

    def prompts(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(step)
        return ids, torch.ones_like(ids)

    settings = MaskSettings("salient", 0.5, prompts="short", refresh_every=2)
    schedule = MaskSchedule(model, settings, prompts)
    for step in range(3):
        with schedule.observing(step, PROMPTS, KEPT):
            loss = model(input_ids=ROWS, attention_mask=ROWS_KEPT).logits.sum()
        schedule.arm(step)
        loss.backward()
        schedule.finish_step()
    assert asked == [0, 2]
    assert schedule._probe.tokens == 3


def test_refresh_zero_takes_one_mask_for_the_whole_run() -> None:
    schedule = MaskSchedule(tiny_model("llama"), MaskSettings("random", 0.5, refresh_every=0))
    assert [schedule.refreshes(step) for step in (0, 5)] == [True, True]
    schedule.arm(0)
    assert [schedule.refreshes(step) for step in (1, 2, 1000)] == [False] * 3
