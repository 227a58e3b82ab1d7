"""Update the rows with the largest weights times input norms.

Source: Sun et al., arXiv 2306.11695, scores entry (r, c) as |W_rc| ||x_c||; a row's score is the L2
norm over its entries.
"""

from torch import Generator

from longact_cli.masking.ranking import Budget, rank_rows
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return the rows with the highest score; ties go to the lower index."""
    return rank_rows(scores, budget, highest=True)


STRATEGIES.register("wanda")(MaskStrategy(select, source="wanda"))
