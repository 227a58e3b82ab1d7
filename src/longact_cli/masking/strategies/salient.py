"""Update the most active rows: the paper's method."""

import torch
from torch import Generator

from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy, rows_of, updated_count
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(
    saliency: SaliencyMap, update_ratio: float, generator: Generator | None = None
) -> UpdateMask:
    """Return the rows with the highest scores of each matrix; ties go to the lower index."""
    mask = {}
    for name, scores in saliency.items():
        order = torch.sort(scores, descending=True, stable=True).indices
        mask[name] = rows_of(order[: updated_count(update_ratio, len(scores))], len(scores))
    return mask


STRATEGIES.register("salient")(MaskStrategy(select, needs_saliency=True))
