import json
from dataclasses import replace

import pytest

from longact_cli.evaluation.journal import Journal, Origin
from longact_cli.results import SampleResult

ORIGIN = Origin("weights", "tokenizer", "hf", "float32", "greedy", "scorer", ("torch 1",))


def result(index: int, *, error: str | None = None) -> SampleResult:
    return SampleResult(
        id=f"ruler/vt/512/{index}",
        benchmark="ruler",
        task="vt",
        context_length=512,
        prompt_sha256=f"hash{index}",
        prompt_tokens=400,
        completion=None if error else "é\u2028 42",
        completion_tokens=None if error else 3,
        references=("42",),
        score=None if error else 1.0,
        truncated=False,
        error=error,
    )


def test_answers_are_found_again_by_id_and_prompt(tmp_path):
    path = tmp_path / "samples.jsonl"
    Journal(path, origin=ORIGIN).append([result(0), result(1)])
    again = Journal(path, origin=ORIGIN)
    assert again.get("ruler/vt/512/1", prompt_sha256="hash1") == result(1)
    assert again.get("ruler/vt/512/1", prompt_sha256="other") is None
    assert again.get("ruler/vt/512/2", prompt_sha256="hash2") is None


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_is_dropped_and_later_lines_stay_whole(tmp_path, cut):
    path = tmp_path / "samples.jsonl"
    Journal(path, origin=ORIGIN).append([result(0), result(1)])
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path, origin=ORIGIN)
    assert again.get("ruler/vt/512/0", prompt_sha256="hash0") == result(0)
    assert again.get("ruler/vt/512/1", prompt_sha256="hash1") is None
    again.append([result(2)])
    assert [json.loads(line)["id"][-1] for line in path.read_text("utf-8").split("\n")[:-1]] == [
        "0",
        "2",
    ]


@pytest.mark.parametrize(
    "changed",
    [
        replace(ORIGIN, checkpoint_sha256="other"),
        replace(ORIGIN, tokenizer_sha256="other"),
        replace(ORIGIN, backend="vllm"),
        replace(ORIGIN, dtype="bfloat16"),
        replace(ORIGIN, packages=("torch 2",)),
    ],
)
def test_answers_of_another_origin_are_not_reused(tmp_path, changed):
    path = tmp_path / "samples.jsonl"
    Journal(path, origin=ORIGIN).append([result(0)])
    assert Journal(path, origin=changed).get("ruler/vt/512/0", prompt_sha256="hash0") is None
    assert not path.exists()


def test_a_failed_sample_gets_another_chance(tmp_path):
    path = tmp_path / "samples.jsonl"
    Journal(path, origin=ORIGIN).append([result(0, error="RuntimeError: out"), result(1)])
    again = Journal(path, origin=ORIGIN)
    assert again.get("ruler/vt/512/0", prompt_sha256="hash0") is None
    assert again.get("ruler/vt/512/1", prompt_sha256="hash1") == result(1)


def test_the_finished_file_holds_exactly_the_asked_samples_in_order(tmp_path):
    path = tmp_path / "samples.jsonl"
    journal = Journal(path, origin=ORIGIN)
    journal.append([result(2), result(0), result(1)])
    assert journal.finish(["ruler/vt/512/0", "ruler/vt/512/2"]) == (result(0), result(2))
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert [row["id"] for row in rows] == ["ruler/vt/512/0", "ruler/vt/512/2"]
    assert set(rows[0]) == set(SampleResult._fields)
