"""Histograms of magnitudes in bins of equal width in log2: one pass, any range, fixed memory.

Quantiles and shares read from them are approximate: off by at most one bin, 4.4 % of the value.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS_PER_OCTAVE = 16
LOWEST_OCTAVE, OCTAVES = -30, 60
BINS = BINS_PER_OCTAVE * OCTAVES

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def count_magnitudes(magnitudes: Tensor) -> Tensor:
    """Return how many values of each column fall into each bin, int64 [columns, bins].

    Values below 2^-30, zeros too, are counted in the lowest bin, values above 2^30 in the highest.

    Args:
        magnitudes: [values, columns], >= 0.
    """
    columns = magnitudes.shape[1]
    octave = torch.log2(magnitudes.clamp_min(2.0**LOWEST_OCTAVE)) - LOWEST_OCTAVE
    bins = (octave * BINS_PER_OCTAVE).long().clamp(0, BINS - 1)
    offsets = torch.arange(columns, device=bins.device) * BINS
    counts = torch.bincount((bins + offsets).flatten(), minlength=columns * BINS)
    return counts.view(columns, BINS)


def edges() -> Floats:
    """Return the bins' lower edges and the last one's upper edge, [bins + 1]."""
    place: Floats = np.arange(BINS + 1, dtype=np.float64) / BINS_PER_OCTAVE + LOWEST_OCTAVE
    return np.asarray(np.exp2(place), dtype=np.float64)


def median(counts: Counts) -> float:
    """Return the median of counted values, linear in log2 within its bin; NaN without values."""
    total = int(counts.sum())
    if not total:
        return float("nan")
    below = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    place = int(np.searchsorted(below, total / 2, side="left")) - 1
    place = max(place, 0)
    inside = (total / 2 - below[place]) / max(int(counts[place]), 1)
    return float(np.exp2((place + inside) / BINS_PER_OCTAVE + LOWEST_OCTAVE))


def share_above(counts: Counts, threshold: float) -> float:
    """Return the share of counted values above a threshold, linear in log2 within its bin, 0..1."""
    total = int(counts.sum())
    if not total or not threshold > 0:
        return float("nan")
    place = (np.log2(threshold) - LOWEST_OCTAVE) * BINS_PER_OCTAVE
    index = int(np.clip(np.floor(place), 0, BINS - 1))
    inside = float(np.clip(place - index, 0.0, 1.0))
    above = float(counts[index + 1 :].sum()) + float(counts[index]) * (1.0 - inside)
    return above / total
