"""Update the rows with the largest gradient, accumulated over this step's micro-batches."""

from torch import Generator

from longact_cli.masking.ranking import Budget, rank_rows
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return the rows whose gradient has the largest L2 norm; ties go to the lower index."""
    return rank_rows(scores, budget, highest=True)


STRATEGIES.register("gradient")(MaskStrategy(select, source="gradient"))
