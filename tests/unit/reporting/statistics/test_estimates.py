import numpy as np
import pytest
from scipy.stats import binomtest

from longact_cli.reporting.statistics import (
    difference_estimate,
    macro_mean,
    score_estimate,
    wilson_interval,
)

NAN = float("nan")


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (185, 503), (165, 503), (1, 2)])
def test_wilson_agrees_with_scipy(k, n):
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_macro_mean_weighs_strata_not_questions():
    scores = np.array([[1.0, 0.0, 0.0, 1.0]])
    assert macro_mean(scores, np.array([0, 0, 0, 1])) == pytest.approx((1 / 3 + 1) / 2)


def test_seeds_are_averaged_per_question_and_failures_are_left_out():
    scores = np.array([[1.0, NAN, 0.0], [0.0, 1.0, NAN]])
    assert macro_mean(scores, np.array([0, 0, 0])) == pytest.approx((0.5 + 1.0 + 0.0) / 3)


def test_a_stratum_without_any_answer_makes_the_macro_mean_undefined():
    scores = np.array([[1.0, NAN]])
    assert np.isnan(macro_mean(scores, np.array([0, 1])))
    assert np.isnan(score_estimate(scores, np.array([0, 1]), rng=rng()).low)


def test_the_bootstrap_over_questions_agrees_with_the_normal_interval():
    scores = (np.random.default_rng(3).random((1, 400)) < 0.6).astype(float)
    strata = np.repeat([0, 1], 200)
    estimate = score_estimate(scores, strata, rng=rng())
    # The macro mean halves each of two strata of 200 questions.
    variances = [np.var(scores[0, strata == stratum], ddof=1) / 200 for stratum in (0, 1)]
    half = 1.96 * np.sqrt(sum(variances)) / 2
    assert estimate.low == pytest.approx(estimate.value - half, abs=0.006)
    assert estimate.high == pytest.approx(estimate.value + half, abs=0.006)
    assert (estimate.n_questions, estimate.n_seeds, estimate.n_failed) == (400, 1, 0)


def test_all_right_or_all_wrong_still_has_an_interval():
    one = score_estimate(np.ones((1, 20)), np.zeros(20, dtype=int), rng=rng())
    assert (one.low, one.high) == pytest.approx(tuple(wilson_interval(20, 20)))
    none = score_estimate(np.zeros((3, 20)), np.repeat([0, 1], 10), rng=rng())
    assert none.low == 0.0
    assert none.high == pytest.approx(wilson_interval(0, 10).high / np.sqrt(2))


def test_seeds_that_differ_widen_the_interval():
    questions = (np.arange(100) % 2).astype(float)
    alike = np.stack([questions, questions, questions])
    apart = np.stack([np.zeros(100), questions, np.ones(100)])
    strata = np.zeros(100, dtype=int)
    narrow, wide = (score_estimate(scores, strata, rng=rng()) for scores in (alike, apart))
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_paired_difference_cancels_what_questions_share():
    left = np.array([[1.0, 1.0, 0.0, 0.0] * 25])
    right = left.copy()
    right[0, ::4] = 0.0
    strata = np.zeros(100, dtype=int)
    paired = difference_estimate(left, right, strata, same_seeds=True, rng=rng())
    assert paired.value == pytest.approx(0.25)
    # Pairs are 25 ones and 75 zeros: half width 1.96 * sqrt(0.25 * 0.75 / 100) = 0.085.
    assert paired.low == pytest.approx(0.165, abs=0.012)
    assert paired.excludes_zero


def test_left_minus_right_is_positive_where_left_is_better():
    left, right = np.ones((1, 4)), np.zeros((1, 4))
    strata = np.zeros(4, dtype=int)
    assert difference_estimate(left, right, strata, same_seeds=True, rng=rng()).value == 1.0
    assert difference_estimate(right, left, strata, same_seeds=True, rng=rng()).value == -1.0


def test_a_failed_answer_leaves_with_its_partner_and_is_counted():
    left = np.array([[1.0, NAN, 1.0, 0.0]])
    right = np.array([[0.0, 0.0, NAN, 0.0]])
    estimate = difference_estimate(left, right, np.zeros(4, int), same_seeds=True, rng=rng())
    assert estimate.value == pytest.approx(0.5)
    assert (estimate.n_questions, estimate.n_failed) == (2, 2)


def test_without_shared_seeds_arm_means_are_compared_on_shared_questions():
    left = np.array([[1.0, 0.0], [1.0, 1.0]])
    right = np.array([[0.0, 0.0]])
    estimate = difference_estimate(left, right, np.zeros(2, int), same_seeds=False, rng=rng())
    assert estimate.value == pytest.approx((1.0 + 0.5) / 2)
    assert (estimate.n_seeds, estimate.n_questions) == (1, 2)


def test_the_same_generator_gives_the_same_interval():
    scores = np.random.default_rng(1).random((2, 30))
    strata = np.zeros(30, dtype=int)
    first, second = (score_estimate(scores, strata, rng=rng()) for _ in range(2))
    assert first == second


def _world(seeds: int, questions: int, generator: np.random.Generator) -> np.ndarray:
    """Chances of a right answer: 0.5, moved by the seed and by the question."""
    seed = generator.normal(0, 0.08, (seeds, 1))
    question = generator.normal(0, 0.15, (1, questions))
    return (generator.random((seeds, questions)) < 0.5 + seed + question).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "seed_matters"), [(1, False), (12, True)])
def test_intervals_cover_the_truth_in_93_to_97_percent_of_worlds(seeds, seed_matters):
    generator = np.random.default_rng(11)
    strata = np.repeat([0, 1], 60)
    hits, worlds = 0, 600
    for _ in range(worlds):
        if seed_matters:
            scores = _world(seeds, 120, generator)
        else:
            scores = (generator.random((1, 120)) < 0.5).astype(float)
        estimate = score_estimate(scores, strata, rng=generator)
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.93 <= hits / worlds <= 0.97


@pytest.mark.slow
def test_difference_intervals_cover_the_truth_in_93_to_97_percent_of_worlds():
    generator = np.random.default_rng(12)
    strata = np.repeat([0, 1], 60)
    hits, worlds = 0, 1500
    for _ in range(worlds):
        chance = generator.random(120)
        left = (generator.random((1, 120)) < 0.8 * chance + 0.1).astype(float)
        right = (generator.random((1, 120)) < 0.8 * chance).astype(float)
        estimate = difference_estimate(left, right, strata, same_seeds=True, rng=generator)
        hits += estimate.low <= 0.1 <= estimate.high
    assert 0.93 <= hits / worlds <= 0.97
