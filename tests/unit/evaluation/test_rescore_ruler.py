"""RULER's rules by hand: share of references found, ignoring case; for qa any one is enough."""

import json

import pytest

from longact_cli.errors import ConfigError
from longact_cli.evaluation.rescore import rescore

ONE, TWO, FIVE = ["1234567"], ["ABCDE", "FGHIJ"], ["VAR1", "VAR2", "VAR3", "VAR4", "VAR5"]

CASES = [
    ("niah_single_1", "1234567", ONE, 1.0),
    ("niah_single_1", " The number is 1234567.", ONE, 1.0),
    ("niah_single_1", "**1234567**", ONE, 1.0),
    ("niah_single_1", "`1234567`", ONE, 1.0),
    ("niah_single_1", "1,234,567", ONE, 0.0),
    ("niah_single_1", "123456", ONE, 0.0),
    ("niah_single_1", "91234567", ONE, 1.0),
    ("niah_single_1", "", ONE, 0.0),
    ("niah_single_1", " \n\t", ONE, 0.0),
    ("niah_single_1", "123\x004567", ONE, 0.0),
    ("niah_single_1", "\x001234567\x1f", ONE, 1.0),
    ("niah_single_1", "1234567 or 7654321", ONE, 1.0),
    ("niah_single_1", "7654321", ONE, 0.0),
    ("niah_single_1", "<think>1234567</think>", ONE, 1.0),
    ("niah_single_1", "<think>It is 1234567</think>7654321", ONE, 1.0),
    ("niah_single_1", "1234567", [1234567], 1.0),
    ("niah_single_2", "1234567", "1234567", 1.0),
    ("niah_single_3", "0F3A-77", ["0f3a-77"], 1.0),
    ("niah_single_3", "0f3a 77", ["0f3a-77"], 0.0),
    ("niah_multikey_1", "one 1234567", ONE, 1.0),
    ("niah_multikey_2", "1 2 3 4 5 6 7", ONE, 0.0),
    ("niah_multikey_3", "a-b-c", ["A-B-C"], 1.0),
    ("niah_multivalue", "ABCDE, FGHIJ", TWO, 1.0),
    ("niah_multivalue", "FGHIJ", TWO, 0.5),
    ("niah_multivalue", "ABCDE ABCDE", TWO, 0.5),
    ("niah_multivalue", "ABCDEFGHIJ", TWO, 1.0),
    ("niah_multiquery", "abcde\nfghij", TWO, 1.0),
    ("niah_multiquery", "neither", TWO, 0.0),
    ("vt", "VAR1 VAR2 VAR3 VAR4 VAR5", FIVE, 1.0),
    ("vt", "VAR5, VAR4", FIVE, 0.4),
    ("vt", "var1", FIVE, 0.2),
    ("vt", "VAR 1", FIVE, 0.0),
    ("vt", "", FIVE, 0.0),
    ("vt", "VAR12345", FIVE, 0.2),
    ("variable_tracking", "VAR1 VAR2", FIVE, 0.4),
    ("cwe", "1. apple 2. pear", ["apple", "pear"], 1.0),
    ("cwe", "1. Apple", ["apple", "pear"], 0.5),
    ("cwe", "pineapple", ["apple", "pear"], 0.5),
    ("cwe", "applepear", ["apple", "pear"], 1.0),
    ("cwe", "- **APPLE**\n- plum", ["apple", "pear"], 0.5),
    ("common_words_extraction", "pear", ["apple", "pear"], 0.5),
    ("fwe", "abc def ghi", ["abc", "def", "ghi"], 1.0),
    ("fwe", "1. abc 2. xyz", ["abc", "def", "ghi"], pytest.approx(1 / 3)),
    ("fwe", "none", ["abc", "def", "ghi"], 0.0),
    ("freq_words_extraction", "DEF GHI", ["abc", "def", "ghi"], pytest.approx(2 / 3)),
    ("qa_1", "Paris", ["Paris", "the city of Paris", "paris, France"], 1.0),
    ("qa_1", "It is in PARIS, France.", ["Paris", "London"], 1.0),
    ("qa_1", "London", ["Paris", "London"], 1.0),
    ("qa_1", "Rome", ["Paris", "London"], 0.0),
    ("qa_1", "Par is", ["Paris"], 0.0),
    ("qa_1", "", ["Paris"], 0.0),
    ("qa_1", "**Paris**", ["Paris"], 1.0),
    ("qa_1", "<think>Rome?</think>Paris", ["Paris"], 1.0),
    ("qa_1", "Paris\x00", ["Paris"], 1.0),
    ("qa_1", "Pa\x00ris", ["Paris"], 0.0),
    ("qa_2", "yes", ["Yes"], 1.0),
    ("qa_2", "no, yesterday", ["yes"], 1.0),
    ("qa_2", "42", [42, "forty-two"], 1.0),
    ("qa_squad", "one", ["one", "two", "three"], 1.0),
    ("ruler_qa_hotpot", "three", ["one", "two", "three"], 1.0),
    ("ruler/vt", "VAR1", FIVE, 0.2),
    ("qa", "zwei", ["Zwei"], 1.0),
    ("niah_single_1", "数字是1234567。", ONE, 1.0),
]


def rescored(tmp_path, row):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    rescore("ruler", source, out=out)
    return json.loads(out.read_text(encoding="utf-8"))


def test_there_are_at_least_sixty_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize(("task", "prediction", "outputs", "score"), CASES)
def test_the_official_rules_decide(tmp_path, task, prediction, outputs, score):
    row = {"task": task, "prediction": prediction, "outputs": outputs}
    assert rescored(tmp_path, row)["score"] == score


def test_parsed_names_the_references_that_were_found(tmp_path):
    row = {"task": "vt", "prediction": "var2 VAR5", "outputs": FIVE}
    assert rescored(tmp_path, row)["parsed"] == "VAR2, VAR5"
    assert rescored(tmp_path, {**row, "prediction": "none"})["parsed"] is None


@pytest.mark.parametrize("row", [{"prediction": None}, {"pred": None}, {}])
def test_a_row_without_prediction_failed(tmp_path, row):
    result = rescored(tmp_path, {"task": "vt", "outputs": FIVE, **row})
    assert (result["score"], result["parsed"]) == (None, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"task": "vt", "prediction": "x"}, "outputs is missing or empty"),
        ({"task": "vt", "prediction": "x", "outputs": []}, "outputs is missing or empty"),
        ({"task": "vt", "prediction": "x", "outputs": [None]}, "reference is null"),
        ({"task": "sorting", "prediction": "x", "outputs": ["x"]}, "task is 'sorting'"),
        ({"task": "vt", "prediction": ["x"], "outputs": ["x"]}, "prediction is list"),
    ],
)
def test_a_row_that_no_rule_can_score_is_refused(tmp_path, row, reason):
    with pytest.raises(ConfigError, match=rf"in\.jsonl, line 1: {reason}"):
        rescored(tmp_path, row)
