"""Update random rows, in each head as many as the salient mask would: the sharper control.

A random mask at the same ratio spreads evenly over heads; the salient one does not. This control
keeps the choice of heads and drops the choice of channels.
"""

import torch
from torch import Generator

from longact_cli.masking.ranking import Budget, rank_rows
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.strategies.random import draw
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return rows drawn within each head, as many as the salient mask has there.

    Raises:
        ConfigError: No generator was passed.
    """
    salient = rank_rows(scores, budget, highest=True)
    mask = {}
    for name, rows in salient.items():
        head_dim = (budget.head_dims or {}).get(name, len(rows))
        drawn = [
            draw(len(head), int(head.sum()), generator) for head in torch.split(rows, head_dim)
        ]
        mask[name] = torch.cat(drawn).to(rows.device)
    return mask


STRATEGIES.register("random-head-matched")(MaskStrategy(select, source="activation"))
