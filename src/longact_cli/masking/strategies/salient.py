"""Update the most active rows: the paper's method."""

from torch import Generator

from longact_cli.masking.ranking import Budget, rank_rows
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return the rows with the highest activation; ties go to the lower index."""
    return rank_rows(scores, budget, highest=True)


STRATEGIES.register("salient")(MaskStrategy(select, source="activation"))
