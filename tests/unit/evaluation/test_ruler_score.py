"""Expected scores follow the official rules by hand: stripped, case ignored, substrings count."""

import pytest

from longact_cli.evaluation.ruler.score import (
    clean_completion,
    string_match_all,
    string_match_any,
)
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
    # markdown and punctuation around and inside
    ("**1234567**", ("1234567",), 1.0),
    ("`1234567`", ("1234567",), 1.0),
    ("$\\boxed{1234567}$", ("1234567",), 1.0),
    ("1. apple 2. pear 3. plum", ("apple", "pear", "plum", "fig"), 0.75),
    ("- apple\n- pear", ("apple", "pear"), 1.0),
    ("ap**ple**", ("apple",), 0.0),
    ('"apple", "pear"', ("apple", "pear"), 1.0),
    ("apple,pear;plum", ("apple", "pear", "plum"), 1.0),
    ("| apple | pear |", ("apple", "pear"), 1.0),
    ("<answer>apple</answer>", ("apple",), 1.0),
    # thinking text counts here: a caller removes closed thoughts first
    ("<think>1234567?</think> 7654321", ("1234567",), 1.0),
    ("<think>Let me look for it", ("1234567",), 0.0),
    ("</think>1234567", ("1234567",), 1.0),
    # lists, several values, letters
    ("['ABCDE', 'FGHIJ']", ("ABCDE", "FGHIJ", "KLMNO"), 2 / 3),
    ("abcde fghij klmno", ("ABCDE", "FGHIJ", "KLMNO"), 1.0),
    ("A, B, C or D", ("E",), 0.0),  # the letters of "or" hold no E
    ("The end", ("E",), 1.0),  # any e will do
    ("ABCDE ABCDE FGHIJ", ("ABCDE", "ABCDE"), 1.0),  # equal references count each
    ("KLMNO", ("ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"), 0.2),
    ("apples", ("apple",), 1.0),
    ("app le", ("apple",), 0.0),
    ("-1234567", ("1234567",), 1.0),
    ("1234567.0", ("1234567",), 1.0),
    ("1.234567e6", ("1234567",), 0.0),
    ("one two three four five six seven", ("1234567",), 0.0),
    ("1234567 is wrong", ("1234567",), 1.0),
    ("not 1234567", ("1234567",), 1.0),
    # UUIDs
    ("5E6B7B90-0000-4000-8000-0123456789AB", ("5e6b7b90-0000-4000-8000-0123456789ab",), 1.0),
    ("5e6b7b90 0000-4000-8000-0123456789ab", ("5e6b7b90-0000-4000-8000-0123456789ab",), 0.0),
    ("5e6b7b90-0000-4000-8000", ("5e6b7b90-0000-4000-8000-0123456789ab",), 0.0),
    # blanks and control characters
    ("ab\r\ncd", ("ab\n\ncd",), 1.0),  # each becomes a newline of its own
    ("ab\x1bcd", ("abcd",), 0.0),
    ("ab\u2028cd", ("ab\ncd",), 0.0),  # no control character of the list
    ("ab\xa0cd", ("ab cd",), 0.0),
    ("\x07\x08", ("a",), 0.0),
    # other scripts; lower case is Python's
    ("\uff11\uff12\uff13", ("123",), 0.0),
    ("STRASSE", ("stra\u00dfe",), 0.0),
    ("\u0130stanbul", ("i\u0307stanbul",), 1.0),  # a dotted capital I has two code points below
    ("\u5317\u4eac\u5e02", ("\u5317\u4eac",), 1.0),
]
ANY = [
    ("Paris", ("Paris", "the city of Paris"), 1.0),
    ("the CITY of paris", ("Lyon", "the city of Paris"), 1.0),
    ("It is Lyon.", ("Paris", "Paris, France"), 0.0),
    ("Paris", ("Paris, France",), 0.0),
    ("", ("Paris", "Lyon"), 0.0),
    ("\x00", ("Paris",), 0.0),
    ("**Paris**", ("Lyon", "Paris"), 1.0),
    ("comparison", ("Paris",), 1.0),  # com-paris-on: a substring is enough
    ("<think>Paris or Lyon?</think>Rome", ("Paris",), 1.0),
    ("42", ("42", "forty-two"), 1.0),
    ("forty two", ("42", "forty-two"), 0.0),
    ("no", ("no", "yes"), 1.0),
    ("I do not know", ("no",), 1.0),
    ("Document 3", ("three", "3"), 1.0),
]


def test_there_are_at_least_sixty_cases():
    assert len(CASES) + len(ANY) >= 60
    assert len({case[:2] for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("completion", "references", "score"), CASES)
def test_score_is_the_share_of_references_found(completion, references, score):
    assert string_match_all(completion, references) == score


@pytest.mark.parametrize(("completion", "references", "score"), ANY)
def test_one_reference_is_enough_for_a_question(completion, references, score):
    assert string_match_any(completion, references) == score


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
