"""vLLM beside Hugging Face: the same greedy answers, also after a kill; prefix-cache hits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.wide_heads import write_wide_twin
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation.evaluate import evaluate
from longact_cli.evaluation.vllm_cpu import vllm_version
from longact_cli.models.loading import load_tokenizer
from longact_cli.models.micro import micro_checkpoint_path
from longact_cli.training.data import GeneratedPrompts, PromptMixture

# An interpreter with vLLM, where the tests' own has none: the CPU wheel brings its own torch.
PYTHON = os.environ.get("LONGACT_VLLM_PYTHON") or (sys.executable if vllm_version() else None)
SOURCES = Path(__file__).parents[2] / "src"
TRAIN = [
    "algorithm.use_vllm=true", "algorithm.steps=3", "algorithm.prompts_per_step=2",
    "algorithm.group_size=4", "algorithm.micro_batch_size=8", "algorithm.updates_per_rollout=1",
    "algorithm.checkpoint_every=3", "algorithm.max_completion_tokens=12",
    "algorithm.learning_rate=1e-3", "algorithm.dynamic_sampling=none", "algorithm.warmup_steps=0",
    "algorithm.mask_truncated_completions=false", "data.context_lengths=[256]",
    "model.max_context=512",
]  # fmt: skip
# Tokens of a block of vLLM's cache on a CPU.
BLOCK = 128
EVALUATE = """
import os, signal, sys
from pathlib import Path
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation.evaluate import evaluate

evaluate(
    sys.argv[1],
    model=ModelConfig(name="path", path=sys.argv[1]),
    benchmark=BenchmarkConfig.model_validate_json(sys.argv[2]),
    samples_path=Path(sys.argv[3]),
    progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL) if sys.argv[4] == "killed" else None,
)
"""


def answers(path: Path) -> dict[str, tuple[str, float]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert not [row["error"] for row in rows if row["error"]]
    return {row["id"]: (row["completion"], row["score"]) for row in rows}


def on_vllm(checkpoint: Path, asked: BenchmarkConfig, path: Path, *, end: str) -> None:
    """Evaluate in the interpreter that has vLLM, to the end or until the first batch is done."""
    text = asked.model_copy(update={"backend": "vllm"}).model_dump_json()
    done = subprocess.run(
        [PYTHON, "-c", EVALUATE, checkpoint, text, path, end],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "VLLM_CPU_KVCACHE_SPACE": "1"},
        check=False,
        capture_output=True,
        timeout=400,
    )
    expected = -signal.SIGKILL if end == "killed" else 0
    assert done.returncode == expected, done.stderr.decode()[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(
    PYTHON is None,
    reason="vLLM is not installed; set LONGACT_VLLM_PYTHON to an interpreter that has it",
)
def test_vllm_killed_and_resumed_gives_the_greedy_answers_of_hugging_face(tmp_path):
    checkpoint = write_wide_twin(micro_checkpoint_path(), tmp_path / "micro")
    asked = BenchmarkConfig(
        name="ruler",
        tasks=("niah_single_1", "niah_multikey_2"),
        context_lengths=(512,),
        limit=20,
        batch_size=1,
    )
    model = ModelConfig(name="path", path=str(checkpoint))
    expected, found = tmp_path / "hf.jsonl", tmp_path / "vllm.jsonl"
    evaluate(
        str(checkpoint),
        model=model,
        benchmark=asked.model_copy(update={"batch_size": 20}),
        samples_path=expected,
    )
    on_vllm(checkpoint, asked, found, end="killed")
    assert 0 < len(answers(found)) < 40
    on_vllm(checkpoint, asked, found, end="whole")
    assert answers(found) == answers(expected)
    usage = json.loads(found.with_suffix(".protocol.json").read_text("utf-8"))["usage"]
    assert usage["samples"] == 40  # over both processes: none was generated twice
    # All prompts of a task begin alike, so that the cache serves some of their tokens.
    assert 0 < usage["cache_hits"] < usage["cache_queries"]
    assert usage["cache_queries"] == usage["prompt_tokens"]


@pytest.mark.slow
@pytest.mark.skipif(
    PYTHON is None,
    reason="vLLM is not installed; set LONGACT_VLLM_PYTHON to an interpreter that has it",
)
def test_yarn_stretches_positions_on_both_backends_alike(tmp_path):
    checkpoint = write_wide_twin(micro_checkpoint_path(), tmp_path / "micro")
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    config["max_position_embeddings"] = 256
    (checkpoint / "config.json").write_text(json.dumps(config), "utf-8")
    asked = BenchmarkConfig(
        name="ruler",
        tasks=("niah_single_1",),
        context_lengths=(512,),
        limit=4,
        yarn_factor=2.0,
    )
    expected, found = tmp_path / "hf.jsonl", tmp_path / "vllm.jsonl"
    rows = evaluate(
        str(checkpoint),
        model=ModelConfig(name="path", path=str(checkpoint)),
        benchmark=asked,
        samples_path=expected,
    )
    assert rows[0].protocol == "official, yarn 2 x 256"
    on_vllm(checkpoint, asked, found, end="whole")
    assert answers(found) == answers(expected)


@pytest.mark.slow
@pytest.mark.skipif(
    PYTHON is None,
    reason="vLLM is not installed; set LONGACT_VLLM_PYTHON to an interpreter that has it and TRL",
)
def test_training_generates_with_the_weights_of_the_trainer(tmp_path):
    """Also that a group pays for its prompt once, and that no hit is older than the weights."""
    checkpoint = write_wide_twin(micro_checkpoint_path(), tmp_path / "micro")
    tokenizer = load_tokenizer(str(checkpoint))
    mixture = PromptMixture(("niah_single_1", "niah_multikey_2"), (420,), False, 0, 500)
    source = GeneratedPrompts(mixture, tokenizer=tokenizer)
    prompts = [source.row(index, at=0)["prompt"] for index in (0, 1)]
    rows = [json.dumps({"prompt": prompt, "answer": "7"}) for prompt in prompts]
    (tmp_path / "two.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    data = [f"data.path={tmp_path}/two.jsonl", "data.chat_template=false"]
    done = subprocess.run(
        [PYTHON, "-m", "longact_cli", "train", "--model", str(checkpoint), *TRAIN, *data],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "VLLM_CPU_KVCACHE_SPACE": "1"},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (journal,) = tmp_path.glob("runs/cells/*/metrics.jsonl")
    rows = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    name = "sampling/sampling_logp_difference/mean"
    differences = [row["value"] for row in rows if row["name"] == name]
    assert len(differences) == 3
    assert max(differences) < 0.02  # with the weights of the start it grows from step to step
    queries, hits = (
        [row["value"] for row in rows if row["name"] == f"sampling/prefix_cache_{name}"]
        for name in ("queries", "hits")
    )
    # Every rollout has the same two prompts, so a cache that outlived the weights would serve all
    # four requests of a group from the second rollout on, not three.
    assert queries == [queries[0]] * 3
    assert hits == [hits[0]] * 3
    lengths = [len(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    assert queries[0] == 4 * sum(lengths)
    # Whole blocks only, and never the last token: it gives the first one of the answer.
    assert hits[0] == 3 * sum((length - 1) // BLOCK * BLOCK for length in lengths) > 0
