"""Update the least active rows: the control that turns the paper's ranking upside down."""

from torch import Generator

from longact_cli.masking.ranking import Budget, rank_rows
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return the rows with the lowest activation; ties go to the lower index."""
    return rank_rows(scores, budget, highest=False)


STRATEGIES.register("lowest")(MaskStrategy(select, source="activation"))
