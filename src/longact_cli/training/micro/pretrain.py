"""The micro model's training loop: Muon for hidden matrices, AdamW for the rest, by steps."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from longact_cli.training.micro.batches import ANSWER, CONTEXT, Batch, Mixture, draw_samples, encode

Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps in total, mean answer loss in nats of that step)."""


class Phase(NamedTuple):
    """A stretch of training, entered when `start` of all steps are done (0..1)."""

    start: float
    mixture: Mixture


class Recipe(NamedTuple):
    """How to train; the defaults are those of the shipped checkpoint."""

    steps: int
    phases: Sequence[Phase]
    tokens_per_step: int = 4096
    muon_learning_rate: float = 0.02
    adamw_learning_rate: float = 3e-3
    warmup_steps: int = 100
    decay_from: float = 0.88
    final_share: float = 0.05
    context_weight: float = 0.1
    context_share: float = 0.25
    max_grad_norm: float = 1.0


def pretrain(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    recipe: Recipe,
    seed: int,
    progress: Progress,
) -> int:
    """Train `model` in place and return the number of tokens it read.

    The loss is the cross-entropy of answer tokens plus `context_weight` times that of a random
    `context_share` of the other tokens; the output layer runs on the selected positions only.
    """
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizers = _optimizers(model, recipe)
    tokens = 0
    for step in range(recipe.steps):
        mixture = phase_at(recipe, step).mixture
        rows = max(1, recipe.tokens_per_step // mixture.length)
        batch = encode(tokenizer, draw_samples(rng, mixture, rows=rows), length=mixture.length)
        tokens += batch.tokens.numel()
        _set_learning_rates(optimizers, learning_rate_factor(recipe, step))
        loss = _update(model, optimizers, batch, recipe, generator)
        progress(step + 1, recipe.steps, loss)
    return tokens


def phase_at(recipe: Recipe, step: int) -> Phase:
    """Return the phase that a step (from 0) belongs to."""
    return [phase for phase in recipe.phases if phase.start * recipe.steps <= step][-1]


def learning_rate_factor(recipe: Recipe, step: int) -> float:
    """Return the factor on the learning rate: linear warm-up, constant, linear decay."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    left = (1 - step / recipe.steps) / (1 - recipe.decay_from)
    return warm * min(1.0, max(recipe.final_share, left))


def _optimizers(model: Qwen3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Give hidden matrices to Muon; embeddings and norms to AdamW."""
    hidden: list[torch.nn.Parameter] = []
    other: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and "embed" not in name
        (hidden if matrix else other).append(parameter)
    return [
        torch.optim.Muon(
            hidden,
            lr=recipe.muon_learning_rate,
            momentum=0.95,
            weight_decay=0.01,
            adjust_lr_fn="original",
        ),
        torch.optim.AdamW(
            other, lr=recipe.adamw_learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        ),
    ]


def _set_learning_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * factor


def _update(
    model: Qwen3ForCausalLM,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: Batch,
    recipe: Recipe,
    generator: torch.Generator,
) -> float:
    """Take one optimizer step and return the mean answer loss before it, in nats per token."""
    hidden = model.model(input_ids=batch.tokens).last_hidden_state[:, :-1]
    labels, targets = batch.labels[:, 1:], batch.tokens[:, 1:]
    sampled = torch.rand(labels.shape, generator=generator) < recipe.context_share
    selected = (labels == ANSWER) | ((labels == CONTEXT) & sampled)
    losses = cross_entropy(model.lm_head(hidden[selected]), targets[selected], reduction="none")
    is_answer = labels[selected] == ANSWER
    answer_loss = losses[is_answer].mean()
    loss = answer_loss + recipe.context_weight * losses[~is_answer].mean()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(answer_loss.detach())
