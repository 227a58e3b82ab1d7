"""Expected scores follow the official rules by hand, for June and for August 2024."""

import pytest

from longact_cli.errors import UnknownNameError
from longact_cli.evaluation.infinitebench.score import METRICS, score_completion
from longact_cli.evaluation.infinitebench.tasks import TASKS

MC = ["Walking Georgie", "A"]
BUG = ["repack_carchive", "B"]
ROLE = ["ACE", "ACE ROTHSTEIN"]
TWO_WORDS = ["STAMP PAID"]

# (task, completion, label, score of 2024-06, score of 2024-08)
CASES = [
    # first run of digits
    ("passkey", "71432", "71432", 1, 1),
    ("passkey", "The pass key is 71432.", ["71432"], 1, 1),
    ("passkey", "71432 or 99999", "71432", 1, 1),
    ("passkey", "99999 or 71432", "71432", 0, 0),
    ("passkey", "071432", "71432", 0, 0),
    ("passkey", "71 432", "71432", 0, 0),
    ("passkey", "7\x001432", "71432", 0, 0),
    ("passkey", "key: **71432**", 71432, 1, 1),
    ("passkey", "", "71432", 0, 0),
    ("passkey", "<think>2 keys?</think>71432", "71432", 0, 0),
    ("passkey", "\uff17\uff11\uff14\uff13\uff12", "71432", 0, 0),
    ("number_string", "2200012222", "2200012222", 1, 1),
    ("number_string", "220001222", "2200012222", 0, 0),
    ("number_string", "No. 1: 2200012222", ["2200012222"], 0, 0),
    # label is a word
    ("kv_retrieval", '"5e6b-7b90"', "5e6b-7b90", 1, 1),
    ("kv_retrieval", "The value is 5e6b-7b90.", "5e6b-7b90", 1, 1),
    ("kv_retrieval", "5e6b-7b90x", "5e6b-7b90", 0, 0),
    ("kv_retrieval", "`5e6b-7b90`", "5e6b-7b90", 0, 0),
    ("kv_retrieval", "5E6B-7B90", "5e6b-7b90", 0, 0),
    ("kv_retrieval", "{k: '5e6b-7b90'}", ["5e6b-7b90"], 0, 1),
    ("kv_retrieval", "", "5e6b-7b90", 0, 0),
    # dialogue: first name as one word, then any name anywhere
    ("longdialogue_qa_eng", "Ace.", ROLE, 1, 1),
    ("longdialogue_qa_eng", "ACE ROTHSTEIN", ROLE, 1, 1),
    ("longdialogue_qa_eng", "Rothstein", ROLE, 0, 0),
    ("longdialogue_qa_eng", "PALACE", ROLE, 0, 1),
    ("longdialogue_qa_eng", "'Stamp Paid'", TWO_WORDS, 0, 1),
    ("longdialogue_qa_eng", "stamp  paid", TWO_WORDS, 0, 0),
    ("longdialogue_qa_eng", "Nicky", ROLE, 0, 0),
    ("longdialogue_qa_eng", "**ACE**", ROLE, 0, 1),
    ("longdialogue_qa_eng", "", ROLE, 0, 0),
    ("longdialogue_qa_eng", "Nicky or ACE?", "ACE", 1, 1),
    # multiple choice
    ("longbook_choice_eng", "A", MC, 1, 1),
    ("longbook_choice_eng", " A. Walking Georgie", MC, 1, 1),
    ("longbook_choice_eng", "B", MC, 0, 0),
    ("longbook_choice_eng", "Because A", MC, 0, 1),
    ("longbook_choice_eng", "a", MC, 0, 0),
    ("longbook_choice_eng", "(A)", MC, 0, 1),
    ("longbook_choice_eng", "**A**", MC, 0, 1),
    ("longbook_choice_eng", "Walking Georgie", MC, 1, 1),
    ("longbook_choice_eng", "walking Georgie", MC, 0, 0),
    ("longbook_choice_eng", "The answer is: A", MC, 1, 1),
    ("longbook_choice_eng", "The answer is: B, not A", MC, 0, 1),
    ("longbook_choice_eng", "The answer is A or B", MC, 1, 1),
    ("longbook_choice_eng", "The answer is:", MC, 0, 0),
    ("longbook_choice_eng", "The answer is: Walking Georgie", MC, 1, 1),
    ("longbook_choice_eng", "The right one: A", MC, 1, 1),
    ("longbook_choice_eng", "I choose BC or A", MC, 0, 1),
    ("longbook_choice_eng", "<think>B or C?</think> A", MC, 0, 1),
    ("longbook_choice_eng", "<think>B</think>\nA", MC, 1, 1),
    ("longbook_choice_eng", "\x00A", MC, 0, 1),
    ("longbook_choice_eng", "", MC, 0, 0),
    ("longbook_choice_eng", "A", ["x", "B"], 0, 0),
    # code: which function
    ("code_debug", "B. repack_carchive", BUG, 1, 1),
    ("code_debug", "B: yes", BUG, 1, 1),
    ("code_debug", "B", BUG, 0, 1),
    ("code_debug", "(B)", BUG, 0, 1),
    ("code_debug", "b. repack_carchive", BUG, 0, 0),
    ("code_debug", "repack_carchive", BUG, 0, 1),
    ("code_debug", "The correct option is: B", BUG, 1, 1),
    ("code_debug", "The answer is: **B**", BUG, 1, 1),
    ("code_debug", "The answer is:B", BUG, 0, 1),
    ("code_debug", "The answer is:", BUG, 0, 0),
    ("code_debug", "The answer is: C. Not B", BUG, 0, 1),
    ("code_debug", "B. or C. perhaps", BUG, 1, 1),
    ("code_debug", "A. foo", BUG, 0, 0),
    ("code_debug", "B is wrong, so C", BUG, 0, 1),
    ("code_debug", "I am sure:\nB", BUG, 0, 0),
    ("code_debug", "<think>B</think>The answer is: C", BUG, 0, 0),
    ("code_debug", "", BUG, 0, 0),
    # last word as integer
    ("code_run", "-12", -12, 1, 1),
    ("code_run", "The return value is: 7.", [7], 1, 1),
    ("code_run", "7 is the value", 7, 0, 0),
    ("code_run", "`7`", "7", 1, 1),
    ("code_run", "**7**", 7, 0, 0),
    ("code_run", "7.5", 5, 1, 1),
    ("code_run", "1_0", 10, 1, 1),
    ("code_run", "", 7, 0, 0),
    ("code_run", "seven", 7, 0, 0),
    # first number
    ("math_find", "88", 88, 1, 1),
    ("math_find", "It is 88, not 90", [88], 1, 1),
    ("math_find", "-88", 88, 1, 1),
    ("math_find", "88", "88", 1, 1),
    ("math_find", "1.5", 1, 0, 0),
    ("math_find", "88.0", 88, 0, 0),
    ("math_find", "88.0", "88", 0, 0),
    ("math_find", "1.5", 1.5, 1, 1),
    ("math_find", "1.50", ["1.5"], 1, 1),
    ("math_find", "2", 2.0, 1, 1),
    ("math_find", "1,500", 1500, 0, 0),
    ("math_find", "no number", 88, 0, 0),
    ("math_find", "", 88, 0, 0),
    # leading values
    ("math_calc", "[1, 4, 8]", [1, 4, 8], 1, 1),
    ("math_calc", "1, 4, 9, 8", [1, 4, 8, 9], 0.5, 0.5),
    ("math_calc", "2, 4, 8", [1, 4, 8], 0, 0),
    ("math_calc", "1", [[1, 4, 8, 9]], 0.25, 0.25),
    ("math_calc", "1 4 8", ["1", "4", "8"], 1, 1),
    ("math_calc", "-1, 4", [-1, 4], 0, 0),
    ("math_calc", "", [1, 2], 0, 0),
    ("math_calc", "1, 4, 8, 99", [1, 4, 8], 1, 1),
    # token F1
    ("longbook_qa_eng", "The Cat!", ["cat"], 1, 1),
    ("longbook_qa_eng", "black cat", ["cat", "dog"], pytest.approx(2 / 3), pytest.approx(2 / 3)),
    ("longbook_qa_eng", "cat cat", ["cat"], pytest.approx(2 / 3), pytest.approx(2 / 3)),
    ("longbook_qa_eng", "", ["cat"], 0, 0),
    ("longbook_qa_eng", "the", ["the"], 0, 0),
    ("longbook_qa_eng", "don't", ["dont"], 1, 1),
    ("longbook_qa_chn", "小明。", ["小明"], 1, 1),
    ("longbook_qa_chn", "小 明", ["“小明”"], 1, 1),
    ("longbook_qa_chn", "小红", ["小明"], 0.5, 0.5),
    ("longbook_qa_chn", "小明和小红", ["小明"], pytest.approx(4 / 7), pytest.approx(4 / 7)),
    ("longbook_qa_chn", "《小明》", ["小明"], pytest.approx(4 / 5), pytest.approx(4 / 5)),
    ("longbook_qa_chn", "", ["小明"], 0, 0),
    # rougeLsum
    ("longbook_sum_eng", "a b c", ["a b c"], 1, 1),
    ("longbook_sum_eng", "A, B; C", "a b c", 1, 1),
    ("longbook_sum_eng", "a b", ["a b c d"], pytest.approx(2 / 3), pytest.approx(2 / 3)),
    ("longbook_sum_eng", "cats", ["cat"], 0, 0),
    ("longbook_sum_eng", "c d\na b", ["a b\nc d"], 1, 1),
    ("longbook_sum_eng", "c d a b", ["a b c d"], 0.5, 0.5),
    ("longbook_sum_eng", "x", ["y z", "x"], 1, 1),
    ("longbook_sum_eng", "", ["a"], 0, 0),
]


def test_there_are_at_least_sixty_cases_and_every_task_has_some():
    assert len(CASES) >= 60
    assert {case[0] for case in CASES} == set(METRICS) == set(TASKS)


@pytest.mark.parametrize(("task", "completion", "label", "june", "august"), CASES)
def test_both_scorers_follow_the_official_rules(task, completion, label, june, august):
    assert score_completion(task, completion, label, scorer="2024-06").score == june
    assert score_completion(task, completion, label, scorer="2024-08").score == august


def test_gpt4_loses_its_first_value_of_math_calc_and_no_other_model_does():
    label = [4, 8]
    assert (
        score_completion("math_calc", "1, 4, 8", label, scorer="2024-06", model="gpt4").score == 1
    )
    assert (
        score_completion("math_calc", "1, 4, 8", label, scorer="2024-06", model="kimi").score == 0
    )


def test_a_value_of_thousands_of_digits_is_wrong_and_no_error():
    digits = "9" * 5000
    assert score_completion("math_calc", digits, [9], scorer="2024-06").score == 0
    assert score_completion("code_run", digits, 9, scorer="2024-06").score == 0
    assert score_completion("math_find", digits, 9, scorer="2024-06").score == 0


@pytest.mark.parametrize(
    ("task", "completion", "label", "parsed"),
    [
        ("passkey", "key 12 34", "12", "12"),
        ("passkey", "none", "12", None),
        ("longbook_choice_eng", "C", MC, "C"),
        ("longbook_choice_eng", "no idea", MC, None),
        ("code_debug", "B.", BUG, "B"),
        ("code_debug", "The answer is: C", BUG, "C"),
        ("code_run", "x = 7", 8, "7"),
        ("math_find", "about 1.5", 1, "1.5"),
        ("longbook_qa_eng", "The Cat!", ["cat"], "cat"),
        ("longbook_qa_eng", "The!", ["cat"], None),
    ],
)
def test_parsed_is_what_was_read_out_of_the_completion(task, completion, label, parsed):
    assert score_completion(task, completion, label, scorer="2024-06").parsed == parsed


@pytest.mark.parametrize(
    ("task", "label", "reason"),
    [
        ("passkey", None, "a text or a list of texts"),
        ("longbook_qa_eng", [1], "a text or a list of texts"),
        ("longbook_qa_eng", [], "a text or a list of texts"),
        ("code_debug", ["only"], r"\[option text, letter\]"),
        ("math_find", "many", "a number"),
        ("math_find", True, "a number"),
        ("math_calc", 5, "a list of numbers"),
        ("math_calc", [], "a list of numbers"),
    ],
)
def test_a_label_that_no_rule_can_use_is_an_error_and_not_a_zero(task, label, reason):
    with pytest.raises(ValueError, match=reason):
        score_completion(task, "1", label, scorer="2024-06")


def test_an_unknown_task_is_named_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'passkey'"):
        score_completion("passkeys", "1", "1", scorer="2024-06")
