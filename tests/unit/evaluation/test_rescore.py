import gzip
import json
from pathlib import Path

import pytest

from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.evaluation.rescore import rescore, summary_json


def write(path: Path, rows: list[object]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, object]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


INFINITEBENCH = [
    {"task": "passkey", "prediction": "It is 12.", "reference": "12", "id": 7},
    {"task": "passkey", "prediction": "", "reference": ["12"]},
    {"task": "passkey", "prediction": None, "reference": "12"},
    {"task": "code_debug", "pred": "B", "reference": ["f", "B"]},
    {"task": "math_calc", "prediction": "[0, 1, 2]", "reference": [1, 2], "model": "gpt4"},
    {"task": "math_find", "reference": 1},
]


@pytest.mark.parametrize(("scorer", "debug"), [("2024-06", 0.0), ("2024-08", 1.0)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_infinitebench_rows_keep_their_fields_and_gain_score_and_parsed(
    tmp_path, scorer, debug, suffix
):
    source = write(tmp_path / f"in.jsonl{suffix}", INFINITEBENCH)
    out = tmp_path / "deep" / f"out.jsonl{suffix}"
    summary = rescore("infinitebench", source, scorer=scorer, out=out)
    rows = read(out)
    assert [row["score"] for row in rows] == [1.0, 0.0, None, debug, 1.0, None]
    assert [row["parsed"] for row in rows[:3]] == ["12", None, None]
    for before, after in zip(INFINITEBENCH, rows, strict=True):
        assert {**before, "score": after["score"], "parsed": after["parsed"]} == after
    assert summary.scorer == f"infinitebench-{scorer}"
    tasks = {task.task: task for task in summary.tasks}
    assert tasks["passkey"] == ("passkey", None, 0.5, 2, 1, 1, 1)
    assert tasks["math_find"] == ("math_find", None, None, 0, 1, 0, 0)
    assert summary.aggregates == (("mean", None, 4),)  # math_find has no score
    assert (summary.n_scored, summary.n_failed) == (4, 2)
    assert summary.notes == (
        "2 of 6 rows have no prediction: no score counts them",
        "no row of math_find has a prediction: there is no mean over tasks",
        "the mean covers 4 of 12 tasks",
    )


def test_a_list_label_of_kv_retrieval_is_noted_where_it_can_never_match(tmp_path):
    row = {"task": "kv_retrieval", "prediction": "v", "reference": ["v"]}
    source = write(tmp_path / "in.jsonl", [row, row])
    june, august = (
        rescore("infinitebench", source, scorer=scorer) for scorer in ("2024-06", "2024-08")
    )
    assert (june.tasks[0].score, august.tasks[0].score) == (0.0, 1.0)
    assert june.notes[0].endswith("(2 rows)")
    assert len(august.notes) == 1


def test_rows_of_several_models_are_noted(tmp_path):
    row = {"task": "passkey", "prediction": "1", "reference": "1"}
    source = write(tmp_path / "in.jsonl", [{**row, "model": "kimi"}, {**row, "model": "gpt4"}])
    assert "rows of 2 models are mixed: gpt4, kimi" in rescore("infinitebench", source).notes


def longbench(response: object, **changes: object) -> dict[str, object]:
    row = {"_id": "1", "response": response, "answer": "A", "difficulty": "easy", "length": "short"}
    return {**row, **changes}


def test_longbench_rows_give_the_official_columns(tmp_path):
    source = write(
        tmp_path / "in.jsonl",
        [
            longbench(" The correct answer is (A)"),
            longbench("The correct answer is (B)", difficulty="hard", length="long"),
            longbench("A", difficulty="hard", domain="Code"),
            longbench(None),
            longbench("", pred="A"),
        ],
    )
    out = tmp_path / "out.jsonl"
    summary = rescore("longbench-v2", source, out=out)
    assert [(row["score"], row["parsed"]) for row in read(out)] == [
        (1.0, "A"),
        (0.0, "B"),
        (0.0, None),
        (None, None),
        (0.0, None),
    ]
    assert {one.name: one.score for one in summary.aggregates} == {
        "overall": 0.25,
        "easy": 0.5,
        "hard": 0.0,
        "short": pytest.approx(1 / 3),
        "medium": None,
        "long": 0.0,
        "Code": 0.0,
        "unparsed": 0.5,
    }
    compensated = rescore("longbench-v2", source, scorer="compensated")
    assert compensated.scorer.endswith("-compensated")
    assert {one.name: one.score for one in compensated.aggregates}["overall"] == 0.375  # 1, 0, ¼, ¼


def test_the_extracted_letter_in_an_official_file_is_not_taken_for_the_response(tmp_path):
    row = longbench("x", pred="A")
    del row["response"]
    summary = rescore("longbench-v2", write(tmp_path / "in.jsonl", [row]))
    assert (summary.n_scored, summary.n_failed) == (0, 1)


def test_ruler_rows_average_over_tasks_and_lengths(tmp_path):
    def row(task: str, length: int, prediction: str) -> dict[str, object]:
        outputs = ["one", "two"]
        return {"task": task, "context_length": length, "pred": prediction, "refs": outputs}

    source = write(
        tmp_path / "in.jsonl",
        [
            row("vt", 4096, "one two"),
            row("qa_1", 4096, "two"),
            row("vt", 8192, "one"),
            row("qa_1", 8192, ""),
        ],
    )
    summary = rescore("ruler", source)
    tasks = {(task.task, task.context_length): task.score for task in summary.tasks}
    assert tasks == {("vt", 4096): 1, ("qa_1", 4096): 1, ("vt", 8192): 0.5, ("qa_1", 8192): 0}
    assert {one.name: one.score for one in summary.aggregates} == {
        "mean": 0.625,
        "mean/4096": 1.0,
        "mean/8192": 0.25,
        "weighted_increasing": pytest.approx((1 * 1.0 + 2 * 0.25) / 3),
        "weighted_decreasing": pytest.approx((2 * 1.0 + 1 * 0.25) / 3),
    }


def test_the_summary_is_plain_json(tmp_path):
    source = write(tmp_path / "in.jsonl", INFINITEBENCH[:5])
    value = json.loads(json.dumps(summary_json(rescore("infinitebench", source))))
    assert (value["n"], value["n_scored"], value["n_failed"]) == (5, 4, 1)
    assert value["tasks"]["passkey"]["score"] == 0.5
    assert value["aggregates"]["mean"] == 0.5  # 0.5, 0 and 1
    assert value["scorer"] == "infinitebench-2024-06"


GOOD = '{"task": "passkey", "prediction": "1", "reference": "1"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ('{"task": "passkey"', "not valid JSON"),
        ("[1]", "no JSON object"),
        ('{"prediction": "1", "reference": "1"}', "task is missing"),
        ('{"task": "passkeys", "prediction": "1", "reference": "1"}', "Did you mean 'passkey'"),
        ('{"task": "passkey", "prediction": 1, "reference": "1"}', "prediction is int"),
        ('{"task": "passkey", "prediction": "1"}', "reference is missing"),
        ('{"task": "code_debug", "prediction": null, "reference": ["f"]}', "option text, letter"),
        ('{"task": "math_find", "prediction": "1", "reference": "x"}', "it must be a number"),
    ],
)
def test_a_bad_line_is_one_error_with_file_and_line_and_no_output(tmp_path, line, reason):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"in\.jsonl, line 3: .*{reason}") as error:
        rescore("infinitebench", source, out=out)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_bytes_that_are_no_text_name_their_line(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_bytes(GOOD.encode() + b'\n{"task": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"line 2: not valid JSON"):
        rescore("infinitebench", source)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer": "E"}, "answer is 'E'; it must be one of: A, B, C, D"),
        ({"difficulty": None}, "difficulty is missing"),
        ({"length": "huge"}, "length is 'huge'"),
    ],
)
def test_a_longbench_row_without_its_class_is_refused(tmp_path, changes, reason):
    source = write(tmp_path / "in.jsonl", [longbench("x", **changes)])
    with pytest.raises(ConfigError, match=rf"line 1: {reason}"):
        rescore("longbench-v2", source)


def test_a_torn_gzip_file_is_one_error(tmp_path):
    source = write(tmp_path / "in.jsonl.gz", INFINITEBENCH * 500)
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="cannot be read after line"):
        rescore("infinitebench", source)


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        rescore("ruler", tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no rows"):
        rescore("ruler", tmp_path / "empty.jsonl")


def test_an_unwritable_output_is_refused(tmp_path):
    source = write(tmp_path / "in.jsonl", INFINITEBENCH)
    with pytest.raises(ConfigError, match=r"--out is .*cannot be written"):
        rescore("infinitebench", source, out=source / "out.jsonl")


@pytest.mark.parametrize(
    ("benchmark", "scorer", "message"),
    [
        ("longbench", None, "Did you mean 'longbench-v2'"),
        ("infinitebench", "2024", "--scorer is '2024'"),
        ("ruler", "2024-06", "--scorer is '2024-06'"),
    ],
)
def test_unknown_benchmarks_and_scorers_are_refused(tmp_path, benchmark, scorer, message):
    source = write(tmp_path / "in.jsonl", INFINITEBENCH)
    with pytest.raises(UnknownNameError, match=message):
        rescore(benchmark, source, scorer=scorer)


def test_text_with_separators_and_lone_surrogates_survives(tmp_path):
    source = tmp_path / "in.jsonl"
    line = '{"task": "passkey", "prediction": "1\\u2028\\u0085\\ud800", "reference": "1"}'
    source.write_text("\ufeff" + line + "\r\n" + line.replace("\\u2028", "\u2028"), "utf-8")
    out = tmp_path / "out.jsonl"
    assert rescore("infinitebench", source, out=out).n_scored == 2
    assert [row["prediction"] for row in read(out)] == ["1\u2028\x85\ud800"] * 2


def test_a_file_can_be_rescored_in_place(tmp_path):
    source = write(tmp_path / "in.jsonl", INFINITEBENCH)
    rescore("infinitebench", source, out=source)
    first = source.read_bytes()
    rescore("infinitebench", source, out=source)
    assert source.read_bytes() == first
