import pytest

from longact_cli.errors import UnknownNameError
from longact_cli.training.rewards import REWARDS, score_completion, string_match, terminated


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


def test_every_registered_reward_gives_one_to_the_references_and_zero_to_silence() -> None:
    # Other tests register rewards of their own, all called test_*.
    names = [name for name in REWARDS.names() if not name.startswith("test_")]
    assert names
    for name in names:
        reward = REWARDS.get(name)
        assert reward("123, 456", ["123", "456"]) == 1.0
        assert reward("", ["123", "456"]) == 0.0


def test_an_unknown_reward_names_its_setting() -> None:
    with pytest.raises(UnknownNameError, match=r"data\.reward is 'exact'"):
        REWARDS.get("exact")
