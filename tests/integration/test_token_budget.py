"""Steps divided by tokens against the same steps undivided, in the real trainer."""

from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from longact_cli.config.schema import RunConfig
from longact_cli.training import grpo, scoring

from .trainer_runs import Recorder, run
from .training_helpers import cell, with_many_end_tokens

OFF_POLICY = {"updates_per_rollout": 2, "steps": 2, "checkpoint_every": 2, "learning_rate": 1e-3}
BUDGET = 330  # tokens: the group of a short prompt (about 160), two rollouts of a long one (310)
CASES: dict[str, dict[str, object]] = {
    "dapo": {"algorithm": "dapo", "mask_truncated_completions": True},
    "grpo": {"algorithm": "grpo", "kl_coef": 0.5, "gradient_checkpointing": True, **OFF_POLICY},
    "dr-grpo": {"algorithm": "dr-grpo", **OFF_POLICY},
    "bnpo": {"algorithm": "dapo", "loss_type": "bnpo", "mask_truncated_completions": True},
    "gspo": {"algorithm": "gspo", "clip_low": 0.02, "clip_high": 0.03, **OFF_POLICY},
    "cispo": {"algorithm": "cispo", "clip_high": 0.1, **OFF_POLICY},
    "clip-cov": {"algorithm": "clip-cov", "cov_ratio": 0.3, "cov_low": 0.01},
    "kl-cov": {"algorithm": "kl-cov", "cov_ratio": 0.25, "cov_kl_coef": 1.0, **OFF_POLICY},
    "filter": {
        **{"algorithm": "dapo", "loss_type": "bnpo", "dynamic_sampling": "filter", "seed": 1},
        **{"reward": "test_rare", "share_prompt_prefix": False},
    },
}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_many_end_tokens(tiny_checkpoint, tmp_path_factory.mktemp("model") / "checkpoint")


class SameWeights(TrainerCallback):
    """Begins every step with the weights of another run: rounding does not add up."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_step_begin(self, args, state, control, model, **_) -> None:
        model.load_state_dict(self.recorder.weights[state.global_step], strict=False)


def configured(checkpoint: Path, name: str, **changes: object) -> RunConfig:
    sizes = {"steps": 1, "updates_per_rollout": 1, "checkpoint_every": 1, "prompts_per_step": 3}
    config = cell(checkpoint, **{**sizes, **CASES[name], **changes})
    lengths = config.data.model_copy(update={"context_lengths": (300, 450)})
    return config.model_copy(update={"data": lengths})


def largest_gap(found: dict, expected: dict) -> float:
    """Return the largest difference of gradients, in parts of the largest entry of each."""
    return max(
        float((found[name] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-12))
        for name, gradient in expected.items()
    )


@pytest.mark.parametrize("name", CASES)
def test_a_divided_step_has_the_loss_the_gradient_and_the_mask_of_the_undivided_one(
    name: str, checkpoint: Path, tmp_path: Path
) -> None:
    whole, theirs = run(configured(checkpoint, name, micro_batch_size=12), tmp_path / "whole")
    config = configured(checkpoint, name, micro_batch_tokens=BUDGET)
    divided, ours = run(config, tmp_path / "divided", [SameWeights(whole)])
    assert [len(batch["prompt_ids"]) for batch in divided.batches] == [12] * len(whole.batches)
    assert divided.losses == pytest.approx(whole.losses, rel=1e-6, abs=1e-6)
    assert max(map(abs, whole.losses)) > 1e-4
    # KL-Cov's |log-prob - old log-prob| has no gradient at 0, where rounding decides.
    first = 1 if name == "kl-cov" else 0
    for found, expected in zip(divided.gradients[first:], whole.gradients[first:], strict=True):
        assert largest_gap(found, expected) < 1e-5
    masks = [trainer._schedule.row_mask.mask for trainer in (ours, theirs)]
    assert all(torch.equal(rows, masks[1][key]) for key, rows in masks[0].items())
    for found, expected in zip(divided.logs[first:], whole.logs[first:], strict=True):
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"step_time"}:
            if not key.startswith("train_"):
                assert found[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("name", ["grpo", "dr-grpo", "bnpo"])
def test_equal_weights_for_unequal_micro_batches_would_give_another_gradient(
    name: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(configured(checkpoint, name, micro_batch_size=12), tmp_path / "whole")
    monkeypatch.setattr(
        grpo, "loss_weights", lambda kind, *, rows, tokens: [1 / len(rows)] * len(rows)
    )
    config = configured(checkpoint, name, micro_batch_tokens=BUDGET)
    divided, _ = run(config, tmp_path / "divided", [SameWeights(whole)])
    assert largest_gap(divided.gradients[0], whole.gradients[0]) > 1e-2


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
def test_training_and_scoring_passes_stay_in_the_budget_and_what_cannot_is_said_once(
    share: bool, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scoring._say_over_budget.cache_clear()
    budget = 310
    reads: list[tuple[int, ...]] = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, model, **_) -> None:
            def look(module, given, named) -> None:
                reads.append(tuple(named["input_ids"].shape))

            model.model.register_forward_pre_hook(look, with_kwargs=True)

    changes = {"micro_batch_tokens": budget, "share_prompt_prefix": share}
    recorder, _ = run(configured(checkpoint, "dr-grpo", **changes), tmp_path, [Watch()])
    lengths = {int(kept.sum()) for batch in recorder.batches for kept in batch["prompt_mask"]}
    single = max(lengths) + 6
    assert min(lengths) + 4 * 6 < budget < single
    whole = [rows * tokens for rows, tokens in reads if tokens > 1]  # not those that decode
    whole.remove((6 if share else 24) * max(lengths))  # rollouts are generated at once
    assert len(whole) > 2 * 12
    assert all(size <= budget or size <= single for size in whole)
    assert max(whole) > budget
    said = [line for line in caplog.messages if "micro_batch_tokens = 310" in line]
    assert len(said) == 1
