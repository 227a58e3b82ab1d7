import pytest

from longact_cli.errors import UnknownNameError
from longact_cli.training.rewards import (
    REWARDS,
    overlong_cache_tokens,
    overlong_punishment,
    score_completion,
    string_match,
    terminated,
)


@pytest.mark.parametrize(
    ("completion", "references", "match"),
    [
        (" 1234567.", ["1234567"], 1.0),
        (" 1234567 and 7654321.", ["1234567", "7654321"], 1.0),
        (" 1234567.", ["1234567", "7654321"], 0.5),
        (" XYZAB, QWERT", ["xyzab", "qwert", "AAAAA", "BBBBB"], 0.5),
        (" 12345678.", ["1234567"], 0.0),
        (" 91234567", ["1234567"], 0.0),
        ("", ["1234567"], 0.0),
        ("ab12-cd34.", ["ab12-cd34"], 1.0),
        ("ab12-cd34-ef", ["ab12-cd34"], 0.0),
    ],
)
def test_the_match_is_the_share_of_references_found_as_whole_words(
    completion: str, references: list[str], match: float
) -> None:
    assert string_match(completion, references) == match


def test_a_completion_that_did_not_end_by_itself_earns_nothing() -> None:
    assert score_completion(1.0, ended=True) == 1.0
    assert score_completion(1.0, ended=False) == 0.0


@pytest.mark.parametrize(
    ("ids", "ended"), [([5, 6, 2], True), ([5, 2, 6], False), ([], False), ([3], True)]
)
def test_only_an_end_token_in_last_place_terminates(ids: list[int], ended: bool) -> None:
    assert terminated(ids, [2, 3]) is ended


@pytest.mark.parametrize(
    ("completion", "match"),
    [(" 1234567.", 1.0), ("1234567 or 7654321", 1.0), ("12345678", 0.0), ("", 0.0)],
)
def test_one_reference_is_enough_for_the_match_of_any(completion: str, match: float) -> None:
    assert REWARDS.get("string_match_any")(completion, ["1234567", "zebra"]) == match


@pytest.mark.parametrize(
    ("completion", "match"),
    [
        ("The correct answer is (B).", 1.0),
        ("answer: B", 1.0),
        ("The answer is **B**", 1.0),
        ("(B)", 1.0),
        (" B.", 1.0),
        (r"so \boxed{B}", 1.0),
        ("The answer is (B). No, the answer is (C).", 0.0),
        ("The answer is (C). No, the answer is (B).", 1.0),
        (r"The answer is (B), so \boxed{C}", 0.0),
        ("A B C D", 0.0),
        ("the answer is Bern", 0.0),
        ("", 0.0),
    ],
)
def test_the_last_stated_letter_is_the_choice(completion: str, match: float) -> None:
    assert REWARDS.get("choice_letter")(completion, ["B"]) == match


def test_a_guess_far_from_the_end_does_not_count() -> None:
    assert REWARDS.get("choice_letter")("The answer is (B)." + " x" * 2000, ["B"]) == 0.0


@pytest.mark.parametrize(
    ("completion", "reference", "match"),
    [
        (r"so \boxed{\frac{1}{2}}", "0.5", 1.0),
        ("The answer is 42.", "42", 1.0),
        (r"$x = \sqrt{8}$", r"2\sqrt{2}", 1.0),
        ("The answer is 41.", "42", 0.0),
        ("", "42", 0.0),
    ],
)
def test_equal_mathematics_counts_in_any_spelling(
    completion: str, reference: str, match: float
) -> None:
    pytest.importorskip("math_verify")
    assert REWARDS.get("math_equal")(completion, [reference]) == match


def test_one_of_several_references_is_enough_for_equal_mathematics() -> None:
    pytest.importorskip("math_verify")
    assert REWARDS.get("math_equal")("The answer is 7.", ["8", "7"]) == 1.0


@pytest.mark.parametrize(
    ("completion", "match"),
    [
        (r"so \boxed{7}", 1.0),
        (r"\boxed{7} or \boxed{8}", 0.0),
        (r"\boxed{}", 0.0),
        ("The answer is 7", 1.0),
        (r"The answer is \boxed{\frac{1}{2}}", 1.0),
        ("The answer is 7; answer: 8", 0.0),
        ("7", 0.0),
    ],
)
def test_the_format_asks_for_exactly_one_final_answer(completion: str, match: float) -> None:
    assert REWARDS.get("format")(completion, ["1"]) == match


@pytest.mark.parametrize(
    ("tokens", "punishment"),
    [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (130, -1.0)],
)
def test_the_punishment_falls_in_a_line_over_the_cache(tokens: int, punishment: float) -> None:
    from trl.rewards import get_soft_overlong_punishment

    value = overlong_punishment(tokens, longest=100, cache=20)
    assert value == pytest.approx(punishment)
    assert [value] == get_soft_overlong_punishment(100, 20)([[0] * tokens])


def test_the_cache_of_dapo_is_a_fifth_and_never_empty() -> None:
    assert overlong_cache_tokens(0.2, 20480) == 4096
    assert overlong_cache_tokens(0.01, 16) == 1


def test_an_unknown_reward_names_its_setting() -> None:
    with pytest.raises(UnknownNameError, match=r"data\.reward is 'exact'"):
        REWARDS.get("exact")
