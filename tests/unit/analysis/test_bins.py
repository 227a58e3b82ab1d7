"""Histograms in log2: what is read from them stays within one bin of the exact number."""

import numpy as np
import torch

from longact_cli.analysis import bins

BIN = 2 ** (1 / bins.BINS_PER_OCTAVE)


def counted(values: np.ndarray) -> np.ndarray:
    return bins.count_magnitudes(torch.tensor(values).abs()[:, None])[0].numpy()


def test_every_value_is_counted_once_in_the_bin_that_holds_it() -> None:
    counts = bins.count_magnitudes(torch.tensor([[1.0, 3.0], [1.0, 0.0], [5.0, 3.1]]))
    edges = bins.edges()
    for column, values in enumerate(([1.0, 1.0, 5.0], [3.0, 3.1])):
        for value in values:
            place = np.searchsorted(edges, value, side="right") - 1
            assert counts[column, place] == values.count(value)
    assert counts[1, 0] == 1  # zero lies in the lowest bin
    assert counts.sum(dim=1).tolist() == [3, 3]


def test_values_out_of_range_fall_into_the_outermost_bins() -> None:
    counts = counted(np.array([1e-30, 1e30]))
    assert (counts[0], counts[-1], counts.sum()) == (1, 1, 2)


def test_the_median_is_within_one_bin_of_the_exact_one() -> None:
    values = np.abs(np.random.default_rng(1).standard_t(3, size=5001))
    assert 1 / BIN <= bins.median(counted(values)) / np.median(values) <= BIN


def test_the_share_above_a_threshold_is_within_one_bin_of_the_exact_one() -> None:
    values = np.abs(np.random.default_rng(2).standard_t(3, size=5001))
    for threshold in (0.5, 2.0, 7.0):
        found = bins.share_above(counted(values), threshold)
        assert (values > threshold * BIN).mean() <= found <= (values > threshold / BIN).mean()


def test_a_threshold_on_the_edge_of_a_bin_is_exact() -> None:
    assert bins.share_above(counted(np.array([0.5, 1.5, 3.0, 9.0])), 1.0) == 0.75


def test_an_empty_histogram_has_no_median_and_no_shares() -> None:
    empty = np.zeros(bins.BINS, dtype=np.int64)
    assert np.isnan(bins.median(empty))
    assert np.isnan(bins.share_above(empty, 1.0))
