import pytest

from benchmark_data import longbench_items, write_longbench
from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.evaluation.benchmark import Answered, Sample, open_benchmark
from longact_cli.evaluation.longbench_v2.data import load_items
from longact_cli.evaluation.tokens import count_prompt_tokens
from longact_cli.results import SampleResult


def config(**changes: object) -> BenchmarkConfig:
    settings = {
        "name": "longbench-v2",
        "tasks": ["short", "medium", "long"],
        "context_lengths": [400],
        "limit": 2,
        "mode": "zero-shot",
        "max_prompt_tokens": 120_000,
    }
    return BenchmarkConfig.model_validate({**settings, **changes})


def result(sample: Sample, *, score: float | None, parsed: str | None = None) -> SampleResult:
    return SampleResult(
        id=sample.id,
        benchmark=sample.benchmark,
        task=sample.task,
        context_length=sample.context_length,
        prompt_sha256=sample.prompt_sha256,
        prompt_tokens=sample.prompt_tokens,
        completion=None if score is None else "x",
        completion_tokens=None,
        references=sample.references,
        score=score,
        truncated=False,
        error="broken" if score is None else None,
        parsed=parsed,
    )


@pytest.fixture
def folder(tmp_path):
    write_longbench(tmp_path)
    return str(tmp_path)


def test_all_items_are_loaded_in_the_order_of_the_file(folder):
    items = load_items(folder)
    assert len(items) == 503
    assert items[1].id == "id1"
    assert items[1].choices == ("one", "two", "three", "four")


def test_the_data_may_lie_in_a_subfolder_of_the_benchmarks_name(tmp_path):
    (tmp_path / "longbench-v2").mkdir()
    write_longbench(tmp_path / "longbench-v2")
    assert len(load_items(str(tmp_path))) == 503


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items.pop(), "has 502 items instead of 503"),
        (lambda items: items[16].pop("choice_C"), "item 17: choice_C is missing, not a text"),
        (lambda items: items[0].update(answer="E"), "item 1: answer is 'E', not one of A, B, C, D"),
        (lambda items: items[2].update(length="huge"), "not one of short, medium, long"),
        (lambda items: items[3].update(context=5), "item 4: context is 5, not a text"),
        (lambda items: items[5].update(_id="id0"), "two items with the same _id"),
        (lambda items: items.__setitem__(7, []), "item 8 is no JSON object"),
    ],
)
def test_wrong_data_are_refused_in_one_line(tmp_path, change, message):
    items = longbench_items()
    change(items)
    write_longbench(tmp_path, items)
    with pytest.raises(ConfigError, match=message) as error:
        load_items(str(tmp_path))
    assert "\n" not in str(error.value)
    assert "download data.json again" in str(error.value)


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.json is missing.*huggingface\.co/datasets"):
        load_items(str(tmp_path))


def test_a_torn_file_is_refused_in_one_line(tmp_path):
    path = write_longbench(tmp_path)
    path.write_text(path.read_text(encoding="utf-8")[:-10], encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        load_items(str(tmp_path))


def test_samples_fit_their_length_and_say_what_was_cut(folder, tokenizer):
    samples = open_benchmark(config(data_dir=folder, context_lengths=[300])).samples(tokenizer)
    assert [sample.task for sample in samples] == ["short"] * 2 + ["medium"] * 2 + ["long"] * 2
    for sample in samples:
        assert sample.prompt_tokens + sample.tokens_to_generate <= 300
        assert count_prompt_tokens(tokenizer, sample.prompt) == sample.prompt_tokens
        assert sample.truncated_tokens > 0
        assert "Please read the following text" in sample.prompt
        assert 'The correct answer is (insert answer here)".' in sample.prompt
    assert samples[0].id == "longbench-v2/zero-shot/300/id0"
    assert samples[0].temperature == 0.1
    assert samples[0].tokens_to_generate == 128


def test_a_prompt_within_its_budget_is_not_cut(folder, tokenizer):
    samples = open_benchmark(config(data_dir=folder, context_lengths=[4000])).samples(tokenizer)
    assert {sample.truncated_tokens for sample in samples} == {0}


def test_a_chain_of_thought_asks_twice_and_the_second_time_without_the_document(folder, tokenizer):
    rules = open_benchmark(config(data_dir=folder, mode="cot", context_lengths=[4000]))
    first = rules.samples(tokenizer)[0]
    assert first.tokens_to_generate == 1024
    second = rules.follow_up(first, " Hmm, two. ")
    assert second is not None
    assert second.tokens_to_generate == 128
    assert "step by step: Hmm, two.\n\nBased on" in second.prompt
    assert "Document 0" in first.prompt
    assert "Document 0" not in second.prompt
    assert "Question 0?" in second.prompt


def test_other_modes_ask_once(folder, tokenizer):
    rules = open_benchmark(config(data_dir=folder, mode="no-context"))
    sample = rules.samples(tokenizer)[0]
    assert rules.follow_up(sample, "x") is None
    assert "Document" not in sample.prompt


def test_work_is_counted_without_data_or_tokenizer():
    loads = open_benchmark(config(limit=503, mode="cot", context_lengths=[131_072])).workloads()
    assert [(one.task, one.samples) for one in loads] == [
        ("short", 180),
        ("medium", 215),
        ("long", 108),
    ]
    assert loads[2].prompt_tokens == 108 * 120_000
    assert loads[2].generated_tokens == 108 * (1024 + 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["shorts"]}, "benchmark.tasks is 'shorts'.*Did you mean 'short'"),
        ({"mode": "few-shot"}, "benchmark.mode is 'few-shot'"),
        ({"scorer": "2024-06"}, "benchmark.scorer is '2024-06'"),
    ],
)
def test_an_unknown_name_is_refused(changes, message):
    with pytest.raises(UnknownNameError, match=message):
        open_benchmark(config(**changes))


def test_a_length_without_room_for_the_answer_is_refused():
    with pytest.raises(ConfigError, match="reserves 128 of them"):
        open_benchmark(config(context_lengths=[128])).workloads()


def test_a_length_without_room_for_the_question_is_refused(folder, tokenizer):
    with pytest.raises(ConfigError, match="choose a larger length"):
        open_benchmark(config(data_dir=folder, context_lengths=[130])).samples(tokenizer)


def test_the_right_letter_scores_and_compensation_is_an_option(folder, tokenizer):
    rules = open_benchmark(config(data_dir=folder))
    sample = rules.samples(tokenizer)[0]
    assert sample.references == ("A",)
    assert rules.score(sample, "The correct answer is (A)") == (1.0, "A")
    assert rules.score(sample, "The correct answer is (B)") == (0.0, "B")
    assert rules.score(sample, "A") == (0.0, None)
    assert open_benchmark(config(compensated=True)).score(sample, "A") == (0.25, None)


def test_columns_leave_failed_samples_out_and_count_them(folder, tokenizer):
    rules = open_benchmark(config(data_dir=folder, tasks=["short"], limit=4))
    samples = rules.samples(tokenizer)  # hard easy easy hard; Novel Code Novel Code
    results = [
        result(samples[0], score=1.0, parsed="A"),
        result(samples[1], score=0.0),
        result(samples[2], score=None),
        result(samples[3], score=0.0, parsed="C"),
    ]
    pairs = [Answered(*pair) for pair in zip(samples, results, strict=True)]
    rows = {row.task: row for row in rules.aggregate(pairs)}
    assert list(rows) == ["overall", "easy", "hard", "short", "Code", "Novel", "unparsed"]
    assert rows["overall"].score == pytest.approx(1 / 3)
    assert (rows["overall"].n_scored, rows["overall"].n_failed) == (3, 1)
    assert (rows["easy"].score, rows["hard"].score) == (0.0, 0.5)
    assert (rows["Code"].score, rows["Novel"].score) == (0.0, 1.0)
    assert rows["unparsed"].score == pytest.approx(1 / 3)
    assert (rows["unparsed"].n_scored, rows["unparsed"].n_failed) == (3, 1)
