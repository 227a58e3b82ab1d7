"""Select tokens of an optimizer step by covariance, over all its micro-batches and processes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.training.covariance import (
    ClipRange,
    TokenPool,
    clip_cov_tokens,
    kl_cov_tokens,
    step_draws,
)


class ScoredBatch(NamedTuple):
    """One micro-batch, scored by the current policy without gradient.

    Attributes:
        advantages: [rows].
        log_probs: [rows, tokens].
        old_log_probs: [rows, tokens].
        counted: Bool, [rows, tokens]; True = a completion token of the loss.
    """

    advantages: Tensor
    log_probs: Tensor
    old_log_probs: Tensor
    counted: Tensor


class Selected(NamedTuple):
    """What was selected of an optimizer step.

    Attributes:
        tokens: Bool [rows, tokens] for each micro-batch of this process, True = selected.
        fraction: Selected tokens over all, on all processes.
    """

    tokens: tuple[Tensor, ...]
    fraction: float


class TokenSelection:
    """Clip-Cov's or KL-Cov's choice of tokens, as a configuration asks for it."""

    def __init__(self, algorithm: AlgorithmConfig, *, seed: int, accelerator: Any) -> None:
        """Keep the settings; `accelerator` joins the tokens of all processes."""
        self._algorithm = algorithm
        self._seed = seed
        self._accelerator = accelerator

    def select(self, batches: Sequence[ScoredBatch], *, step: int) -> Selected:
        """Return the selected tokens of each micro-batch of this process.

        Args:
            batches: All micro-batches of the optimizer step on this process.
            step: Optimizer steps finished so far.
        """
        own = TokenPool(*(torch.cat(parts) for parts in zip(*map(_flat, batches), strict=True)))
        pool, start = self._joined(own)
        everywhere = self._chosen(pool, step)
        chosen = everywhere[start : start + len(own.advantages)]
        sizes = [int(batch.counted.sum()) for batch in batches]
        selected = []
        for batch, tokens in zip(batches, torch.split(chosen, sizes), strict=True):
            mask = torch.zeros_like(batch.counted)
            mask[batch.counted] = tokens
            selected.append(mask)
        fraction = float(everywhere.sum()) / max(len(everywhere), 1)
        return Selected(tuple(selected), fraction)

    def _chosen(self, pool: TokenPool, step: int) -> Tensor:
        algorithm = self._algorithm
        if algorithm.covariance == "kl_cov":
            return kl_cov_tokens(pool, cov_ratio=algorithm.cov_ratio)
        return clip_cov_tokens(
            pool,
            ClipRange(algorithm.clip_low, algorithm.clip_high),
            cov_ratio=algorithm.cov_ratio,
            cov_range=(algorithm.cov_low, algorithm.cov_high),
            generator=step_draws(self._seed, step),
        )

    def _joined(self, own: TokenPool) -> tuple[TokenPool, int]:
        """Return the tokens of all processes and where those of this one start."""
        if self._accelerator.num_processes == 1:
            return own, 0
        count = torch.tensor([len(own.advantages)], device=own.advantages.device)
        counts = self._accelerator.gather(count).tolist()
        longest = max(counts)
        joined = [
            torch.cat([row[:size] for row, size in zip(rows, counts, strict=True)])
            for rows in (
                self._accelerator.gather(_padded(values, longest).unsqueeze(0)) for values in own
            )
        ]
        return TokenPool(*joined), sum(counts[: self._accelerator.process_index])


def _flat(batch: ScoredBatch) -> TokenPool:
    advantages = batch.advantages.unsqueeze(1).expand_as(batch.log_probs)
    tensors = (advantages, batch.log_probs, batch.old_log_probs)
    return TokenPool(*(tensor[batch.counted].float() for tensor in tensors))


def _padded(values: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, length - len(values)))
