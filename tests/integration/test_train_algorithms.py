"""Every algorithm end to end: it resumes exactly, and dynamic sampling does what it says."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from longact_cli.files import read_json, read_lines
from longact_cli.models.loading import load_model
from longact_cli.training.algorithms import ALGORITHMS
from longact_cli.training.train import train_cell

from .trainer_runs import run
from .training_helpers import cell, with_many_end_tokens

RL = [name for name in ALGORITHMS.names() if name != "sft"]
REFILL = {"dynamic_sampling": "refill", "max_generation_batches": 3}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_many_end_tokens(tiny_checkpoint, tmp_path_factory.mktemp("model") / "checkpoint")


def metric(out: Path, name: str) -> list[float]:
    rows = read_lines(out / "metrics.jsonl")
    return [row["value"] for row in rows if row["name"] == name]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def resumed_after(finished: Path, step: int, out: Path) -> Path:
    """The directory as a run that died right after `step` leaves it."""
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model")
    for path in (out / "checkpoints").iterdir():
        if int(path.name.split("-")[1]) > step:
            shutil.rmtree(path)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "after"), [*((name, 2) for name in RL), ("dapo", 4)])
def test_a_resumed_run_with_dynamic_sampling_equals_an_uninterrupted_one(
    name: str, after: int, checkpoint: Path, tmp_path: Path
) -> None:
    changes = {"scale_rewards": "group", **REFILL, "cov_ratio": 0.1, "steps": after + 2}
    config = cell(checkpoint, algorithm=name, reward="test_rare", **changes)
    train_cell(config, out=tmp_path / "whole")
    out = resumed_after(tmp_path / "whole", after, tmp_path / "resumed")
    position = read_json(out / "checkpoints" / f"checkpoint-{after}" / "prompts.json")["position"]
    assert position > 0  # some groups were replaced before the interruption
    train_cell(config, out=out)
    ours, theirs = weights(out), weights(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for name_ in ("reward", "accuracy", "sampling/generated_groups", "loss"):
        assert metric(out, name_) == metric(tmp_path / "whole", name_)


def test_replaced_groups_are_counted_kept_on_disk_and_left_out_of_the_reward_curve(
    checkpoint: Path, tmp_path: Path
) -> None:
    train_cell(cell(checkpoint, reward="test_rare", steps=2, **REFILL), out=tmp_path)
    table = pd.read_parquet(tmp_path / "completions" / "completions_00000.parquet")
    (generated,) = metric(tmp_path, "sampling/generated_groups")
    assert generated > 4
    assert len(table) == 4 * generated
    own = table.iloc[:16]  # 2 updates x 2 prompts x 4 completions
    assert metric(tmp_path, "accuracy")[0] == pytest.approx(own["reward"].mean(), abs=1e-6)
    indices = [int(name.split("/")[-1]) for name in dict.fromkeys(table["sample_id"])]
    assert indices == list(range(len(indices)))  # the next prompts after the four of the run


def test_the_loss_sees_groups_with_different_accuracies_only(
    checkpoint: Path, tmp_path: Path
) -> None:
    changes = {"steps": 2, "dynamic_sampling": "refill", "max_generation_batches": 30}
    recorder, _ = run(cell(checkpoint, reward="test_rare", **changes), tmp_path)
    assert recorder.logs[0]["sampling/generations"] > 1
    assert recorder.logs[0]["sampling/groups_out_of_loss"] == 0
    assert recorder.logs[0]["frac_reward_zero_std"] > 0  # of the step's own prompts
    advantages = torch.cat([batch["advantages"] for batch in recorder.batches])
    assert len(advantages) == 16
    assert (advantages != 0).all()


def test_the_punishment_of_length_does_not_keep_a_dead_group_alive(
    checkpoint: Path, tmp_path: Path
) -> None:
    changes = {"steps": 2, "dynamic_sampling": "filter", "overlong_cache": 0.9}
    recorder, _ = run(cell(checkpoint, reward="test_rare", **changes), tmp_path)
    logs = recorder.logs[0]
    assert logs["frac_reward_zero_std"] == 0  # every sum varies with the lengths
    assert logs["sampling/groups_out_of_loss"] > 0
    assert logs["rewards/overlong_punishment/mean"] < 0
    kept = sum(int(batch["completion_mask"].any(1).sum()) for batch in recorder.batches)
    assert kept == 16 - 4 * logs["sampling/groups_out_of_loss"]


def test_extra_rewards_are_added_with_their_weights(checkpoint: Path, tmp_path: Path) -> None:
    config = cell(checkpoint, steps=2)
    data = config.data.model_copy(update={"extra_rewards": {"test_rare": 0.5}})
    recorder, _ = run(config.model_copy(update={"data": data}), tmp_path)
    logs = recorder.logs[0]
    assert logs["rewards/test_rare/mean"] > 0
    assert logs["reward"] == pytest.approx(
        logs["rewards/accuracy/mean"] + 0.5 * logs["rewards/test_rare/mean"], abs=1e-6
    )


SFT = {"algorithm": "sft", "learning_rate": 1e-3}


def test_supervised_training_equals_the_likelihood_of_the_reference_answers(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(checkpoint, **SFT, prompts_per_step=8)
    recorder, trainer = run(config, tmp_path / "sft")
    model = load_model(config.model.path, model=config.model)
    total, tokens = 0.0, 0
    for batch in recorder.batches[:2]:  # 8 prompts in micro-batches of 4
        for ids, labels, kept in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            row = ids[kept.bool()].unsqueeze(0)
            with torch.no_grad():
                log_p = model(input_ids=row).logits[0, :-1].log_softmax(-1)
            for place, label in enumerate(labels[kept.bool()].tolist()):
                if label != -100:
                    total -= log_p[place - 1, label].item()
                    tokens += 1
    assert sum(recorder.losses[:2]) == pytest.approx(total / tokens, abs=1e-6)
    answers = [
        trainer.processing_class.decode(labels[labels != -100].tolist())
        for labels in recorder.batches[0]["labels"]
    ]
    assert all(text.startswith(" ") and text.endswith(".<|im_end|>") for text in answers)


def test_supervised_training_masks_the_rows_that_its_prompts_call_for(
    checkpoint: Path, tmp_path: Path
) -> None:
    train_cell(cell(checkpoint, **SFT), out=tmp_path)
    assert metric(tmp_path, "mask/update_ratio_max") == [19 / 64] * 4
    assert all(0 < share < 1 for share in metric(tmp_path, "mask/kept_grad_norm_share"))
    assert metric(tmp_path, "mean_token_accuracy")


def test_supervised_and_rl_runs_read_the_same_prompts(checkpoint: Path, tmp_path: Path) -> None:
    supervised, _ = run(cell(checkpoint, **SFT, steps=2), tmp_path / "sft")
    rollouts, _ = run(cell(checkpoint, steps=2), tmp_path / "dapo")

    def prompts(batches, ids: str, mask) -> set[tuple[int, ...]]:
        return {
            tuple(row[kept.bool()].tolist())
            for batch in batches
            for row, kept in zip(batch[ids], mask(batch), strict=True)
        }

    ours = prompts(
        supervised.batches, "input_ids", lambda b: b["attention_mask"] * (b["labels"] == -100)
    )
    assert ours == prompts(rollouts.batches, "prompt_ids", lambda b: b["prompt_mask"])


def test_a_resumed_supervised_run_equals_an_uninterrupted_one(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(checkpoint, **SFT)
    train_cell(config, out=tmp_path / "whole")
    out = resumed_after(tmp_path / "whole", 2, tmp_path / "resumed")
    train_cell(config, out=out)
    ours, theirs = weights(out), weights(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert metric(out, "loss") == metric(tmp_path / "whole", "loss")
