"""How often intervals cover and tests are wrong, by simulation, through the function tables use."""

import numpy as np
import pytest

from longact_cli.reporting.arms import Arm, Section
from longact_cli.reporting.comparisons import compare, compare_family
from longact_cli.reporting.statistics import difference_estimate, score_estimate, wilson_interval

STUDIES = 200


def _arm(name, scores, seeds, documents=()):
    questions = tuple(("niah", 512, f"{i:04d}") for i in range(scores.shape[1]))
    return Arm(Section("micro", "dapo", "ruler"), name, 0.3, {}, (), tuple(seeds), questions,
               scores.astype(float), 0, documents)  # fmt: skip


def _study(generator, *, seeds, seed_sd, gain=0.0, share=1, n=120):
    """Two arms; chances depend on question, document, arm x question, and on the training seed."""
    documents = np.repeat(np.arange(n // share), share)
    question = generator.normal(0, 0.2, n // share)[documents]
    answers = []
    for arm in range(2):
        own = generator.normal(0, 0.12, n // share)[documents] + arm * gain
        seed = generator.normal(0, seed_sd, (seeds, 1))
        answers.append(generator.random((seeds, n)) < 0.5 + question + own + seed)
    names = tuple(f"d{i}" for i in documents) if share > 1 else ()
    return [_arm(name, scores, range(seeds), names)
            for name, scores in zip(("random", "salient"), answers, strict=True)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "share"), [(1, 0.0, 1), (1, 0.0, 4), (3, 0.05, 1), (3, 0.05, 4)]
)
def test_two_identical_arms_are_called_better_in_at_most_5_percent_of_studies(
    seeds, seed_sd, share
):
    generator = np.random.default_rng(20260414)
    found = [
        compare(*reversed(_study(generator, seeds=seeds, seed_sd=seed_sd, share=share)))
        for _ in range(STUDIES)
    ]
    assert sum(c.better for c in found) <= 0.05 * STUDIES
    assert sum(c.significant for c in found) <= 0.06 * STUDIES  # both ways


@pytest.mark.slow
def test_a_family_of_five_identical_pairs_is_called_better_in_at_most_5_percent_of_studies():
    generator = np.random.default_rng(1)
    called = 0
    for _ in range(STUDIES):
        pairs = [tuple(_study(generator, seeds=1, seed_sd=0.0, n=100)) for _ in range(5)]
        called += any(c.better for c in compare_family(pairs))
    assert called <= 0.05 * STUDIES


def test_a_real_gain_is_found():
    generator = np.random.default_rng(2)
    found = []
    for seeds in (1, 3):
        random, salient = _study(generator, seeds=seeds, seed_sd=0.01, gain=0.25, n=300)
        found += [compare(salient, random), compare(random, salient)]
    assert [c.better for c in found] == [True, False, True, False]
    assert all(c.significant for c in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "share"), [(1, 0.0, 1), (1, 0.0, 3), (3, 0.05, 1), (5, 0.05, 3)]
)
def test_intervals_of_comparisons_cover_the_truth_in_93_to_97_percent_of_studies(
    seeds, seed_sd, share
):
    generator = np.random.default_rng(3)
    studies = 600
    hits = 0
    for _ in range(studies):
        random, salient = _study(generator, seeds=seeds, seed_sd=seed_sd, gain=0.1, share=share)
        found = compare(salient, random)
        hits += found.low <= 0.1 <= found.high
    assert 0.93 <= hits / studies <= 0.97


def test_wilson_covers_the_truth_in_93_to_97_percent_of_worlds():
    generator = np.random.default_rng(4)
    for n, p in ((40, 0.3), (200, 0.9), (503, 0.328)):
        intervals = [wilson_interval(k, n) for k in range(n + 1)]
        drawn = generator.binomial(n, p, 20_000)
        hits = np.mean([intervals[k].low <= p <= intervals[k].high for k in drawn])
        assert 0.93 <= hits <= 0.97


@pytest.mark.slow
def test_questions_that_share_documents_need_their_documents():
    generator = np.random.default_rng(5)
    strata, documents = np.zeros(120, int), np.repeat(np.arange(30), 4)
    hits = {"questions": 0, "documents": 0}
    for _ in range(400):
        chance = 0.5 + generator.normal(0, 0.25, 30)[documents]
        scores = (generator.random((1, 120)) < chance).astype(float)
        for name, units in (("questions", None), ("documents", documents)):
            found = score_estimate(scores, strata, rng=generator, documents=units)
            hits[name] += found.low <= 0.5 <= found.high
    assert hits["questions"] / 400 < 0.91
    assert 0.925 <= hits["documents"] / 400 <= 0.97


def test_equal_answers_still_leave_room_for_a_difference():
    scores = np.ones((1, 40))
    found = difference_estimate(
        scores, scores, np.zeros(40, int), same_seeds=True, rng=np.random.default_rng(0)
    )
    assert found.value == 0.0
    assert found.high == pytest.approx(wilson_interval(0, 40).high)
    assert found.low == -found.high
