"""Update rows drawn at random: the control that keeps the ratio and drops the ranking."""

import torch
from torch import Generator

from longact_cli.errors import ConfigError
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy, rows_of, updated_count
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(
    saliency: SaliencyMap, update_ratio: float, generator: Generator | None = None
) -> UpdateMask:
    """Return rows drawn without replacement, anew for each matrix.

    Raises:
        ConfigError: No generator was passed.
    """
    if generator is None:
        raise ConfigError("mask.strategy=random needs a generator; pass step_generator(seed, step)")
    mask = {}
    for name, scores in saliency.items():
        order = torch.randperm(len(scores), generator=generator).to(scores.device)
        mask[name] = rows_of(order[: updated_count(update_ratio, len(scores))], len(scores))
    return mask


STRATEGIES.register("random")(MaskStrategy(select, needs_saliency=False))
