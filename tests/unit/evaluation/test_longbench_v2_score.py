"""Expected letters follow the official rules by hand: `*` dropped, case kept, first match wins."""

import pytest

from longact_cli.evaluation.longbench_v2.score import (
    Judged,
    extract_answer,
    score_answer,
    score_table,
)

CASES = [
    # the wanted form
    ("The correct answer is (A)", "A"),
    ("The correct answer is (B).", "B"),
    ("The correct answer is (C) because it says so", "C"),
    ('"The correct answer is (D)"', "D"),
    ("The correct answer is A", "A"),
    ("The correct answer is B.", "B"),
    ("The correct answer is C\n", "C"),
    ("The correct answer is D, as shown", "D"),
    # markdown
    ("**The correct answer is (A)**", "A"),
    ("The correct answer is **(B)**", "B"),
    ("The correct answer is (**C**)", "C"),
    ("The correct answer is **D**", "D"),
    ("*The* correct *answer* is (A)", "A"),
    ("# The correct answer is (B)", "B"),
    ("The correct answer is `(C)`", None),
    ("The correct answer is _(D)_", None),
    ("The correct answer is $\\boxed{A}$", None),
    ("The correct answer is [A]", None),
    ("The correct answer is \\(A\\)", None),
    # case matters
    ("the correct answer is (A)", None),
    ("THE CORRECT ANSWER IS (A)", None),
    ("The Correct Answer is (A)", None),
    ("The correct answer is (a)", None),
    ("The correct answer is a", None),
    # other phrases
    ("Answer: C", None),
    ("A", None),
    ("(A)", None),
    ("A. It is the first", None),
    ("The answer is (A)", None),
    ("The correct option is (A)", None),
    ("The correct answer: (A)", None),
    ("The correct answer is: (A)", None),
    ("The correct answer would be (A)", None),
    ("Therefore, The correct answer is (A)", "A"),
    ("Therefore, the correct answer is (A)", None),
    ("\\boxed{The correct answer is (B)}", "B"),
    # blanks and control characters
    ("", None),
    ("   \n\t", None),
    ("The correct answer is  (A)", None),
    ("The correct answer is\n(A)", None),
    ("The correct answer is\t(A)", None),
    ("The correct answer is( A )", None),
    ("The correct answer is(A)", None),
    ("The correct answer is ( B )", None),
    ("The correct answer is (A\x00)", None),
    ("The correct answer is A\x00", "A"),
    ("The\xa0correct answer is (A)", None),
    ("The correct answer\r is (A)", None),
    ("The correct answer is (\uff21)", None),
    # several letters
    ("The correct answer is (A) or (B)", "A"),
    ("The correct answer is (B). The correct answer is (C).", "B"),
    ("The correct answer is A. No: The correct answer is (C).", "C"),
    ("The correct answer is A. No: The correct answer is C.", "A"),
    ("The correct answer is AB", "A"),
    ("The correct answer is (AB)", None),
    ("The correct answer is (A, B)", None),
    ("(C) is tempting. The correct answer is (D)", "D"),
    ("The correct answer is not (A). The correct answer is B", "B"),
    ("The correct answer is (insert answer here)", None),
    ("The correct answer is (E)", None),
    ("The correct answer is E", None),
    # quirks of the form without parentheses
    ("The correct answer is Because of the war", "B"),
    ("The correct answer is Dublin", "D"),
    ("The correct answer is An apple", "A"),
    ("The correct answer is Elephant", None),
    ("The correct answer is Because. The correct answer is (A)", "A"),
    # thinking
    ("<think>The correct answer is (A)?</think>The correct answer is (B)", "A"),
    ("<think>Is it C?</think>\n\nThe correct answer is (C).", "C"),
    ("<think>The correct answer is (A", None),
    ("<think>The correct answer is A</think>The correct answer is (D)", "D"),
    ("Let me think. A says x, B says y.\nThe correct answer is (D)\nDone.", "D"),
    ("正确答案是 (A)", None),
    ("正确答案。The correct answer is (A)", "A"),
]


def test_there_are_at_least_sixty_cases():
    assert len(CASES) >= 60
    assert len({text for text, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("completion", "letter"), CASES)
def test_the_letter_is_read_as_the_official_code_reads_it(completion, letter):
    assert extract_answer(completion) == letter


@pytest.mark.parametrize(
    ("parsed", "answer", "official", "compensated"),
    [("A", "A", 1.0, 1.0), ("A", "B", 0.0, 0.0), (None, "A", 0.0, 0.25)],
)
def test_only_an_unparsed_answer_is_compensated(parsed, answer, official, compensated):
    assert score_answer(parsed, answer) == official
    assert score_answer(parsed, answer, scorer="compensated") == compensated


def test_the_table_holds_the_official_columns_domains_and_the_unparsed_share():
    judged = [
        Judged("A", "easy", "short", "Code"),
        Judged("B", "hard", "short", "Novel"),
        Judged(None, "hard", "medium", "Code"),
        Judged("D", "hard", "medium", None),
    ]
    table = score_table(judged, [1.0, 0.0, 0.0, 1.0])
    assert [(column.name, column.score, column.n) for column in table] == [
        ("overall", 0.5, 4),
        ("easy", 1.0, 1),
        ("hard", pytest.approx(1 / 3), 3),
        ("short", 0.5, 2),
        ("medium", 0.5, 2),
        ("long", None, 0),
        ("Code", 0.5, 2),
        ("Novel", 0.0, 1),
        ("unparsed", 0.25, 4),
    ]
