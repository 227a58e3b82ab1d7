import pytest

from longact_cli.reporting.statistics.granularity import check_granularity


def test_the_published_score_is_no_share_of_503_questions():
    found = check_granularity("36.73", 503)
    assert not found.possible
    assert (found.below, found.above) == (184, 185)
    assert found.fitting_runs[:2] == (4, 8)
    assert "184/503 = 36.58 % and 185/503 = 36.78 %" in found.sentence()


def test_the_published_baseline_is_165_of_503():
    assert check_granularity("32.80", 503).possible
    assert 100 * 165 / 503 == pytest.approx(32.80, abs=0.005)


def test_quarter_points_for_unread_answers_make_it_possible():
    assert check_granularity("36.73", 503, parts=4).possible  # 184.75 / 503


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_the_check_agrees_with_trying_every_count(decimals):
    for n in (7, 63, 503):  # odd, so that no share lies halfway between two printed values
        shares = {f"{100 * k / n:.{decimals}f}" for k in range(n + 1)}
        tried = [f"{tenths / 10:.{decimals}f}" for tenths in range(0, 1001, 7)]
        for printed in [*tried, *shares]:
            assert check_granularity(printed, n).possible == (printed in shares)


def test_a_tie_may_be_rounded_either_way():
    assert check_granularity("12.5", 8).possible
    assert check_granularity("12", 8).possible
    assert check_granularity("13", 8).possible
    assert not check_granularity("14", 8).possible


@pytest.mark.parametrize(("printed", "n"), [("0", 503), ("100", 503), ("100.00", 1), ("50", 2)])
def test_whole_scores_are_possible(printed, n):
    assert check_granularity(printed, n).possible
