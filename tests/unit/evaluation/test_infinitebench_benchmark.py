import json

import pytest

from benchmark_data import INPUTS, infinitebench_row, write_infinitebench
from longact_cli.config.schema import BenchmarkConfig
from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.evaluation.benchmark import Answered, Sample, open_benchmark
from longact_cli.evaluation.infinitebench.data import find_rows, read_row
from longact_cli.evaluation.infinitebench.prompts import Row, chat, label, prompt_text
from longact_cli.evaluation.infinitebench.tasks import FAMILIES, TASKS
from longact_cli.evaluation.infinitebench.templates import TEMPLATES
from longact_cli.results import EvalResult, SampleResult

ORACLE = {
    "kv_retrieval": "v-1",
    "longdialogue_qa_eng": "ACE",
    "longbook_choice_eng": "B",
    "code_debug": "B. two",
    "math_calc": "[1, 4, 8]",
}


def config(**changes: object) -> BenchmarkConfig:
    settings = {
        "name": "infinitebench",
        "tasks": ["passkey"],
        "context_lengths": [400],
        "limit": 2,
        "mode": "yarn-mistral",
        "scorer": "2024-06",
    }
    return BenchmarkConfig.model_validate({**settings, **changes})


def row(task: str) -> Row:
    data = infinitebench_row(task, 0)
    answer = data["answer"][0] if task == "math_calc" else data["answer"]
    return Row("0", "BOOK {x}", str(data["input"]), tuple(answer), tuple(data["options"]))


def test_every_family_has_every_task():
    assert set(TEMPLATES) == set(FAMILIES)
    assert all(set(TEMPLATES[family]) == set(TASKS) for family in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_every_prompt_holds_the_document_and_leaves_no_placeholder(family, task):
    text = prompt_text(task, row(task), family)
    assert text.count("BOOK {x}") == 1
    assert "{" not in text.replace("{x}", "")


@pytest.mark.parametrize(
    ("task", "family", "expected"),
    [
        (
            "passkey",
            "yarn-mistral",
            "There is an important info hidden inside a lot of irrelevant text. Find it and "
            "memorize it. I will quiz you about the important information.\n\nBOOK {x}\n\n"
            "What is the pass key?\n\nThe pass key is",
        ),
        (
            "math_find",
            "gpt4",
            "What is the largest number in the following list?\n\nBOOK {x}\n\n"
            "The largest number of the list is:",
        ),
        ("math_calc", "gpt4", "BOOK {x}"),
        (
            "code_run",
            "yarn-mistral",
            "There is a function called func_1 in the following Python code.\n\nBOOK {x}\n\n"
            "Please compute the exact value of func_1(-3). The value of func_1(-3) is",
        ),
        (
            "longbook_choice_eng",
            "yarn-mistral",
            "Read the book and answer the question.\n\nBOOK {x}\n\nQuestion: Who?\nA. one\nB. two\n"
            "C. three\nD. four\n\nThe letter of the correct answer is",
        ),
        (
            "longbook_qa_eng",
            "claude2",
            "Read the novel below and answer a question:\n\nBOOK {x}\n\nWho?\n"
            "Please answer as short as possible. The answer is: ",
        ),
        (
            "longbook_qa_eng",
            "kimi",
            "Read the book below and answer a question.\n\nQuestion: Who?\n\nBe very concise."
            "BOOK {x}",
        ),
    ],
)
def test_prompts_are_the_official_ones(task, family, expected):
    assert prompt_text(task, row(task), family) == expected


def test_only_gpt4_has_system_messages_and_an_example():
    assert [m.role for m in chat("passkey", "x", "gpt4")] == ["system", "user"]
    assert [m.content for m in chat("passkey", "x", "kimi")] == ["x"]
    messages = chat("math_calc", "1 + 1", "gpt4")
    assert [m.role for m in messages] == ["system", "user", "system", "user"]
    assert messages[1:] == (
        ("user", "1 + 2 - 4 - 10"),
        ("system", "[1, 3, -1, -11]"),
        ("user", "1 + 1"),
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(("two",), ("two", "B")), (("two", "B"), ("two", "B")), (("four",), ("four", "D"))],
)
def test_a_choices_label_is_the_option_and_its_letter(answer, expected):
    assert label("code_debug", row("code_debug")._replace(answer=answer)) == expected


def test_an_answer_outside_the_options_is_refused():
    with pytest.raises(ValueError, match="none of its options"):
        label("code_debug", row("code_debug")._replace(answer=("five",)))


@pytest.mark.parametrize("task", TASKS)
def test_an_oracle_scores_one_and_silence_zero(task, tmp_path, tokenizer):
    write_infinitebench(tmp_path, task)
    lengths = [40_000] if task == "math_calc" else [4000]
    settings = config(tasks=[task], context_lengths=lengths, data_dir=str(tmp_path), limit=1)
    rules = open_benchmark(settings)
    sample = rules.samples(tokenizer)[0]
    answer = INPUTS[task][1][0]
    assert rules.score(sample, ORACLE.get(task, str(answer))).score == 1.0
    assert rules.score(sample, "").score == 0.0
    assert sample.truncated_tokens == 0
    assert rules.follow_up(sample, "x") is None


def test_samples_fit_their_length_and_keep_both_ends(tmp_path, tokenizer):
    write_infinitebench(tmp_path, "passkey")
    settings = config(data_dir=str(tmp_path), context_lengths=[150], chat_template=False)
    sample = open_benchmark(settings).samples(tokenizer)[0]
    assert sample.prompt_tokens + sample.tokens_to_generate <= 150
    assert sample.tokens_to_generate == 6
    assert sample.truncated_tokens > 0
    assert sample.prompt.startswith("There is an important info")
    assert sample.prompt.endswith("The pass key is")


def test_chat_budgets_are_never_below_the_official_ones():
    assert all(task.chat_tokens >= task.official_tokens for task in TASKS.values())
    official, longer = (
        open_benchmark(config(generation=name)).workloads()[0].generated_tokens
        for name in ("official", "chat")
    )
    assert (official, longer) == (2 * 6, 2 * 64)


def test_questions_about_one_text_form_a_group(tmp_path, tokenizer):
    rows = [{**infinitebench_row("passkey", n), "context": f"same {n // 300}"} for n in range(590)]
    path = tmp_path / "passkey.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    settings = config(data_dir=str(tmp_path), limit=301)
    groups = [sample.group for sample in open_benchmark(settings).samples(tokenizer)]
    assert len(set(groups[:300])) == 1
    assert groups[300] != groups[0]


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"passkey\.jsonl is missing.*xinrongzhang2022"):
        find_rows("passkey", str(tmp_path))


def test_a_wrong_number_of_rows_is_refused(tmp_path):
    path = write_infinitebench(tmp_path, "math_calc")
    path.write_text(path.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has 1 rows instead of 50"):
        find_rows("math_calc", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: no JSON object"),
        ('{"context": "x"}', "line 2: 'input' is missing or no text"),
        ('{"context": "x", "input": "y"}', "line 2: 'answer' is missing"),
        ('{"context": "x", "input": "y", "answer": [null]}', "line 2: 'answer' is missing"),
        ('{"context": "x", "input": "y", "answer": "z", "options": "o"}', "no list of texts"),
    ],
)
def test_a_wrong_row_is_refused_with_file_and_line(tmp_path, line, message):
    path = write_infinitebench(tmp_path, "math_calc")
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[1] = line
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_row(find_rows("math_calc", str(tmp_path))[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["passkeys"]}, "Did you mean 'passkey'"),
        ({"mode": "gpt5"}, "benchmark.mode is 'gpt5'"),
        ({"scorer": "official"}, "benchmark.scorer is 'official'"),
    ],
)
def test_an_unknown_name_is_refused(changes, message):
    with pytest.raises(UnknownNameError, match=message):
        open_benchmark(config(**changes))


def test_a_length_without_room_for_the_answer_is_refused():
    with pytest.raises(ConfigError, match="math_calc reserves 30000"):
        open_benchmark(config(tasks=["math_calc"], context_lengths=[4096])).workloads()


def test_the_mean_over_tasks_is_plain_and_needs_every_task(tmp_path, tokenizer):
    for task in ("passkey", "math_find"):
        write_infinitebench(tmp_path, task)
    rules = open_benchmark(config(tasks=["passkey", "math_find"], data_dir=str(tmp_path)))
    samples = rules.samples(tokenizer)

    def rows(scores: list[float | None]) -> dict[str, EvalResult]:
        return {row.task: row for row in rules.aggregate(answered(samples, scores))}

    complete = rows([1.0, 1.0, 0.0, None])
    assert (complete["passkey"].score, complete["math_find"].score) == (1.0, 0.0)
    assert complete["math_find"].n_failed == 1
    assert (complete["mean"].score, complete["mean"].n_scored) == (0.5, 3)
    assert rows([1.0, 1.0, None, None])["mean"].score is None


def answered(samples: tuple[Sample, ...], scores: list[float | None]) -> list[Answered]:
    return [
        Answered(
            sample,
            SampleResult(
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
            ),
        )
        for sample, score in zip(samples, scores, strict=True)
    ]
