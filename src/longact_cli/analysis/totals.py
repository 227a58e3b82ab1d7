"""What is kept of a projection's activations: sums and counts, never the activations."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longact_cli.analysis.bins import count_magnitudes
from longact_cli.masking.statistics import STATISTICS
from longact_cli.masking.statistics import merge as merge_statistic
from longact_cli.masking.types import Statistic

_CHUNK_VALUES = 1 << 22


class Totals(NamedTuple):
    """Sums over the tokens of one projection.

    Attributes:
        tokens: How many tokens.
        magnitudes: Sum of |x| per channel, float64 [rows].
        powers: Sums of x, x^2, x^3, x^4 per channel, float64 [4, rows].
        statistics: Totals of each statistic, as `STATISTICS` accumulates them (float32).
        counts: Histogram of |x| per head, int64 [heads, bins].
    """

    tokens: int
    magnitudes: Tensor
    powers: Tensor
    statistics: Mapping[Statistic, Tensor]
    counts: Tensor

    def saliency(self, statistic: Statistic) -> Tensor:
        """Return the statistic per channel, float32 [rows], as the probe of a mask computes it."""
        total = self.statistics[statistic]
        return STATISTICS[statistic].finish(total, torch.tensor(float(self.tokens)))


def measure(vectors: Tensor, *, head_dim: int, statistics: Sequence[Statistic]) -> Totals:
    """Return the totals of some tokens; works through them in pieces.

    Args:
        vectors: Signed activations, [tokens, rows], at least one token.
        head_dim: Channels per head.
        statistics: Which statistics are kept.
    """
    step = max(1, _CHUNK_VALUES // vectors.shape[1])
    total = None
    for piece in torch.split(vectors, step):
        part = _measure(piece.float(), head_dim, statistics)
        total = part if total is None else merge(total, part)
    assert total is not None  # there is at least one token
    return total


def _measure(vectors: Tensor, head_dim: int, statistics: Sequence[Statistic]) -> Totals:
    tokens, rows = vectors.shape
    magnitudes, exact = vectors.abs(), vectors.double()
    by_head = magnitudes.view(tokens, rows // head_dim, head_dim).transpose(1, 2)
    return Totals(
        tokens=tokens,
        magnitudes=exact.abs().sum(dim=0).cpu(),
        powers=torch.stack([(exact**power).sum(dim=0) for power in (1, 2, 3, 4)]).cpu(),
        statistics={name: STATISTICS[name].measure(magnitudes).cpu() for name in statistics},
        counts=count_magnitudes(by_head.reshape(tokens * head_dim, -1)).cpu(),
    )


def merge(first: Totals, second: Totals) -> Totals:
    """Return the totals of two sets of tokens together."""
    statistics = {
        name: merge_statistic(total, second.statistics[name], STATISTICS[name].operation)
        for name, total in first.statistics.items()
    }
    return Totals(
        tokens=first.tokens + second.tokens,
        magnitudes=first.magnitudes + second.magnitudes,
        powers=first.powers + second.powers,
        statistics=statistics,
        counts=first.counts + second.counts,
    )
