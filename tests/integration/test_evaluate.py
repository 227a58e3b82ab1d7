"""A real checkpoint through the real backend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoTokenizer

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.evaluation.backends import load_backend, plan_backend
from longact_cli.evaluation.evaluate import build_samples, estimate, evaluate
from longact_cli.evaluation.task import generation_arguments

torch.set_num_threads(1)

KILLED_AFTER_ONE_BATCH = """
import os, signal, sys
from pathlib import Path
import torch
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation.evaluate import evaluate

torch.set_num_threads(1)
evaluate(
    sys.argv[1],
    model=ModelConfig(name="path", path=sys.argv[1]),
    benchmark=BenchmarkConfig.model_validate_json(sys.argv[2]),
    samples_path=Path(sys.argv[3]),
    progress=lambda done, total, flow: os.kill(os.getpid(), signal.SIGKILL),
)
"""


def benchmark(**changes) -> BenchmarkConfig:
    values = {
        "name": "ruler",
        "tasks": ("niah_single_1", "niah_multikey_2"),
        "context_lengths": (320, 384),
        "limit": 3,
        "batch_size": 4,
    }
    return BenchmarkConfig(**{**values, **changes})


def run(checkpoint: Path, samples_path: Path, *, asked: BenchmarkConfig, **model):
    return evaluate(
        str(checkpoint),
        model=ModelConfig(name="path", path=str(checkpoint), **model),
        benchmark=asked,
        samples_path=samples_path,
    )


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def test_an_evaluation_writes_one_row_per_sample_and_one_score_per_length(
    tiny_checkpoint, tmp_path
):
    path = tmp_path / "samples.jsonl"
    results = run(tiny_checkpoint, path, asked=benchmark())
    assert [(result.task, result.context_length) for result in results] == [
        ("niah_single_1", 320),
        ("niah_single_1", 384),
        ("niah_multikey_2", 320),
        ("niah_multikey_2", 384),
        ("mean", 320),
        ("mean", 384),
        ("mean", 0),
        ("weighted_increasing", 0),
        ("weighted_decreasing", 0),
        ("fill", 320),
        ("fill", 384),
        ("empty", 0),
    ]
    written = rows(path)
    assert [row["id"] for row in written][:4] == [
        "ruler/niah_single_1/320/0",
        "ruler/niah_single_1/320/1",
        "ruler/niah_single_1/320/2",
        "ruler/niah_single_1/384/0",
    ]
    assert len(written) == 12
    for result in results[:4]:
        scores = [
            row["score"]
            for row in written
            if (row["task"], row["context_length"]) == (result.task, result.context_length)
        ]
        assert (result.score, result.n_scored, result.n_failed) == (sum(scores) / 3, 3, 0)
        assert (result.metric, result.protocol, result.benchmark) == (
            "string_match_all",
            "official",
            "ruler",
        )


@pytest.mark.slow
def test_a_killed_evaluation_continues_and_ends_with_the_same_file(tiny_checkpoint, tmp_path):
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    asked = benchmark()
    asked_json = asked.model_dump_json()
    expected = run(tiny_checkpoint, whole, asked=asked)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_ONE_BATCH, tiny_checkpoint, asked_json, broken],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    before = rows(broken)
    assert len(before) == 4
    with broken.open("ab") as stream:
        stream.write(b'{"id": "ruler/niah_single_1/320/2", "bench')  # torn by a power cut
    assert run(tiny_checkpoint, broken, asked=asked) == expected
    assert broken.read_bytes() == whole.read_bytes()


def test_a_resumed_evaluation_generates_no_answer_twice(tiny_checkpoint, tmp_path):
    path = tmp_path / "samples.jsonl"
    run(tiny_checkpoint, path, asked=benchmark(limit=2))
    marked = [{**row, "completion": "kept"} for row in rows(path)]
    path.write_text("".join(json.dumps(row) + "\n" for row in marked), encoding="utf-8")
    run(tiny_checkpoint, path, asked=benchmark())
    completions = {row["id"]: row["completion"] for row in rows(path)}
    assert len(completions) == 12
    assert {name for name, text in completions.items() if text == "kept"} == {
        row["id"] for row in marked
    }


@pytest.mark.slow
def test_an_answer_does_not_depend_on_the_batch_it_was_in(tiny_checkpoint, tmp_path):
    for size in (1, 12):
        run(tiny_checkpoint, tmp_path / f"{size}.jsonl", asked=benchmark(batch_size=size))
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "12.jsonl").read_bytes()


def test_every_row_of_a_batch_stops_at_its_own_end_of_sequence(tiny_checkpoint):
    model = ModelConfig(name="path", path=str(tiny_checkpoint))
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    asked = benchmark(tasks=("niah_single_1",), context_lengths=(320,), limit=2)
    samples = build_samples(asked, tokenizer=tokenizer)
    plan = plan_backend(str(tiny_checkpoint), model=model, benchmark=asked)

    def generated() -> list[list[int]]:
        """Tokens per sample, as the backend saw them before it made text of them."""
        backend = load_backend(plan, tokenizer=tokenizer)
        rows, requests = [], []
        generate = backend.model.generate
        backend.model.generate = lambda **options: rows.append(generate(**options)) or rows[-1]
        for number, sample in enumerate(samples):
            arguments = (sample.prompt, generation_arguments(sample))
            requests.append(
                Instance("generate_until", sample, arguments, idx=0, metadata=("t", number, 1))
            )
        backend.generate_until(requests, disable_tqdm=True)
        return [row[-128:].tolist() for row in rows[0]]

    short, long = generated()
    assert len(short) == len(long) == 128
    text = tokenizer.decode(long)
    stop = next(token for token in short[3:] if tokenizer.decode(token) not in text)
    kept = short[: short.index(stop)]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(stop)
    pads = [tokenizer.pad_token_id] * (127 - len(kept))
    assert generated() == [[*kept, stop, *pads], long]


def test_a_length_beyond_the_window_is_refused_before_anything_is_loaded(tiny_checkpoint, tmp_path):
    path = tmp_path / "samples.jsonl"
    with pytest.raises(
        ConfigError, match=r"benchmark\.context_lengths is 2048; path has a window of 1024 tokens"
    ):
        run(tiny_checkpoint, path, asked=benchmark(context_lengths=(320, 2048)))
    with pytest.raises(ConfigError, match=r"model\.max_context is 300"):
        run(tiny_checkpoint, path, asked=benchmark(), max_context=300)
    assert not path.exists()


def test_a_missing_vllm_is_named_with_its_install_command(tiny_checkpoint, tmp_path):
    with pytest.raises(PrerequisiteError, match=r"pip install 'longact\[vllm\]'"):
        run(tiny_checkpoint, tmp_path / "samples.jsonl", asked=benchmark(backend="vllm"))


def test_the_estimate_is_an_upper_bound_per_task_and_length(tiny_checkpoint):
    asked = benchmark(tasks=("niah_single_1", "vt"), context_lengths=(1000,), limit=5)
    work = estimate(asked)
    assert [tuple(item) for item in work] == [
        ("niah_single_1", 1000, 5, 5 * 872, 5 * 128),
        ("vt", 1000, 5, 5 * 970, 5 * 30),
    ]
    samples = build_samples(asked, tokenizer=AutoTokenizer.from_pretrained(tiny_checkpoint))
    for item in work:
        real = sum(sample.prompt_tokens for sample in samples if sample.task == item.task)
        assert 0.9 * item.prompt_tokens < real <= item.prompt_tokens


def test_the_estimate_refuses_a_length_without_room_for_a_prompt():
    with pytest.raises(ConfigError, match=r"niah_single_1 reserves 128"):
        estimate(benchmark(context_lengths=(128,)))
