"""Update the rows with the largest weights: a ranking that needs no data."""

from torch import Generator

from longact_cli.masking.ranking import Budget, rank_rows
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return the rows whose weights have the largest L2 norm; ties go to the lower index."""
    return rank_rows(scores, budget, highest=True)


STRATEGIES.register("weight")(MaskStrategy(select, source="weight"))
