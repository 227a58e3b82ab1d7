import numpy as np
import pytest
from scipy.stats import binom

from longact_cli.reporting.statistics import mcnemar_p
from longact_cli.reporting.statistics.power import (
    Aim,
    detectable,
    detectable_unpaired,
    discordance_of,
    needed,
    needed_seeds,
    paired_floor,
    paired_power,
    permutation_floor,
    seeds_power,
    unpaired_power,
)

AIM = Aim()
P, DELTA = 165 / 503, 20 / 503


@pytest.mark.parametrize(("n", "p", "delta"), [(503, P, DELTA), (80, 0.9, -0.2), (20, 0.1, 0.05)])
def test_unpaired_power_is_that_of_statsmodels(n, p, delta):
    power = pytest.importorskip("statsmodels.stats.power")
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    effect = proportion.proportion_effectsize(p + delta, p)
    theirs = power.NormalIndPower().power(effect, n, 0.05)
    assert unpaired_power(n, p, delta, AIM) == pytest.approx(theirs, abs=1e-9)
    size = power.NormalIndPower().solve_power(effect, power=0.8, alpha=0.05)
    assert needed(lambda m: unpaired_power(m, p, delta, AIM), AIM) == np.ceil(size)


@pytest.mark.parametrize(("seeds", "sd"), [(3, 0.01), (6, 0.02), (10, 0.03)])
def test_power_over_seeds_is_that_of_statsmodels(seeds, sd):
    power = pytest.importorskip("statsmodels.stats.power")
    theirs = power.TTestIndPower().power(DELTA / sd, seeds, 0.05)
    assert seeds_power(seeds, DELTA, sd, AIM) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(("sd", "seeds"), [(0.005, 2), (0.01, 3), (0.02, 6), (0.03, 10)])
def test_seeds_that_are_enough_are_the_first_with_that_power(sd, seeds):
    assert needed_seeds(DELTA, sd, AIM) == seeds
    assert seeds_power(seeds, DELTA, sd, AIM) >= 0.8
    assert seeds == 2 or seeds_power(seeds - 1, DELTA, sd, AIM) < 0.8


def test_a_difference_far_beyond_the_noise_is_certain_to_be_found():
    assert seeds_power(2, 0.5, 1e-9, AIM) == 1.0


def test_a_gain_of_20_of_503_questions_needs_2251_questions_per_arm_or_a_high_correlation():
    assert unpaired_power(503, P, DELTA, AIM) == pytest.approx(0.26, abs=0.005)
    assert needed(lambda n: unpaired_power(n, P, DELTA, AIM), AIM) == 2251
    sizes = []
    for rho in (0.5, 0.7, 0.8):
        discordance = discordance_of(P, DELTA, rho)
        sizes.append(needed(lambda n, d=discordance: paired_power(n, d, DELTA, AIM), AIM))
    assert sizes == [1131, 681, 456]


def test_uncorrelated_answers_differ_as_two_coins_do():
    assert discordance_of(0.3, 0.1, 0.0) == pytest.approx(0.3 * 0.6 + 0.4 * 0.7)
    assert discordance_of(0.5, 0.0, 1.0) == pytest.approx(0.0)


@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_paired_power_is_what_simulated_mcnemar_tests_reach(rho):
    n, discordance = 503, discordance_of(0.328, 0.06, rho)
    split = (discordance + 0.06) / 2, (discordance - 0.06) / 2, 1 - discordance
    draws = np.random.default_rng(0).multinomial(n, split, size=4000)
    found = np.mean([mcnemar_p(a, b, mid=True) < 0.05 for a, b, _ in draws])
    assert paired_power(n, discordance, 0.06, AIM) == pytest.approx(found, abs=0.03)


def test_the_smallest_difference_found_has_the_power_asked_for():
    gain = detectable_unpaired(503, P, AIM)
    assert unpaired_power(503, P, gain, AIM) == pytest.approx(0.8, abs=1e-9)
    paired = detectable(lambda d: paired_power(503, 0.2, d, AIM), AIM, most=0.2)
    assert paired_power(503, 0.2, paired, AIM) == pytest.approx(0.8, abs=1e-9)
    assert detectable_unpaired(3, 0.9, AIM) is None
    assert detectable(lambda d: paired_power(5, 0.1, d, AIM), AIM, most=0.1) is None


def test_power_without_a_difference_is_the_level_of_the_test():
    assert unpaired_power(100, 0.4, 0.0, AIM) == pytest.approx(0.05)
    assert paired_power(100, 0.2, 0.0, AIM) == pytest.approx(0.05)


def test_permutations_of_few_seeds_have_a_floor():
    assert [permutation_floor(n) for n in (1, 2, 3, 4)] == pytest.approx([1.0, 1 / 3, 0.1, 2 / 70])
    assert [paired_floor(n) for n in (1, 5, 6)] == pytest.approx([1.0, 0.0625, 0.03125])


def test_a_discordant_split_of_57_to_37_is_just_significant():
    assert mcnemar_p(57, 37) < 0.05 <= mcnemar_p(57, 38)
    assert binom.cdf(37, 94, 0.5) * 2 == pytest.approx(mcnemar_p(57, 37))
