"""Update the rows of a saved mask, e.g. of another run or of an analysis."""

from torch import Generator

from longact_cli.masking.ranking import Budget
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return the rows with a score above 0, whatever the budget.

    The saved mask comes as scores: 1 where a row is updated, else 0.
    """
    return {name: values > 0 for name, values in scores.items()}


STRATEGIES.register("file")(MaskStrategy(select, source="file"))
