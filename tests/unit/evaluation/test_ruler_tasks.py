"""The tasks over essays, word lists and documents."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler import cwe, data
from longact_cli.evaluation.ruler.cwe import regime
from longact_cli.evaluation.ruler.data import load_collection, load_essays
from longact_cli.evaluation.ruler.essay import Essays
from longact_cli.evaluation.ruler.fwe import word_counts
from longact_cli.evaluation.ruler.generator import RulerSource, make_prompt, make_sample


def plain(source) -> RulerSource:
    return replace(source, chat_template=False)


def test_essay_needles_stand_between_sentences(source, data_dir):
    essay = json.loads((data_dir / "PaulGrahamEssays.json").read_text("utf-8"))["text"].split()
    for index in range(10):
        sample = make_sample("niah_multikey_1", 1024, index=index, source=plain(source))
        context = sample.prompt.split("afterwards.\n")[1].split("\nWhat is")[0]
        needles = re.findall(r"One of the special magic numbers for [^.]+? is: \d{7}\.", context)
        assert len(needles) == len(set(needles)) == 4
        for needle in needles:
            before = context[: context.index(needle)].rstrip()
            after = context[context.index(needle) + len(needle) :].strip()
            assert not before or not after or before.endswith((".", "?", '."'))
            context = context.replace(needle, " ")
        words = context.split()
        assert words == essay[: len(words)]
        assert len(words) == sample.units


def test_four_values_of_one_key_are_all_references(source):
    sample = make_sample("niah_multivalue", 1024, index=0, source=plain(source))
    key = re.search(r"numbers for (\S+) mentioned in the provided text are$", sample.prompt)[1]
    found = re.findall(rf"numbers for {re.escape(key)} is: (\d+)\.", sample.prompt)
    assert sorted(found) == sorted(sample.references)
    assert len(set(found)) == 4
    assert "Some special magic numbers are hidden" in sample.prompt
    assert f"What are all the special magic numbers for {key} mentioned" in sample.prompt


def test_four_keys_are_asked_for_in_one_question(source):
    sample = make_sample("niah_multiquery", 1024, index=0, source=plain(source))
    asked = sample.prompt.rsplit("numbers for ", 1)[1].partition(" mentioned in")[0]
    keys = asked.replace(", and ", ", ").split(", ")
    assert len(set(keys)) == 4
    values = [re.search(rf"for {re.escape(key)} is: (\d+)", sample.prompt)[1] for key in keys]
    assert tuple(values) == sample.references


def test_essays_start_again_where_they_end():
    essays = Essays("A b. C d e. F".split())
    assert essays.slice(4, 9) == "e. F A b. C"
    assert essays.slice(3, 3) == essays.slice(12, 12) == ""
    assert essays.slice(0, 12) == "A b. C d e. F A b. C d e. F"
    assert [essays.sentences(words) for words in (1, 2, 3, 5, 6, 8, 11, 12)] == [
        *(1, 1, 2, 2, 3, 3, 4, 5),
    ]
    assert essays.sentence_start(2, 8) == 5
    assert essays.sentence_start(3, 8) == 8  # the third sentence, "F A b.", ends there


@pytest.mark.parametrize(("length", "common", "uncommon"), [(2000, 6, 1), (8192, 30, 3)])
def test_common_words_occur_as_often_as_officially(source, length, common, uncommon):
    sample = make_sample("cwe", length, index=1, source=plain(source))
    example, question = sample.prompt.split("\nBelow is")
    words = re.findall(r"\d+\. (.+?)(?= \d+\. |\nQuestion)", question)
    counts = Counter(words)
    assert {counts[word] for word in sample.references} == {common}
    assert {n for word, n in counts.items() if word not in sample.references} == {uncommon}
    assert [int(n) for n in re.findall(r"(\d+)\. ", question)] == list(range(1, len(words) + 1))
    answer = re.findall(r"\d+\. (.+?)(?= \d+\. |$)", example.split("in the list are: ")[1])
    listed = f"{example.partition(chr(10) + 'Question')[0]}\nQuestion"
    shown = Counter(re.findall(r"\d+\. (.+?)(?= \d+\. |\nQuestion)", listed))
    assert len(answer) == 10
    assert {shown[word] for word in answer} == {regime(length).example_common}


def test_coded_words_occur_by_the_zeta_distribution(source):
    # 100 / zeta(2) = 60.79: word k occurs 60.79 / k^2 times, rounded down.
    assert word_counts(100, 50).tolist() == [60, 15, 6, 3, 2, 1, 1]
    assert word_counts(100, 3).tolist() == [60, 15, 6]
    sample = make_sample("fwe", 1000, index=0, source=plain(source))
    text = sample.prompt.split("coded words. ")[1].split("\nQuestion")[0]
    ranked = Counter(text.split(" ")).most_common()
    assert [word for word, _ in ranked[:4]] == ["...", *sample.references]
    assert [count for _, count in ranked] == word_counts(sample.units, (1000 - 50) // 50).tolist()


def test_a_question_comes_with_its_own_document_and_the_next_of_its_article(source):
    sample = make_sample("qa_1", 512, index=4, source=plain(source))
    assert "Question: Which one is 1.1? Answer:" in sample.prompt
    assert sample.references == ("A1P1", "that one")
    shown = re.findall(r"Document \d+:\n(A\d+P\d)", sample.prompt)
    assert {"A1P0", "A1P1", "A1P2"} <= set(shown)
    numbers = [int(n) for n in re.findall(r"Document (\d+):", sample.prompt)]
    assert numbers == list(range(1, sample.units + 1))


def test_documents_repeat_where_the_collection_is_too_small(source):
    documents = len(load_collection("squad", source.data_dir).documents)
    prompt = make_prompt("qa_1", 9000, index=0, units=documents + 2, source=source)
    shown = Counter(re.findall(r"Document \d+:\n(A\d+P\d+)", prompt))
    assert sum(shown.values()) == documents + 2
    assert max(shown.values()) == 2


def test_more_questions_than_there_are_is_an_error(source):
    with pytest.raises(ConfigError, match=r"question 37 of squad, which has 36"):
        make_sample("qa_1", 512, index=36, source=source)


def test_questions_are_not_for_training(source):
    with pytest.raises(ConfigError, match=r"data\.tasks has qa_2"):
        make_sample("qa_2", 1024, index=0, source=replace(source, split="train"))


def test_a_missing_file_is_named_with_its_address(tmp_path):
    with pytest.raises(ConfigError, match=r"squad\.json is not in it: get it from https://"):
        load_collection("squad", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "is not JSON"), ('{"text": 3}', "does not have the schema"), ("[]", "schema")],
)
def test_a_file_of_another_schema_is_refused(tmp_path, text, reason):
    (tmp_path / "PaulGrahamEssays.json").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=reason):
        load_essays(str(tmp_path))
    load_essays.cache_clear()


def test_sums_of_long_prompts_are_exact(tokenizer, data_dir):
    source = RulerSource(tokenizer, seed=0, split="eval", data_dir=str(data_dir))
    for task in ("niah_single_1", "niah_single_2", "vt", "cwe", "fwe", "qa_1"):
        assert source.is_additive(task, 20000)
        sample = make_sample(task, 20000, index=3, source=source)
        assert len(tokenizer.encode(sample.prompt)) == sample.prompt_tokens
        assert sample.prompt_tokens + sample.tokens_to_generate > 0.98 * 20000


def test_a_longer_list_of_words_than_the_lists_hold_is_filled_up(tmp_path, monkeypatch):
    # A few words in the lists, so that a short prompt needs more.
    listed = cwe.cwe_words()[::100]
    cwe._answer_words.cache_clear()
    monkeypatch.setattr(cwe, "cwe_words", lambda: listed)
    rng = random.Random(0)
    frame = SimpleNamespace(
        surroundings=("", ""),
        ending=lambda prefix: prefix,
        count=lambda text: len(text.split()),
        counts=lambda texts: [len(text.split()) for text in texts],
        opening=lambda text: len(text.split()),
        numbers=lambda last: np.arange(last + 1),
    )
    draft = cwe.cwe_draft(4096, rng, split="eval")
    size = draft.measure(frame, 3000)
    words = Counter(draft.message(size.units).rsplit("Memorize", 1)[1].split("\n")[1].split()[1::2])
    beyond = [word for word in words if word not in listed]
    assert size.units == len(words) > len(listed)
    assert set(beyond) <= set(cwe.compounds())
    assert {words[word] for word in beyond} == {3}
    assert {words[word] for word in draft.references} == {30}
    (tmp_path / data.SPARE_FILE).write_text('{"a": "alpha", "b": "beta"}', "utf-8")
    assert data.spare_words(str(tmp_path)) == ("alpha", "beta")
    cwe._answer_words.cache_clear()
    with pytest.raises(ConfigError, match="too large for cwe"):
        cwe.cwe_draft(
            4096, random.Random(0), split="eval", spare=lambda: ("alpha", "beta")
        ).measure(frame, 3000)
    cwe._answer_words.cache_clear()
    (tmp_path / data.SPARE_FILE).write_text("[1]", "utf-8")
    data.spare_words.cache_clear()
    with pytest.raises(ConfigError, match=r"english_words\.json does not have the schema"):
        data.spare_words(str(tmp_path))
