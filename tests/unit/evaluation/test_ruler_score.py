import pytest

from longact_cli.evaluation.ruler.score import clean_completion, string_match_all
from longact_cli.evaluation.ruler.templates import TASKS

CASES = [
    ("1234567", ("1234567",), 1.0),
    (" 1234567.", ("1234567",), 1.0),
    ("The answer is 1234567", ("1234567",), 1.0),
    ("1234568", ("1234567",), 0.0),
    ("123456", ("1234567",), 0.0),
    ("01234567", ("1234567",), 1.0),  # substring, not word
    ("1 234 567", ("1234567",), 0.0),
    ("1,234,567", ("1234567",), 0.0),
    ("", ("1234567",), 0.0),
    ("   ", ("1234567",), 0.0),
    ("\n\t\r", ("1234567",), 0.0),
    ("abc", ("ABC",), 1.0),
    ("ABC", ("abc",), 1.0),
    ("aBc", ("AbC",), 1.0),
    ("VAR ABC", ("ABC", "DEF"), 0.5),
    ("DEF ABC", ("ABC", "DEF"), 1.0),
    ("ABCDEF", ("ABC", "DEF"), 1.0),
    ("ABC ABC", ("ABC", "DEF"), 0.5),
    ("A B C D", ("A", "B", "C", "D", "E"), 0.8),
    ("xyz", ("A", "B"), 0.0),
    ("12\x0034567", ("1234567",), 0.0),  # a control character becomes a newline
    ("1234567\x1f", ("1234567",), 1.0),
    ("\x001234567", ("1234567",), 1.0),
    ("ab\tcd", ("ab\ncd",), 1.0),  # the tab becomes a newline
    ("ab\x7fcd", ("ab\x7fcd",), 1.0),  # DEL is no control character here
    ("é É", ("É",), 1.0),
    ("1234567\n7654321", ("7654321", "1234567"), 1.0),
]


@pytest.mark.parametrize(("completion", "references", "score"), CASES)
def test_score_is_the_share_of_references_found(completion, references, score):
    assert string_match_all(completion, references) == score


def test_cleaning_strips_before_and_after_control_characters_become_newlines():
    assert clean_completion(" \x00 a\x01b \x02 ") == "a\nb"


def test_scoring_without_references_is_an_error_and_not_a_zero():
    with pytest.raises(ValueError, match="at least one reference"):
        string_match_all("anything", ())


def test_an_oracle_scores_one_and_silence_zero_on_every_task(source):
    from longact_cli.evaluation.ruler.generator import make_sample

    assert len(TASKS) == 13
    for task in TASKS:
        references = make_sample(task, 2000, index=0, source=source).references
        assert string_match_all(", ".join(references), references) == 1.0
        assert string_match_all("", references) == 0.0
