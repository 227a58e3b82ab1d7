"""Every loss against a formula written down independently, on the batches of a real trainer."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.models.loading import load_model

from .trainer_runs import log_probs, run
from .training_helpers import cell, with_many_end_tokens

# Selecting every candidate makes Clip-Cov's random draw a fixed set.
CHANGES: dict[str, dict[str, object]] = {
    "dapo": {},
    "grpo": {},
    "dr-grpo": {},
    "gspo": {"clip_low": 0.02, "clip_high": 0.03},
    "cispo": {"clip_high": 0.1},
    "clip-cov": {"cov_ratio": 1.0, "cov_low": 0.05, "cov_high": 2.0},
    "clip-cov-verl": {"cov_ratio": 1.0, "cov_low": 0.05, "cov_high": 2.0},
    "kl-cov": {"cov_ratio": 0.25, "force": True},
    "kl-cov-verl": {"cov_ratio": 0.25, "force": True},
}
TEMPERATURE = 0.8


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_many_end_tokens(tiny_checkpoint, tmp_path_factory.mktemp("model") / "checkpoint")


class Tokens:
    """One completion token with what its loss needs, as plain numbers."""

    def __init__(self, advantage: float, new: float, old: float, row: int) -> None:
        self.advantage, self.new, self.old, self.row = advantage, new, old, row
        self.ratio = float(torch.tensor(new - old, dtype=torch.float64).exp())


def tokens_of(batch: dict[str, Tensor], new: Tensor) -> list[Tokens]:
    old = batch.get("old_per_token_logps", new)
    kept = batch["completion_mask"].bool()
    return [
        Tokens(float(batch["advantages"][row]), float(new[row, t]), float(old[row, t]), row)
        for row in range(len(new))
        for t in range(new.shape[1])
        if kept[row, t]
    ]


def clipped_gain(token: Tokens, ratio: float, low: float, high: float) -> float:
    bounded = min(max(ratio, 1 - low), 1 + high)
    return min(ratio * token.advantage, bounded * token.advantage)


def covariances(step: list[list[Tokens]]) -> list[list[float]]:
    everything = [token for tokens in step for token in tokens]
    mean_a = sum(t.advantage for t in everything) / len(everything)
    mean_lp = sum(t.new for t in everything) / len(everything)
    return [[(t.advantage - mean_a) * (t.new - mean_lp) for t in tokens] for tokens in step]


def was_clipped(token: Tokens, low: float, high: float) -> bool:
    return (token.advantage > 0 and token.ratio > 1 + high) or (
        token.advantage < 0 and token.ratio < 1 - low
    )


def selected(algorithm: AlgorithmConfig, step: list[list[Tokens]]) -> list[list[bool]]:
    """Which tokens have a high covariance, over all micro-batches of the step."""
    low, high = algorithm.clip_low, algorithm.clip_high
    cov = covariances(step)
    if algorithm.covariance == "kl_cov":
        ranked = sorted((value for row in cov for value in row), reverse=True)
        least = ranked[max(int(algorithm.cov_ratio * len(ranked)), 1) - 1]
        return [[value >= least for value in row] for row in cov]
    if algorithm.covariance == "none":
        return [[False] * len(row) for row in cov]
    return [
        [
            algorithm.cov_low < value < algorithm.cov_high and not was_clipped(token, low, high)
            for token, value in zip(tokens, values, strict=True)
        ]
        for tokens, values in zip(step, cov, strict=True)
    ]


def policy_loss(
    algorithm: AlgorithmConfig, token: Tokens, chosen: bool, tokens: list[Tokens]
) -> float:
    """The loss of one token without the penalty towards the reference model."""
    low, high = algorithm.clip_low, algorithm.clip_high
    if algorithm.covariance == "kl_cov":
        penalty = algorithm.cov_kl_coef * abs(token.new - token.old) if chosen else 0.0
        return -token.ratio * token.advantage + penalty
    if algorithm.loss_type == "cispo":
        return -min(token.ratio, 1 + high) * token.advantage * token.new
    if algorithm.importance_sampling_level == "sequence":
        logs = [t.new - t.old for t in tokens if t.row == token.row]
        ratio = float(torch.tensor(sum(logs) / len(logs), dtype=torch.float64).exp())
        return -clipped_gain(token, ratio, low, high)
    return 0.0 if chosen else -clipped_gain(token, token.ratio, low, high)


def weight(
    algorithm: AlgorithmConfig, token: Tokens, batch: dict[str, Tensor], micro_batches: int
) -> float:
    """What one token counts in the loss of its micro-batch."""
    rows = len(batch["advantages"]) * micro_batches
    if algorithm.loss_type == "grpo":
        return 1 / (float(batch["completion_mask"][token.row].sum()) * rows)
    if algorithm.loss_type == "dr_grpo":
        return 1 / (rows * algorithm.max_completion_tokens)
    return algorithm.updates_per_rollout / float(batch["num_items_in_batch"])


def reference_penalty(algorithm: AlgorithmConfig, batch: dict[str, Tensor], tokens: list[Tokens]):
    """The k3 estimate of the divergence from the reference model, times its coefficient."""
    if not algorithm.kl_coef:
        return [0.0] * len(tokens)
    reference = batch["ref_per_token_logps"][batch["completion_mask"].bool()].double()
    gaps = reference - torch.tensor([token.new for token in tokens], dtype=torch.float64)
    return (algorithm.kl_coef * (gaps.exp() - gaps - 1)).tolist()


def expected_losses(
    algorithm: AlgorithmConfig, step: list[list[Tokens]], batches: list[dict[str, Tensor]]
) -> list[float]:
    """The loss of each micro-batch of one optimizer step."""
    losses = []
    for tokens, chosen, batch in zip(step, selected(algorithm, step), batches, strict=True):
        penalties = reference_penalty(algorithm, batch, tokens)
        losses.append(
            sum(
                weight(algorithm, token, batch, len(step))
                * (policy_loss(algorithm, token, inside, tokens) + penalty)
                for token, inside, penalty in zip(tokens, chosen, penalties, strict=True)
            )
        )
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("updates", [1, 2], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("name", CHANGES)
def test_every_loss_equals_an_independent_formula(
    name: str, updates: int, checkpoint: Path, tmp_path: Path
) -> None:
    config = cell(
        checkpoint,
        algorithm=name,
        **{
            "steps": 2,
            "updates_per_rollout": updates,
            "temperature": TEMPERATURE,
            "learning_rate": 0.02,
            "max_completion_tokens": 4,
            "mask_truncated_completions": True,
            **CHANGES[name],
        },
    )
    recorder, _ = run(config, tmp_path)
    assert 0 < recorder.logs[0]["completions/clipped_ratio"] < 1  # some rows are left out
    model = load_model(config.model.path, model=config.model)
    for update in range(2):
        batches = recorder.batches[2 * update : 2 * update + 2]
        model.load_state_dict({**model.state_dict(), **recorder.weights[update]})
        with torch.no_grad():
            step = [tokens_of(batch, log_probs(model, batch, TEMPERATURE)) for batch in batches]
        expected = expected_losses(config.algorithm, step, batches)
        losses = recorder.losses[2 * update : 2 * update + 2]
        assert losses == pytest.approx(expected, rel=1e-6, abs=1e-6)
    ratios = [token.ratio for tokens in step for token in tokens]
    assert (max(abs(ratio - 1) for ratio in ratios) > 0.01) == (updates == 2)
    assert max(map(abs, recorder.losses)) > 1e-3
    if config.algorithm.covariance != "none":
        assert 0 < recorder.logs[1]["covariance/selected_fraction"] < 0.9


@pytest.mark.parametrize("name", ["clip-cov", "kl-cov"])
def test_selection_is_the_same_in_one_micro_batch_and_in_many(
    name: str, checkpoint: Path, tmp_path: Path
) -> None:
    changes = {**CHANGES[name], "steps": 2, "share_prompt_prefix": False}
    gradients = []
    for rows in (8, 4, 1):
        config = cell(checkpoint, algorithm=name, **changes, micro_batch_size=rows)
        recorder, _ = run(config, tmp_path / str(rows))
        gradients.append(recorder.gradients)
    # One rollout per micro-batch would have no covariance at all if it were centred there.
    for other in gradients[1:]:
        for name, gradient in gradients[0][0].items():
            scale = gradient.abs().max().item()
            assert torch.allclose(other[0][name], gradient, atol=1e-4 * scale), name
