import time

import pytest

from longact_cli.cells import Status, cell_dir, create, mark_done, write_status
from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_sweep, plan_train
from longact_cli.execution.estimate import cell_tokens, estimate, memory_lines
from longact_cli.plan import eval_cell, train_cell

SMALL = [
    "algorithm.steps=10", "algorithm.prompts_per_step=4", "algorithm.group_size=8",
    "algorithm.micro_batch_size=32", "algorithm.updates_per_rollout=2",
    "data.context_lengths=[100,200]", "benchmark.tasks=[niah_single_1,vt]",
    "benchmark.context_lengths=[100,300]", "benchmark.limit=5",
]  # fmt: skip


@pytest.fixture
def config():
    return compose(parse(SMALL))


def test_training_tokens_count_forward_backward_scoring_and_sampling(config):
    cell = train_cell(config, lambda _model: "w")
    # 10 steps x 32 rollouts x 200 tokens, each 3 (training) + 1 (old log-probs) + 1/2 (sampling).
    assert cell_tokens(cell) == 10 * 32 * 200 * 4.5


def test_the_batch_of_a_step_is_said_for_any_number_of_processes():
    one = plan_train("s", compose(parse(SMALL)), revision=lambda _model: "w")
    assert memory_lines(one)[0] == (
        "batch of micro with dapo: 4 prompts x 8 = 32 rollouts a step; 1 process, micro-batches of "
        "32, 1 of them on each; 1 GPU if on GPUs"
    )
    serving = ["parallel=fsdp2", "parallel.processes=4", "algorithm.micro_batch_size=2"]
    serving += ["vllm=server", "vllm.gpus=2", "algorithm.use_vllm=true"]
    four = plan_train("s", compose(parse([*SMALL, *serving])), revision=lambda _model: "w")
    assert memory_lines(four)[0] == (
        "batch of micro with dapo: 4 prompts x 8 = 32 rollouts a step; 4 processes (fsdp2), "
        "micro-batches of 2, 4 of them on each; 6 GPUs if on GPUs"
    )


def test_a_budget_of_tokens_is_said_instead_of_a_number_of_rollouts():
    config = compose(parse([*SMALL, "algorithm.micro_batch_tokens=900"]))
    plan = plan_train("s", config, revision=lambda _model: "w")
    assert "1 process, micro-batches of up to 900 tokens; 1 GPU" in memory_lines(plan)[0]


def test_evaluation_tokens_are_bounded_by_the_context_lengths(config):
    cell = eval_cell(config, lambda _model: "w", parent=None)
    assert cell_tokens(cell) == 2 * 5 * (100 + 300)


def test_time_is_unknown_until_a_cell_of_each_kind_has_finished(config, tmp_path):
    plan = plan_sweep("s", [config], revision=lambda _model: "w", controls=True)
    assert estimate(plan, tmp_path, workers=2).seconds is None
    finished = [
        next(cell for cell in plan.cells if cell.stage == stage) for stage in ("train", "eval")
    ]
    now = time.time()
    for cell, seconds in zip(finished, (288.0, 40.0), strict=True):
        directory = cell_dir(tmp_path, cell.digest)
        create(directory, cell)
        mark_done(directory)
        write_status(directory, Status("done", started=now - seconds, finished=now))
    left = estimate(plan, tmp_path, workers=2)
    assert (left.cells, left.finished) == (5, 2)
    # Two train cells of 288 s and three eval cells of 40 s, two side by side.
    assert left.seconds == pytest.approx((2 * 288 + 3 * 40) / 2, rel=1e-3)
