"""One cell's training, end to end, on a random model."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from longact_cli.errors import ConfigError
from longact_cli.files import read_lines
from longact_cli.training.checkpoints import is_complete, list_checkpoints
from longact_cli.training.train import TrainResult, train_cell

from .training_helpers import cell, with_many_end_tokens

STRATEGIES = ["salient", "lowest", "random", "dense", "frozen"]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_many_end_tokens(tiny_checkpoint, tmp_path_factory.mktemp("model") / "checkpoint")


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one uninterrupted run."""
    out = tmp_path_factory.mktemp("cell")
    train_cell(cell(checkpoint), out=out)
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def metric(out: Path, name: str) -> list[tuple[int, float]]:
    rows = read_lines(out / "metrics.jsonl")
    return [(row["step"], row["value"]) for row in rows if row["name"] == name]


def interrupted_after(finished: Path, step: int, out: Path) -> Path:
    """The directory as a run that died after `step` leaves it."""
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model")
    for path in list_checkpoints(out / "checkpoints"):
        if int(path.name.split("-")[1]) > step:
            shutil.rmtree(path)
    return out


def test_the_saved_model_is_a_plain_checkpoint_with_its_tokenizer(
    finished: Path, checkpoint: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished / "model")
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(checkpoint).chat_template
    start = AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
    assert not torch.equal(model.state_dict()["lm_head.weight"], start["lm_head.weight"])


def test_the_reward_curve_and_the_mask_are_in_the_journal(finished: Path) -> None:
    names = {row["name"] for row in read_lines(finished / "metrics.jsonl")}
    assert names >= {
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "clip_fraction",
        "clip_fraction_low",
        "clip_fraction_high",
        "entropy",
        "completion_length",
        "truncated_fraction",
        "grad_norm",
        "learning_rate",
        "step_seconds",
        "mask/update_ratio",
        "mask/kept_grad_norm_share",
        "mask/qk_share_of_grad_norm",
        "mask/overlap_with_previous",
        "mask/masked_drift_norm",
    }
    assert [step for step, _ in metric(finished, "grad_norm")] == [1, 2, 3, 4]
    assert {value for _, value in metric(finished, "mask/update_ratio_min")} == {9 / 32}  # of k
    assert {value for _, value in metric(finished, "mask/update_ratio_max")} == {19 / 64}  # of q


def test_clipping_acts_in_the_second_update_of_a_set_of_rollouts_and_not_in_the_first(
    finished: Path,
) -> None:
    fractions = dict(metric(finished, "clip_fraction"))
    assert (fractions[1], fractions[3]) == (0.0, 0.0)
    assert fractions[2] > 0
    assert fractions[4] > 0


def test_checkpoints_are_whole_and_carry_the_mask(finished: Path) -> None:
    found = list_checkpoints(finished / "checkpoints")
    assert [path.name for path in found] == ["checkpoint-4", "checkpoint-2"]
    assert all(is_complete(path) for path in found)
    mask = load_file(found[0] / "mask.safetensors")
    assert {int(rows.sum()) for rows in mask.values()} == {9, 19}


def test_rollouts_are_kept_once_per_generation(finished: Path) -> None:
    files = sorted(path.name for path in (finished / "completions").iterdir())
    assert files == ["completions_00000.parquet", "completions_00002.parquet"]
    table = pd.read_parquet(finished / "completions" / files[0])
    assert len(table) == 16  # 2 updates x 2 prompts x 4 completions
    assert table["sample_id"].nunique() == 4
    assert set(table["terminated"]) == {True, False}
    assert (table.loc[~table["terminated"], "reward"] == 0).all()
    assert table["reward"].mean() == pytest.approx(dict(metric(finished, "reward"))[1], abs=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    finished: Path, checkpoint: Path, tmp_path: Path
) -> None:
    seen = []
    result = train_cell(
        cell(checkpoint),
        out=tmp_path / "same",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert_same_weights(finished, tmp_path / "same")
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert isinstance(result, TrainResult)
    rewards = [value for _, value in metric(finished, "reward")]
    assert (result.steps, result.final_reward) == (4, pytest.approx(sum(rewards) / 2))
    train_cell(cell(checkpoint, seed=1), out=tmp_path / "other")
    assert not torch.equal(
        weights(finished)["model.norm.weight"], weights(tmp_path / "other")["model.norm.weight"]
    )


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    finished: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = interrupted_after(finished, 2, tmp_path / "cell")
    result = train_cell(cell(checkpoint), out=out)
    assert_same_weights(finished, out)
    assert metric(out, "reward") == metric(finished, "reward")
    assert metric(out, "mask/masked_drift_norm") == metric(finished, "mask/masked_drift_norm")
    assert result.steps == 4


def test_a_torn_checkpoint_is_passed_over_and_written_again(
    finished: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = interrupted_after(finished, 4, tmp_path / "cell")
    torn = out / "checkpoints" / "checkpoint-4" / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:1000])
    train_cell(cell(checkpoint), out=out)
    assert_same_weights(finished, out)
    assert is_complete(out / "checkpoints" / "checkpoint-4")


def test_a_run_that_died_before_its_model_was_saved_only_saves_it(
    finished: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = interrupted_after(finished, 4, tmp_path / "cell")
    steps = []
    train_cell(cell(checkpoint), out=out, progress=lambda done, _: steps.append(done))
    assert steps == []
    assert_same_weights(finished, out)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains_with_its_update_ratio(
    strategy: str, checkpoint: Path, tmp_path: Path
) -> None:
    ratios = {"dense": (1.0, 1.0), "frozen": (0.0, 0.0)}
    train_cell(cell(checkpoint, strategy=strategy, steps=2), out=tmp_path)
    expected = ratios.get(strategy, (9 / 32, 19 / 64))
    assert metric(tmp_path, "mask/update_ratio_min")[0][1] == expected[0]
    assert metric(tmp_path, "mask/update_ratio_max")[0][1] == expected[1]
    if strategy == "frozen":
        start = AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
        trained = weights(tmp_path)
        frozen = [name for name in trained if "q_proj" in name or "k_proj" in name]
        assert len(frozen) == 8
        assert all(torch.equal(trained[name], start[name]) for name in frozen)


def test_grpo_with_its_reference_model_logs_the_divergence(
    checkpoint: Path, tmp_path: Path
) -> None:
    train_cell(cell(checkpoint, algorithm="grpo", steps=2), out=tmp_path)
    divergence = dict(metric(tmp_path, "kl"))
    assert divergence[1] == pytest.approx(0.0, abs=1e-5)
    assert divergence[2] > 1e-4


@pytest.mark.parametrize("setting", ["bf16", "gradient_checkpointing"])
def test_memory_savers_train_with_the_mask(setting: str, checkpoint: Path, tmp_path: Path) -> None:
    train_cell(cell(checkpoint, steps=2, **{setting: True}), out=tmp_path)
    assert weights(tmp_path)["model.norm.weight"].dtype == torch.float32
    assert 0 < metric(tmp_path, "mask/kept_grad_norm_share")[1][1] < 1


def test_a_launcher_with_another_number_of_processes_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"WORLD_SIZE is 2 and parallel\.processes is 1"):
        train_cell(cell(checkpoint), out=tmp_path)


def test_prompts_beyond_the_window_are_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(checkpoint)
    long = config.data.model_copy(update={"context_lengths": (400, 2048)})
    with pytest.raises(ConfigError, match=r"data\.context_lengths is \[400, 2048\].*1024 tokens"):
        train_cell(config.model_copy(update={"data": long}), out=tmp_path)
    assert not list(tmp_path.iterdir())
