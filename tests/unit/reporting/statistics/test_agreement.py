"""The same numbers as scipy and statsmodels, wherever they offer the same test."""

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test, ttest_1samp

from longact_cli.reporting.statistics import (
    difference_estimate,
    equivalence_p,
    holm,
    mcnemar_p,
    non_inferiority_p,
    score_estimate,
    sign_flip_p,
    wilson_interval,
)
from longact_cli.reporting.statistics.crossed import crossed_effect

SPLITS = [(0, 0), (1, 0), (0, 7), (5, 5), (57, 37), (37, 57), (58, 37), (200, 150), (3, 1)]


@pytest.mark.parametrize(("left", "right"), SPLITS)
def test_mcnemar_is_that_of_statsmodels(left, right):
    stats = pytest.importorskip("statsmodels.stats.contingency_tables")
    theirs = stats.mcnemar([[10, left], [right, 12]], exact=True).pvalue
    assert mcnemar_p(left, right) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(("left", "right"), SPLITS[1:])
def test_mid_p_takes_half_of_the_observed_split(left, right):
    from scipy.stats import binom

    n, fewer = left + right, min(left, right)
    one_sided = binom.cdf(fewer, n, 0.5) - 0.5 * binom.pmf(fewer, n, 0.5)
    assert mcnemar_p(left, right, mid=True) == pytest.approx(2 * one_sided, abs=1e-12)


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    generator = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        values = generator.random(n) ** 3
        theirs = multitest.multipletests(values, method="holm")[1]
        assert holm(values) == pytest.approx(theirs, abs=1e-12)


def test_holm_by_hand_leaves_unknown_values_out():
    nan = float("nan")
    corrected = holm([0.04, nan, 0.01, 0.03])
    assert corrected[0] == pytest.approx(0.06)
    assert np.isnan(corrected[1])
    assert corrected[2:] == pytest.approx((0.03, 0.06))


@pytest.mark.parametrize("n", [1, 30, 503])
def test_wilson_is_that_of_statsmodels(n):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for k in {0, n // 3, n}:
        theirs = proportion.proportion_confint(k, n, method="wilson")
        assert wilson_interval(k, n) == pytest.approx(theirs, abs=1e-12)


def test_the_bootstrap_of_a_score_is_that_of_scipy():
    scores = np.random.default_rng(1).random(150)
    ours = score_estimate(scores[None], np.zeros(150, int), rng=np.random.default_rng(2))
    theirs = bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    # A percentile of 2,000 draws has a standard error near 0.06 standard deviations of the draws.
    allowed = 4 * 0.06 * scores.std() / np.sqrt(150)
    assert ours[1:3] == pytest.approx(tuple(theirs), abs=allowed)


def test_the_bootstrap_of_a_paired_difference_is_that_of_scipy():
    generator = np.random.default_rng(4)
    left, right = generator.random(150) < 0.6, generator.random(150) < 0.5
    left, right = left.astype(float), right.astype(float)
    ours = difference_estimate(
        left[None], right[None], np.zeros(150, int), same_seeds=True, rng=generator
    )
    theirs = bootstrap(
        (left, right),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    allowed = 4 * 0.06 * np.std(left - right) / np.sqrt(150)
    assert ours[1:3] == pytest.approx(tuple(theirs), abs=allowed)


@pytest.mark.parametrize("n", [3, 8, 13])
def test_all_signs_of_few_units_are_those_of_scipy(n):
    units = np.random.default_rng(n).normal(0.3, 1.0, n)
    theirs = permutation_test(
        (units,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_p(units, rng=np.random.default_rng(0)) == pytest.approx(theirs, abs=1e-9)


def test_random_signs_of_many_units_are_those_of_scipy_within_monte_carlo_error():
    units = np.random.default_rng(6).normal(0.15, 1.0, 120)
    ours = sign_flip_p(units, rng=np.random.default_rng(0))
    theirs = permutation_test(
        (units,),
        lambda x, axis: np.sum(x, axis=axis),
        permutation_type="samples",
        n_resamples=9_999,
        vectorized=True,
        rng=np.random.default_rng(1),
    ).pvalue
    error = np.sqrt(2 * ours * (1 - ours) / 10_000)
    assert ours == pytest.approx(theirs, abs=4 * error)


def test_one_unit_cannot_be_significant_and_equal_sides_are_not():
    assert sign_flip_p(np.array([0.5, 0.0]), rng=np.random.default_rng(0)) == 1.0
    assert sign_flip_p(np.zeros(9), rng=np.random.default_rng(0)) == 1.0


def _effect(delta, strata=None, documents=None):
    strata = np.zeros(len(delta), int) if strata is None else strata
    return crossed_effect(
        delta[None], np.zeros((1, len(delta))), strata, documents, same_seeds=True
    )


def test_one_seed_and_one_stratum_give_the_paired_t_test_of_scipy():
    delta = np.random.default_rng(7).normal(0.1, 1.0, 80)
    effect, theirs = _effect(delta), ttest_1samp(delta, 0.0)
    assert effect.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert effect.interval == pytest.approx(tuple(theirs.confidence_interval()), abs=1e-12)


def test_equivalence_is_that_of_statsmodels():
    weights = pytest.importorskip("statsmodels.stats.weightstats")
    generator = np.random.default_rng(8)
    left, right = generator.normal(0.02, 0.3, 90), generator.normal(0.0, 0.3, 90)
    p, lower, _ = weights.ttost_paired(left, right, -0.1, 0.1)
    effect = _effect(left - right)
    assert equivalence_p(effect, 0.1) == pytest.approx(p, abs=1e-9)
    assert non_inferiority_p(effect, 0.1) == pytest.approx(lower[1], abs=1e-9)


def test_the_error_over_documents_is_the_cluster_robust_one_of_statsmodels():
    linear = pytest.importorskip("statsmodels.regression.linear_model")
    generator = np.random.default_rng(9)
    documents = np.repeat(np.arange(30), 3)
    delta = generator.normal(0, 1, 90) + np.repeat(generator.normal(0, 1, 30), 3)
    effect = _effect(delta, documents=documents)
    fit = linear.OLS(delta, np.ones(90)).fit(
        cov_type="cluster", cov_kwds={"groups": documents, "use_correction": False}
    )
    assert effect.standard_error == pytest.approx(fit.bse[0] * np.sqrt(30 / 29), rel=1e-9)
    assert effect.degrees == 29
    assert effect.standard_error > 1.4 * _effect(delta).standard_error


def test_two_strata_weigh_equally_in_difference_and_error():
    delta = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, -1.0, 0.0])
    strata = np.array([0] * 6 + [1] * 4)
    effect = _effect(delta, strata)
    variances = [np.var(delta[:6], ddof=1) / 6, np.var(delta[6:], ddof=1) / 4]
    assert effect.difference == pytest.approx((4 / 6 + 0.0) / 2)
    assert effect.standard_error == pytest.approx(np.sqrt(sum(variances)) / 2)
    assert effect.degrees == 8


def test_seeds_that_alone_vary_give_the_paired_t_test_over_seeds():
    shifts = np.array([0.02, -0.01, 0.05, 0.03])
    left = np.tile(shifts[:, None], (1, 50))
    effect = crossed_effect(left, np.zeros((4, 50)), np.zeros(50, int), None, same_seeds=True)
    assert effect.p == pytest.approx(ttest_1samp(shifts, 0.0).pvalue, abs=1e-9)
    assert effect.degrees == pytest.approx(3)
