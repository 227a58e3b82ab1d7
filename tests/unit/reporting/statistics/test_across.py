import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from longact_cli.reporting.statistics.across import interquartile_mean, probability_of_improvement


def rng():
    return np.random.default_rng(0)


def test_the_interquartile_mean_drops_a_quarter_at_each_end():
    scores = np.array([[0.0, 0.4, 0.5, 1.0], [0.1, 0.3, 0.6, 0.9]])
    found = interquartile_mean(scores, rng=rng())
    assert found.value == pytest.approx((0.3 + 0.4 + 0.5 + 0.6) / 4)
    assert found.low <= found.value <= found.high


def test_improvement_is_the_mean_of_mann_whitney_over_tasks():
    generator = np.random.default_rng(1)
    left, right = generator.random((4, 3)).round(1), generator.random((5, 3)).round(1)
    theirs = np.mean([mannwhitneyu(left[:, t], right[:, t]).statistic / 20 for t in range(3)])
    assert probability_of_improvement(left, right, rng=rng()).value == pytest.approx(theirs)


def test_equal_sides_improve_in_half_of_the_cases():
    scores = np.full((3, 4), 0.5)
    assert probability_of_improvement(scores, scores, rng=rng()) == (0.5, 0.5, 0.5)
    assert probability_of_improvement(scores + 0.1, scores, rng=rng()).value == 1.0


@pytest.mark.slow
def test_the_interval_of_the_interquartile_mean_covers_it_in_93_to_97_percent_of_worlds():
    generator = np.random.default_rng(2)
    hits, worlds = 0, 400
    for _ in range(worlds):
        scores = 0.5 + generator.normal(0, 0.1, (12, 6))
        found = interquartile_mean(scores, rng=generator)
        hits += found.low <= 0.5 <= found.high
    assert 0.93 <= hits / worlds <= 0.97
