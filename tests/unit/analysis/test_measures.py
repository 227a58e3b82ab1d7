"""Every measure against a hand-computed or an independent value."""

import itertools

import numpy as np
import pytest
import scipy.stats

from longact_cli.analysis.measures import (
    excess_kurtosis,
    expected_jaccard,
    gini,
    jaccard,
    share_above_median,
    top_mass,
)

RNG = np.random.default_rng(0)


def members(*places: int, rows: int = 6) -> np.ndarray:
    chosen = np.zeros(rows, dtype=bool)
    chosen[list(places)] = True
    return chosen


def test_gini_is_zero_for_equal_values_and_largest_where_one_holds_all() -> None:
    assert gini(np.full(7, 3.0)) == pytest.approx(0.0)
    assert gini(np.array([0.0, 0.0, 0.0, 5.0])) == pytest.approx(0.75)  # (n - 1) / n
    assert gini(np.array([1.0, 3.0])) == pytest.approx(0.25)


def test_gini_is_half_the_relative_mean_absolute_difference() -> None:
    values = RNG.gamma(0.5, size=31)
    difference = np.abs(values[:, None] - values[None, :]).mean()
    assert gini(values) == pytest.approx(difference / (2 * values.mean()))


def test_gini_of_nothing_is_undefined() -> None:
    assert np.isnan(gini(np.zeros(3)))


@pytest.mark.parametrize("centre", [0.0, 5.0])
def test_kurtosis_from_power_sums_is_that_of_scipy(centre: float) -> None:
    values = RNG.standard_t(5, size=4000) + centre
    sums = np.array([(values**power).sum() for power in (1, 2, 3, 4)])
    assert excess_kurtosis(sums, len(values)) == pytest.approx(
        scipy.stats.kurtosis(values, fisher=True, bias=True), rel=1e-9
    )


def test_kurtosis_of_two_values_is_minus_two_and_of_one_value_undefined() -> None:
    assert excess_kurtosis(np.array([0.0, 2.0, 0.0, 2.0]), 2) == pytest.approx(-2.0)  # -1, 1
    assert np.isnan(excess_kurtosis(np.array([6.0, 18.0, 54.0, 162.0]), 2))  # 3, 3


def test_top_mass_is_linear_between_whole_numbers_of_channels() -> None:
    values = np.array([1.0, 5.0, 3.0, 1.0])  # held by the top 0..4: 0, 5, 8, 9, 10
    assert top_mass(values, (0.0, 0.25, 0.5, 1.0)) == pytest.approx([0.0, 0.5, 0.8, 1.0])
    assert top_mass(values, (0.125, 0.375)) == pytest.approx([0.25, 0.65])


def test_shares_above_the_median_are_strict() -> None:
    values = np.array([1.0, 2.0, 2.0, 4.0, 11.0])  # median 2
    assert share_above_median(values, (2.0, 3.0, 5.0, 10.0)) == (0.2, 0.2, 0.2, 0.0)


def test_jaccard_is_shared_rows_over_rows_in_either() -> None:
    assert jaccard(members(0, 1, 2), members(1, 2, 3)) == 0.5
    assert jaccard(members(0), members(1)) == 0.0
    assert np.isnan(jaccard(members(), members()))


@pytest.mark.parametrize(("first", "second"), [(2, 2), (1, 3), (0, 2), (6, 4)])
def test_the_overlap_by_chance_is_the_mean_over_all_sets(first: int, second: int) -> None:
    fixed = members(*range(first))
    every = [
        jaccard(fixed, members(*places)) for places in itertools.combinations(range(6), second)
    ]
    assert expected_jaccard(6, first, second) == pytest.approx(np.mean(every))


def test_the_overlap_by_chance_is_close_to_k_over_2n_minus_k() -> None:
    assert expected_jaccard(4096, 1228, 1228) == pytest.approx(1228 / (2 * 4096 - 1228), abs=1e-4)
