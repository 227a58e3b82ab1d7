"""`protocol=lm-eval`: lm-eval's own prompts and scorers through our journal."""

import json

import pytest
import torch

from benchmark_data import longbench_items, write_infinitebench, write_longbench
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.evaluate import evaluate
from longact_cli.evaluation.lm_eval_tasks import LONGBENCH_TASKS, their_names

torch.set_num_threads(1)

TWO = [("Single-Document QA", "Academic"), ("Code Repository Understanding", "Code repo QA")]


def run(checkpoint, path, **changes):
    values = {"protocol": "lm-eval", "limit": 2, "batch_size": 4}
    return evaluate(
        str(checkpoint),
        model=ModelConfig(name="path", path=str(checkpoint)),
        benchmark=BenchmarkConfig(**{**values, **changes}),
        samples_path=path,
    )


def longbench(folder, checkpoint, path, *, length=512):
    items = longbench_items()
    for number, item in enumerate(items):
        item["domain"], item["sub_domain"] = TWO[number % 2]
    write_longbench(folder, items)
    return run(
        checkpoint,
        path,
        name="longbench-v2",
        mode="zero-shot",
        tasks=("short", "medium", "long"),
        context_lengths=(length,),
        data_dir=str(folder),
    )


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def test_longbench_is_scored_by_the_likelihood_of_the_letters(tiny_checkpoint, tmp_path):
    path = tmp_path / "s.jsonl"
    results = longbench(tmp_path, tiny_checkpoint, path)
    names = [LONGBENCH_TASKS[place] for place in TWO]
    assert [row.task for row in results] == [*names, "overall"]
    assert {(row.protocol, row.metric, row.n_truncated) for row in results} == {
        ("lm-eval", "acc", 0)
    }
    found = rows(path)
    assert [row["references"] for row in found] == [["A"], ["C"], ["B"], ["D"]]
    for row in found:
        likelihoods = [value for value, _ in json.loads(row["completion"])]
        best = "ABCD"[likelihoods.index(max(likelihoods))]
        assert (row["parsed"], row["score"]) == (best, float(best == row["references"][0]))
    assert results[-1].score == sum(row["score"] for row in found) / 4


def test_a_prompt_that_lm_eval_cuts_from_its_start_is_counted(tiny_checkpoint, tmp_path):
    results = longbench(tmp_path, tiny_checkpoint, tmp_path / "s.jsonl", length=128)
    assert results[-1].n_truncated == 4
    described = json.loads((tmp_path / "s.protocol.json").read_text("utf-8"))
    assert described["truncated"] == 4
    assert described["scorer"].startswith("lm-eval-0.4")
    assert list(described["data_files"]) == ["data.json"]


def test_an_item_of_no_task_is_refused_and_not_lost(tiny_checkpoint, tmp_path):
    write_longbench(tmp_path)
    with pytest.raises(ConfigError, match="domain 'Novel' and sub_domain 'x'"):
        run(
            tiny_checkpoint,
            tmp_path / "s.jsonl",
            name="longbench-v2",
            mode="zero-shot",
            tasks=("short",),
            context_lengths=(512,),
            data_dir=str(tmp_path),
        )


def test_infinitebench_loads_from_local_files_where_lm_eval_alone_cannot(tiny_checkpoint, tmp_path):
    for task in ("passkey", "longbook_choice_eng"):
        write_infinitebench(tmp_path, task)
    results = run(
        tiny_checkpoint,
        tmp_path / "s.jsonl",
        name="infinitebench",
        mode="gpt4",
        scorer="2024-06",
        tasks=("passkey", "math_calc", "longbook_choice_eng"),
        context_lengths=(1024,),
        data_dir=str(tmp_path),
    )
    assert [(row.task, row.metric) for row in results] == [
        ("passkey", "score"),
        ("longbook_choice_eng", "score"),
        ("mean", "mean_score"),
    ]
    found = rows(tmp_path / "s.jsonl")
    assert [row["references"] for row in found[::2]] == [["71432"], ["two"]]
    assert all(row["completion_tokens"] <= 6 for row in found[:2])  # its budget for a passkey


def test_a_task_that_does_not_load_is_one_line(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PrerequisiteError, match=r"lm-eval's task longbench2_\w+ does not") as error:
        run(
            tiny_checkpoint,
            tmp_path / "s.jsonl",
            name="longbench-v2",
            mode="zero-shot",
            tasks=("short",),
            context_lengths=(512,),
        )
    assert "\n" not in str(error.value)
    assert "--protocol official" in str(error.value)


def test_our_tasks_have_their_names_there():
    assert their_names("ruler", ("vt", "niah_single_1", "qa_2")) == (
        "ruler_vt",
        "niah_single_1",
        "ruler_qa_hotpot",
    )
    assert their_names("infinitebench", ("longbook_qa_eng", "longbook_qa_chn", "passkey")) == (
        "infinitebench_longbook_qa_en",
        "infinitebench_longbook_qa_chn",
        "infinitebench_passkey",
    )
    assert len(their_names("longbench-v2", ("short", "long"))) == 20


@pytest.mark.slow
def test_ruler_runs_on_lm_evals_own_documents_and_resumes(tiny_checkpoint, tmp_path):
    """Its generator draws from the global state, which is seeded and put back."""
    import random

    path = tmp_path / "s.jsonl"
    asked = {"name": "ruler", "tasks": ("niah_single_1",), "context_lengths": (512, 640)}
    random.seed(5)
    before = random.getstate()
    results = run(tiny_checkpoint, path, **asked)
    assert random.getstate() == before
    assert [(row.task, row.context_length, row.protocol) for row in results] == [
        ("niah_single_1", 512, "lm-eval"),
        ("niah_single_1", 640, "lm-eval"),
    ]
    first = path.read_bytes()
    assert len(rows(path)) == 4
    random.seed(6)
    run(tiny_checkpoint, path, **asked, **{"limit": 3})
    assert [line for line in path.read_bytes().split(b"\n") if line in first.split(b"\n")]
    assert len(rows(path)) == 6
    usage = json.loads((tmp_path / "s.usage.json").read_text("utf-8"))
    assert usage["samples"] == 6  # the first four were known
