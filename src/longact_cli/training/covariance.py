"""Clip-Cov and KL-Cov: which tokens of an optimizer step have a high covariance.

The covariance of a token is the product of its centred advantage and its centred log-probability.
Centring and selection run over the tokens of a whole optimizer step: inside a micro-batch of one
rollout the advantage is constant and every covariance would be zero.

Source: arXiv 2505.22617, section 4; verl, `verl/trainer/ppo/core_algos.py`, which centres and
selects within a micro-batch of one device instead.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class TokenPool(NamedTuple):
    """The completion tokens of one optimizer step, flat.

    Attributes:
        advantages: [tokens].
        log_probs: Of the current policy, without gradient, [tokens].
        old_log_probs: Of the policy that sampled them, [tokens].
    """

    advantages: Tensor
    log_probs: Tensor
    old_log_probs: Tensor


class ClipRange(NamedTuple):
    """Bounds of the importance ratio, [1 - low, 1 + high]; None = open."""

    low: float | None
    high: float | None


def token_covariance(pool: TokenPool) -> Tensor:
    """Return (A - mean A) x (log-prob - mean log-prob) of every token, [tokens]."""
    advantages = pool.advantages - pool.advantages.mean()
    return advantages * (pool.log_probs - pool.log_probs.mean())


def clipped_tokens(pool: TokenPool, bounds: ClipRange) -> Tensor:
    """Return bool [tokens], True where the PPO clip already removed the gradient."""
    importance_ratio = torch.exp(pool.log_probs - pool.old_log_probs)
    clipped = torch.zeros_like(importance_ratio, dtype=torch.bool)
    if bounds.low is not None:
        clipped |= (importance_ratio < 1 - bounds.low) & (pool.advantages < 0)
    if bounds.high is not None:
        clipped |= (importance_ratio > 1 + bounds.high) & (pool.advantages > 0)
    return clipped


def selected_count(tokens: int, cov_ratio: float) -> int:
    """Return floor(cov_ratio x tokens), but at least one."""
    return max(int(cov_ratio * tokens), 1)


def clip_cov_tokens(
    pool: TokenPool,
    bounds: ClipRange,
    *,
    cov_ratio: float,
    cov_range: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Return bool [tokens], True = leaves the loss.

    Drawn uniformly among tokens whose covariance lies strictly inside `cov_range` and which the
    PPO clip has not removed; fewer than the asked number where there are not as many.

    Args:
        pool: All tokens of the optimizer step.
        bounds: The PPO clip.
        cov_ratio: Fraction of all tokens to draw.
        cov_range: Lower and upper bound, both excluded.
        generator: On the CPU, so that every device draws the same tokens.
    """
    covariance = token_covariance(pool)
    inside = (covariance > cov_range[0]) & (covariance < cov_range[1])
    candidates = (inside & ~clipped_tokens(pool, bounds)).nonzero().flatten()
    order = torch.randperm(len(candidates), generator=generator).to(candidates.device)
    selected = torch.zeros_like(inside)
    selected[candidates[order[: selected_count(len(covariance), cov_ratio)]]] = True
    return selected


def kl_cov_tokens(pool: TokenPool, *, cov_ratio: float) -> Tensor:
    """Return bool [tokens], True = pays the penalty: the tokens of the highest covariance."""
    covariance = token_covariance(pool)
    count = min(selected_count(len(covariance), cov_ratio), len(covariance))
    selected = torch.zeros_like(covariance, dtype=torch.bool)
    # A stable sort: equal covariances are taken in the order of the tokens on every device.
    selected[covariance.argsort(descending=True, stable=True)[:count]] = True
    return selected


def step_draws(seed: int, step: int) -> torch.Generator:
    """Return the generator of one optimizer step; a resumed run draws the same tokens."""
    digest = hashlib.sha256(f"clip-cov {seed} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
