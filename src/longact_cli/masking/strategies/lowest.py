"""Update the least active rows: the control that turns the paper's ranking upside down."""

import torch
from torch import Generator

from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy, rows_of, updated_count
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(
    saliency: SaliencyMap, update_ratio: float, generator: Generator | None = None
) -> UpdateMask:
    """Return the rows with the lowest scores of each matrix; ties go to the lower index."""
    mask = {}
    for name, scores in saliency.items():
        order = torch.sort(scores, stable=True).indices
        mask[name] = rows_of(order[: updated_count(update_ratio, len(scores))], len(scores))
    return mask


STRATEGIES.register("lowest")(MaskStrategy(select, needs_saliency=True))
