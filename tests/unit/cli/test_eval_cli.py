"""`longact eval`: every option reaches its setting; wrong input is one line and writes nothing."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from benchmark_data import longbench_items, write_infinitebench, write_longbench
from longact_cli.cli.app import app

SHORT = ["--limit", "1", "--length", "512"]


def longact(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(here, *arguments, code=2):
    """Run an evaluation that must be refused; return its one line."""
    done = longact("eval", *arguments)
    assert done.exit_code == code, done.output
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(here.iterdir()) == []
    return done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_longbench(folder)
    write_infinitebench(folder, "passkey")
    return folder


WRONG = {
    "unknown task": (["--task", "niah_singl_1"], "Did you mean 'niah_single_1'?"),
    "unknown benchmark": (["--bench", "infinitbench"], "Did you mean 'infinitebench'?"),
    "unknown mode": (["--mode", "prefx"], "benchmark.mode"),
    "unknown scorer": (["--scorer", "2024-08"], "benchmark.scorer"),
    "unknown protocol": (["--protocol", "offical"], "benchmark.protocol is 'offical'; it must be"),
    "unknown backend": (["--backend", "vlm"], "benchmark.backend is 'vlm'; it must be"),
    "no server": (["--backend", "openai"], "give --base-url http://HOST:PORT/v1"),
    "yarn of 1": (["--yarn", "1"], "benchmark.yarn_factor is 1"),
    "no number of samples": (["--limit", "0"], "benchmark.limit is 0"),
    "past the window": (["--length", "9999999"], "or extend it with YaRN"),
    "no folder": (["--data-dir", "nowhere", "--task", "qa_1"], "squad.json is not in it"),
    "unknown task of lm-eval": (["--protocol", "lm-eval", "--task", "vtt"], "Did you mean 'vt'?"),
    "endless task of lm-eval": (
        ["--protocol", "lm-eval", "--task", "vt", "--length", "512"],
        "lm-eval's vt does not end below 1024",
    ),
    "task of lm-eval": (
        ["--bench", "infinitebench", "--protocol", "lm-eval", "--task", "math_calc"],
        "which lm-eval does not have",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_one_line_and_writes_nothing(here, arguments, message):
    assert message in refused(here, *arguments)


@pytest.mark.parametrize("bench", ["longbench-v2", "infinitebench", "ruler"])
def test_a_missing_data_file_is_named_before_anything_is_written(here, tmp_path, bench):
    task = ["--task", "niah_single_2"] if bench == "ruler" else []
    name = {"longbench-v2": "data.json", "infinitebench": "passkey.jsonl"}
    line = refused(here, "--bench", bench, *task, "--data-dir", tmp_path, "--length", 2048)
    assert name.get(bench, "PaulGrahamEssays.json") in line


def test_a_wrong_number_of_samples_is_refused_before_anything_is_written(here, tmp_path):
    write_longbench(tmp_path, longbench_items()[:-1])
    line = refused(here, "--bench", "longbench-v2", "--data-dir", tmp_path, "--length", 1024)
    assert "has 502 items instead of 503" in line


def test_a_wrong_schema_is_refused_before_anything_is_written(here, tmp_path):
    items = longbench_items()
    items[7]["answer"] = "E"
    write_longbench(tmp_path, items)
    line = refused(here, "--bench", "longbench-v2", "--data-dir", tmp_path, "--length", 1024)
    assert "item 8: answer is 'E', not one of A, B, C, D" in line
    path = write_infinitebench(tmp_path, "passkey")
    text = path.read_text("utf-8")
    path.write_text(text.replace('"input"', '"question"', 1), "utf-8")
    passkey = ["--bench", "infinitebench", "--task", "passkey", "--length", 1024]
    line = refused(here, *passkey, "--data-dir", tmp_path)
    assert "passkey.jsonl, line 1: 'input' is missing or no text" in line


def test_a_missing_backend_is_exit_code_4(here):
    from longact_cli.evaluation.vllm_cpu import vllm_version

    if vllm_version() is not None:
        pytest.skip("vLLM is installed")
    assert "pip install 'longact[vllm]'" in refused(here, "--backend", "vllm", code=4)


def test_a_folder_that_cannot_be_written_to_is_refused(here, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = refused(here, *SHORT, "--runs-dir", tmp_path / "file" / "runs")
    assert "is a file" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_model_without_its_tokenizer_or_template_is_refused(here, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**settings, "vocab_size": 9}), "utf-8")
    assert "they do not belong together" in refused(here, *SHORT, "--model", folder)
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refused(here, *SHORT, "--model", folder)


OPTIONS = {
    "mode": (["--mode", "no-prefix"], "benchmark.mode", "no-prefix"),
    "task": (["--task", "vt,fwe"], "benchmark.tasks", ["vt", "fwe"]),
    "length": (["--length", "512,640"], "benchmark.context_lengths", [512, 640]),
    "limit": (["--limit", "7"], "benchmark.limit", 7),
    "protocol": (["--protocol", "lm-eval"], "benchmark.protocol", "lm-eval"),
    "backend": (["--backend", "openai", "--base-url", "http://x/v1"], "benchmark.backend",
                "openai"),
    "base-url": (["--backend", "openai", "--base-url", "http://x/v1"], "benchmark.base_url",
                 "http://x/v1"),
    "yarn": (["--yarn", "4"], "benchmark.yarn_factor", 4.0),
    "scorer": (["--bench", "infinitebench", "--scorer", "2024-08"], "benchmark.scorer", "2024-08"),
    "override": (["benchmark.thinking_tokens=9", "--mode", "no-prefix"],
                 "benchmark.thinking_tokens", 9),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "key", "value"), OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_reaches_its_setting(here, monkeypatch, arguments, key, value):
    import longact_cli.cli.running as running

    plans = []
    monkeypatch.setattr(running, "handle", lambda plan, _: plans.append(plan) or 130)
    assert longact("eval", *arguments).exit_code == 130
    found = plans[0].cells[0].config
    for part in key.split("."):
        found = getattr(found, part)
    assert (list(found) if isinstance(found, tuple) else found) == value


def test_the_data_folder_may_move_without_asking_again(here, monkeypatch, data, tmp_path):
    import longact_cli.cli.running as running

    digests = []
    keep = lambda plan, _: digests.append(plan.cells[0].digest) or 130  # noqa: E731
    monkeypatch.setattr(running, "handle", keep)
    moved = shutil.copytree(data, tmp_path / "moved")
    passkey = ["eval", "--bench", "infinitebench", "--task", "passkey", "--data-dir"]
    longact(*passkey, data)
    longact(*passkey, moved)
    path = moved / "passkey.jsonl"
    path.write_text(path.read_text("utf-8").replace("word", "term", 1), "utf-8")
    from longact_cli.evaluation.inputs import _file_sha256

    _file_sha256.cache_clear()
    longact(*passkey, moved)
    assert digests[0] == digests[1] != digests[2]


def test_several_benchmarks_are_planned_together_with_their_own_protocols(here, data):
    both = ["eval", "--bench", "ruler,infinitebench", "--dry-run", "--json", "--limit", "1"]
    done = longact(*both, "--length", "1024", "--data-dir", data, "--task", "passkey")
    assert done.exit_code == 2  # ruler has no such task
    fine = ["eval", "--bench", "infinitebench,longbench-v2", "--dry-run", "--json", "--limit", "1"]
    keys = ["--length", "1024", "--data-dir", data]
    done = longact(*fine, *keys, "benchmark.max_prompt_tokens=512")
    assert done.exit_code == 2  # eleven of the twelve files are missing
    assert "number_string.jsonl is missing" in done.output
    assert list(here.iterdir()) == []


def test_a_dry_run_tells_tokens_fill_and_truncated_prompts(here, data):
    keys = ["--bench", "longbench-v2", "--data-dir", data, "--length", "512", "--limit", "2"]
    done = longact("eval", *keys, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    loads = [row for row in rows if row["event"] == "workload"]
    assert [row["task"] for row in loads] == ["short", "medium", "long"]
    assert {(row["samples"], row["exact"]) for row in loads} == {(2, True)}
    assert all(row["generated_tokens"] == 2 * 128 for row in loads)
    assert rows[-1]["event"] == "duration"
    assert 0 < rows[-1]["seconds"] < 600  # rough: from the device's speed
    assert "as just measured" in rows[-1]["source"]
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_an_evaluation_survives_a_damaged_line_and_says_which(here):
    asked = ["eval", *SHORT[:1], "3", "--length", "256", "--task", "niah_single_1"]
    first = longact(*asked)
    assert first.exit_code == 0, first.output
    path = next((here / "runs" / "cells").glob("*/samples.jsonl"))
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:40], *lines[2:]]))
    again = longact(*asked)
    assert again.exit_code == 0, again.output
    assert "samples.jsonl, line 2 is damaged: only that answer is asked for again" in again.stderr
    assert path.read_bytes() == whole


def test_rescoring_writes_its_rows_or_says_why_not(here):
    rows = [{"task": "vt", "prediction": "ABC", "outputs": ["ABC", "DEF"]}]
    source = here / "in.jsonl"
    source.write_text(json.dumps(rows[0]) + "\n", "utf-8")
    keys = ["eval", "--bench", "ruler", "--rescore", "in.jsonl", "--json"]
    done = longact(*keys, "--out", "out.jsonl")
    assert json.loads(done.stdout)["tasks"]["vt"]["score"] == 0.5
    assert json.loads((here / "out.jsonl").read_text("utf-8"))["score"] == 0.5
    for out, reason in (("in.jsonl/x", "cannot be written"),):
        done = longact(*keys, "--out", out)
        assert done.exit_code == 2
        assert reason in json.loads(done.stdout)["error"]
    source.write_text(json.dumps(rows[0]) + "\n{torn\n", "utf-8")
    done = longact(*keys, "--out", "other.jsonl")
    assert done.exit_code == 2
    assert "in.jsonl, line 2: not valid JSON" in json.loads(done.stdout)["error"]
    assert not (here / "other.jsonl").exists()
    done = longact(*keys[:-1], "--scorer", "2025")
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (2, 1)
    done = longact("eval", "--bench", "ruler", "--rescore", "none.jsonl")
    assert "there is no such file" in done.stderr
