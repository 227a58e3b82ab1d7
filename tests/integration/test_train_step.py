"""What happens inside one optimizer step of the real trainer."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from longact_cli.masking import SaliencyProbe, find_projections, select_rows
from longact_cli.models.loading import load_model
from plain_flex import allow_flex_on_the_cpu

from .trainer_runs import log_probs, norm_of, run
from .training_helpers import cell, with_many_end_tokens

ONE_UPDATE = {"steps": 1, "updates_per_rollout": 1, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_many_end_tokens(tiny_checkpoint, tmp_path_factory.mktemp("model") / "checkpoint")


def test_masked_rows_get_zero_and_all_else_bitwise_the_dense_gradient(
    checkpoint: Path, tmp_path: Path
) -> None:
    masked, trainer = run(cell(checkpoint, **ONE_UPDATE), tmp_path / "masked")
    dense, _ = run(cell(checkpoint, strategy="dense", **ONE_UPDATE), tmp_path / "dense")
    assert len(masked.batches) == 2  # gradient accumulation
    mask = trainer._schedule.row_mask.mask
    for name, gradient in dense.gradients[0].items():
        rows = mask.get(name, torch.ones(len(gradient), dtype=torch.bool))
        assert torch.equal(masked.gradients[0][name][rows], gradient[rows])
        assert masked.gradients[0][name][~rows].abs().sum() == 0
    assert all(dense.gradients[0][name][~rows].abs().sum() > 0 for name, rows in mask.items())


def test_the_logged_norm_is_clipped_after_the_mask(checkpoint: Path, tmp_path: Path) -> None:
    config = cell(checkpoint, **{**ONE_UPDATE, "max_grad_norm": 1e-3})
    clipped, _ = run(config, tmp_path / "clipped")
    whole, trainer = run(cell(checkpoint, **ONE_UPDATE), tmp_path / "whole")
    dense, _ = run(cell(checkpoint, strategy="dense", **ONE_UPDATE), tmp_path / "dense")
    assert clipped.logs[0]["grad_norm"] == pytest.approx(norm_of(whole.gradients[0]), rel=1e-5)
    assert clipped.logs[0]["grad_norm"] < dense.logs[0]["grad_norm"]
    assert norm_of(clipped.gradients[0]) == pytest.approx(1e-3, rel=1e-3)
    kept = {name: whole.gradients[0][name] for name in trainer._schedule.row_mask.mask}
    everything = {name: dense.gradients[0][name] for name in kept}
    logs = whole.logs[0]
    assert logs["mask/qk_grad_norm"] == pytest.approx(norm_of(kept), rel=1e-5)
    assert logs["mask/kept_grad_norm_share"] == pytest.approx(
        norm_of(kept) / norm_of(everything), rel=1e-5
    )
    assert logs["mask/qk_share_of_grad_norm"] == pytest.approx(
        norm_of(kept) / norm_of(whole.gradients[0]), rel=1e-5
    )


def test_the_mask_is_the_one_of_the_distinct_prompts_of_the_step(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(checkpoint, **ONE_UPDATE)
    recorder, trainer = run(config, tmp_path)
    model = load_model(config.model.path, model=config.model)
    probe = SaliencyProbe(model, find_projections(model), site="norm")
    prompts = {
        tuple(ids[kept.bool()].tolist())
        for batch in recorder.batches
        for ids, kept in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)
    }
    assert len(prompts) == 2
    for prompt in prompts:
        ids = torch.tensor([prompt])
        probe.add(ids, torch.ones_like(ids))
    expected = select_rows("salient", probe.saliency(), config.mask.sparsity)
    actual = trainer._schedule.row_mask.mask
    assert all(torch.equal(actual[name], rows) for name, rows in expected.items())


def test_drift_is_the_move_of_masked_rows_between_two_optimizer_steps(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(checkpoint, **{**ONE_UPDATE, "steps": 3, "learning_rate": 0.05})
    recorder, trainer = run(config, tmp_path)
    mask = trainer._schedule.row_mask.mask
    after = dict(trainer.model.named_parameters())
    moved = {
        name: (after[name].detach() - recorder.weights[2][name])[~rows]
        for name, rows in mask.items()
    }
    assert recorder.logs[0]["mask/masked_drift_norm"] == 0.0  # no momentum yet
    assert norm_of(moved) > 0
    assert recorder.logs[2]["mask/masked_drift_norm"] == pytest.approx(norm_of(moved), rel=1e-5)
    largest = max(move.abs().max().item() for move in moved.values())
    assert recorder.logs[2]["mask/masked_drift_max"] == pytest.approx(largest, rel=1e-6)


def test_training_leaves_no_hooks(checkpoint: Path, tmp_path: Path) -> None:
    _, trainer = run(cell(checkpoint, **ONE_UPDATE), tmp_path)
    assert not any(p._post_accumulate_grad_hooks for p in trainer.model.parameters())
    assert not any(module._forward_hooks for module in trainer.model.modules())


@pytest.mark.parametrize("share", [True, False], ids=["shared prefix", "separate sequences"])
def test_the_dapo_loss_equals_an_independent_formula(
    share: bool, checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(
        checkpoint, steps=2, temperature=0.8, share_prompt_prefix=share, learning_rate=0.02
    )
    recorder, _ = run(config, tmp_path)
    model = load_model(config.model.path, model=config.model)
    low, high, updates = config.algorithm.clip_low, config.algorithm.clip_high, 2
    clipped = 0.0
    for index, (batch, loss) in enumerate(zip(recorder.batches, recorder.losses, strict=True)):
        model.load_state_dict({**model.state_dict(), **recorder.weights[index // 2]})
        with torch.no_grad():
            importance = torch.exp(log_probs(model, batch, 0.8) - batch["old_per_token_logps"])
        advantage = batch["advantages"].unsqueeze(1)
        bounded = importance.clamp(1 - low, 1 + high)
        gain = torch.minimum(importance * advantage, bounded * advantage)
        # Token mean over one optimizer step: its share of the tokens of all updates.
        tokens = batch["num_items_in_batch"] / updates
        expected = -(gain * batch["completion_mask"]).sum() / tokens
        assert loss == pytest.approx(expected.item(), abs=1e-6)
        clipped += float((gain < importance * advantage).float().mean())
    assert len(recorder.losses) == 4
    assert clipped > 0  # the formula was tested where clipping acts
    assert max(map(abs, recorder.losses)) > 1e-3


def test_the_first_update_on_new_rollouts_is_on_policy(checkpoint: Path, tmp_path: Path) -> None:
    config = cell(checkpoint, steps=2)
    recorder, _ = run(config, tmp_path)
    model = load_model(config.model.path, model=config.model)

    def importance(batch: dict[str, Tensor]) -> Tensor:
        ratios = torch.exp(log_probs(model, batch, 1.0) - batch["old_per_token_logps"])
        return ratios[batch["completion_mask"].bool()]

    with torch.no_grad():
        first = torch.cat([importance(batch) for batch in recorder.batches[:2]])
        assert torch.allclose(first, torch.ones_like(first), atol=1e-5)
        model.load_state_dict({**model.state_dict(), **recorder.weights[1]})
        second = torch.cat([importance(batch) for batch in recorder.batches[2:]])
        assert (second - 1).abs().max() > 0.01


SHARED = {
    "dapo": {},
    "grpo": {"kl_coef": 0.5, "gradient_checkpointing": True, "learning_rate": 1e-3},  # reference
    "cispo": {
        **{"updates_per_rollout": 2, "steps": 2, "checkpoint_every": 2},  # old log-probs
        "learning_rate": 1e-3,
    },
}


@pytest.mark.parametrize(
    ("algorithm", "attention"), [*((name, "sdpa") for name in SHARED), ("grpo", "flex")]
)
def test_sharing_the_prompt_changes_no_token_loss_mask_or_gradient(
    algorithm: str,
    attention: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allow_flex_on_the_cpu(monkeypatch)
    changes = {**ONE_UPDATE, "prompts_per_step": 3, "micro_batch_size": 6, **SHARED[algorithm]}
    config = cell(checkpoint, algorithm=algorithm, prefix_attention=attention, **changes)
    shared, ours = run(config, tmp_path / "shared")
    config = cell(checkpoint, algorithm=algorithm, share_prompt_prefix=False, **changes)
    separate, theirs = run(config, tmp_path / "separate")
    assert ours._shares
    assert ours._flex == (attention == "flex")
    assert not theirs._shares
    completions = [[b["completion_ids"] for b in r.batches] for r in (shared, separate)]
    assert all(torch.equal(mine, yours) for mine, yours in zip(*completions, strict=True))
    assert shared.losses == pytest.approx(separate.losses, abs=1e-6)
    assert max(map(abs, separate.losses)) > 1e-3
    masks = [trainer._schedule.row_mask.mask for trainer in (ours, theirs)]
    assert all(torch.equal(rows, masks[1][name]) for name, rows in masks[0].items())
    for name, gradient in separate.gradients[0].items():
        scale = gradient.abs().max().item()
        assert torch.allclose(shared.gradients[0][name], gradient, atol=1e-5 * scale), name


class LayerRuns(TrainerCallback):
    """Counts how often the last layer's MLP runs during an update, recomputation included."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_begin(self, args, state, control, model, **_) -> None:
        def count(*_: object) -> None:
            self.count += torch.is_grad_enabled() and model.training

        # Recomputation ends within the last layer: what it needs from there is known then.
        model.model.layers[-1].mlp.register_forward_pre_hook(count)


@pytest.mark.filterwarnings("error:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [("dapo", {}), ("dapo", {"share_prompt_prefix": False}), ("sft", {})],
    ids=["shared", "separate", "sft"],
)
def test_checkpointing_runs_every_layer_again_and_trains_the_same(
    algorithm: str, changes: dict, checkpoint: Path, tmp_path: Path
) -> None:
    runs, found = [], []
    for setting in (False, True):
        layers = LayerRuns()
        changed = {**ONE_UPDATE, **changes, "gradient_checkpointing": setting}
        config = cell(checkpoint, algorithm=algorithm, **changed)
        recorder, _ = run(config, tmp_path / str(setting), [layers])
        runs.append(layers.count)
        found.append(recorder)
    assert runs[0] > 0
    assert runs[1] == 2 * runs[0]
    plain, saving = found
    assert saving.losses == pytest.approx(plain.losses, abs=1e-6)
    for name, gradient in plain.gradients[0].items():
        scale = max(gradient.abs().max().item(), 1e-12)
        assert torch.allclose(saving.gradients[0][name], gradient, atol=1e-5 * scale), name


def test_a_model_that_cannot_share_trains_as_trl_does_and_says_so_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    from longact_cli.training import scoring

    monkeypatch.setattr(scoring, "refusal", lambda model: "its attention is of another kind")
    recorder, trainer = run(cell(checkpoint, kl_coef=0.5, **ONE_UPDATE), tmp_path)
    assert not trainer._shares
    assert trainer.rollout_func is None
    assert len(recorder.losses) == 2
    said = [line for line in caplog.messages if "prompts are not shared" in line]
    assert len(said) == 1
    assert "its attention is of another kind" in said[0]


def test_micro_batches_that_cut_groups_are_named_once(
    checkpoint: Path, tmp_path: Path, caplog
) -> None:
    from longact_cli.training import scoring

    scoring.say_groups_are_cut.cache_clear()
    one_step = {**ONE_UPDATE, "steps": 1, "checkpoint_every": 1}
    run(cell(checkpoint, micro_batch_size=1, **one_step), tmp_path)
    said = [line for line in caplog.messages if "cut the groups of 4" in line]
    assert len(said) == 1
    assert "read at least 4 times in a step and never shared" in said[0]
    assert "algorithm.micro_batch_tokens" in said[0]


def test_flex_that_fails_gives_way_to_sdpa_and_the_log_says_so_once(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked, trainer = run(cell(checkpoint, prefix_attention="flex", **ONE_UPDATE), tmp_path / "flex")
    plain, _ = run(cell(checkpoint, **ONE_UPDATE), tmp_path / "sdpa")
    assert trainer._shares
    assert not trainer._flex
    assert asked.losses == plain.losses
    said = [line for line in caplog.messages if "prefix_attention=flex is not used" in line]
    assert len(said) == 1
    assert "torch's FlexAttention has no backward pass on the CPU" in said[0]


def test_whole_groups_give_every_micro_batch_one_prompt_and_use_each_rollout_once(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(checkpoint, whole_groups=True, steps=2)
    recorder, _ = run(config, tmp_path)
    assert len(recorder.batches) == 4  # of four rollouts, the size of a group
    assert all(len(b["prompt_ids"].unique(dim=0)) == 1 for b in recorder.batches)
    rows = torch.cat([batch["prompt_ids"] for batch in recorder.batches])
    assert len(rows.unique(dim=0)) == 4
    assert all(loss != 0.0 for loss in recorder.losses)


def test_truncated_completions_are_left_out_of_the_dapo_loss(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(
        checkpoint, mask_truncated_completions=True, max_completion_tokens=3, **ONE_UPDATE
    )
    recorder, _ = run(config, tmp_path)
    truncated = recorder.logs[0]["completions/clipped_ratio"]
    left_out = [not kept.any() for batch in recorder.batches for kept in batch["completion_mask"]]
    assert 0 < truncated < 1
    assert sum(left_out) / len(left_out) == truncated
