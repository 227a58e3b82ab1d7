import pytest

from longact_cli.cells import Status
from longact_cli.config.compose import compose, parse
from longact_cli.errors import CellFailedError, ConfigError, PrerequisiteError
from longact_cli.execution.base import EXIT_LOST
from longact_cli.execution.failures import TRANSIENT, classify, ended, memory_hint

CUDA_OOM = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB"


@pytest.mark.parametrize(
    ("error", "text", "expected"),
    [
        (ConfigError("x"), "CUDA out of memory", "config"),
        (PrerequisiteError("x"), "no such checkpoint", "environment"),
        (MemoryError(), "", "oom"),
        (RuntimeError(), CUDA_OOM, "oom"),
        (RuntimeError(), "DefaultCPUAllocator: can't allocate memory: "
         "you tried to allocate 8 bytes", "oom"),
        (None, "slurmstepd: error: Detected 1 oom_kill event in StepId=5.batch", "oom"),
        (RuntimeError(), "NCCL error in: ProcessGroupNCCL.cpp:1275, ncclSystemError: System call "
         "failed", "accelerator"),
        (RuntimeError(), "[Rank 3] Watchdog caught collective operation timeout: Work(1)",
         "accelerator"),
        (RuntimeError(), "CUDA error: uncorrectable ECC error encountered", "accelerator"),
        (RuntimeError(), "CUDA error: device-side assert triggered", "error"),
        (ValueError(), "shapes do not match", "error"),
        (CellFailedError("x"), "the checkpoint is missing", "error"),
        (CellFailedError("x"), "rank 1 died of SIGKILL (often a lack of memory)", "signal"),
    ],
)  # fmt: skip
def test_a_failure_gets_its_class(error, text, expected):
    assert classify(error, text) == expected


def test_only_what_the_cell_did_not_cause_is_transient():
    assert TRANSIENT == {"signal", "preempted", "accelerator"}


def test_running_out_of_memory_names_the_key_to_lower_and_its_value():
    config = compose(parse(["algorithm.micro_batch_size=16", "benchmark.batch_size=4"]))
    assert "algorithm.micro_batch_size (now 16)" in memory_hint("train", config)
    assert "gradient_checkpointing=true" in memory_hint("train", config)
    assert "benchmark.batch_size (now 4)" in memory_hint("eval", config)
    tokens = compose(parse(["algorithm.micro_batch_tokens=2000"]))
    assert "lower algorithm.micro_batch_tokens (now 2000)" in memory_hint("train", tokens)


@pytest.mark.parametrize(
    ("code", "expected"), [(-9, "signal"), (EXIT_LOST, "preempted"), (1, "error")]
)
def test_an_end_without_a_word_is_classed_by_its_code(code, expected):
    assert ended(Status("running", 1), code).failure == expected


def test_what_the_child_has_said_wins():
    said = Status("failed", 1, exit_code=2, error="mask.sparsity is 7", failure="config")
    assert ended(said, -15).failure == "config"
    assert ended(said, 2).error == "mask.sparsity is 7"
