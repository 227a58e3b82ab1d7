"""The runner with real child processes that stand in for cells."""

import os
import signal
import threading
import time

import pytest

from cell_scripts import ScriptExecutor, times_run
from longact_cli.cells import (
    Status,
    cell_dir,
    create,
    read_status,
    write_status,
)
from longact_cli.config.compose import parse
from longact_cli.config.sweep import expand
from longact_cli.controls import plan_sweep
from longact_cli.execution.failures import ended
from longact_cli.execution.runner import Runner, RunOptions
from longact_cli.holding import is_held


class Watch:
    def __init__(self):
        self.most = 0
        self.events = []

    def changed(self, cell, status):
        self.events.append((cell.stage, cell.arm, status.state))

    def tick(self, running):
        self.most = max(self.most, len(running))

    def stopping(self):
        self.events.append("stopping")


@pytest.fixture
def plan():
    configs = expand(parse(["mask=salient", "mask.sparsity=0.3"]))
    return plan_sweep("s", configs, revision=lambda _model: "w", controls=True)


@pytest.mark.slow
def test_every_cell_runs_once_and_a_second_run_starts_nothing(plan, tmp_path):
    watch = Watch()
    outcome = Runner(plan, tmp_path, ScriptExecutor(), listeners=[watch]).run()
    assert outcome.ok
    assert watch.most == 2
    assert times_run(plan, tmp_path) == [1] * 7
    assert Runner(plan, tmp_path, ScriptExecutor()).run().ok
    assert times_run(plan, tmp_path) == [1] * 7


@pytest.mark.slow
def test_a_failed_training_blocks_its_evaluation_and_nothing_else(plan, tmp_path):
    body = """
    if "train salient" in "".join(open(directory.path / "cell.json")) or (
        read_cell(directory).stage == "train" and read_cell(directory).arm == "salient"):
        raise SystemExit(3)
    """
    outcome = Runner(plan, tmp_path, ScriptExecutor(body)).run()
    by_cell = {(c.stage, c.arm): outcome.states[c.digest] for c in plan.cells}
    assert by_cell[("train", "salient")] == "failed"
    assert by_cell[("eval", "salient")] == "blocked"
    assert by_cell[("eval", "random")] == "done"
    assert not outcome.ok
    again = Runner(plan, tmp_path, ScriptExecutor()).run()
    assert again.count("failed") == 1
    retried = Runner(plan, tmp_path, ScriptExecutor(), options=RunOptions(retry_failed=True)).run()
    assert retried.ok


@pytest.mark.slow
def test_ctrl_c_stops_the_children_and_the_next_run_finishes(plan, tmp_path):
    threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    outcome = Runner(plan, tmp_path, ScriptExecutor("time.sleep(60)")).run()
    assert outcome.interrupted
    assert outcome.count("interrupted") == 2
    assert not any(is_held(cell_dir(tmp_path, cell.digest)) for cell in plan.cells)
    assert Runner(plan, tmp_path, ScriptExecutor()).run().ok


@pytest.mark.slow
def test_a_cell_of_a_killed_run_is_waited_for_and_kept(plan, tmp_path):
    first = plan.cells[0]
    directory = cell_dir(tmp_path, first.digest)
    create(directory, first)
    write_status(directory, Status("running", attempt=1, started=time.time()))
    orphan = ScriptExecutor("time.sleep(2)").start(directory)
    while not is_held(directory):
        time.sleep(0.05)
    assert Runner(plan, tmp_path, ScriptExecutor()).run().ok
    assert orphan.poll() == 0
    assert times_run(plan, tmp_path) == [1] * 7


@pytest.mark.slow
def test_two_runners_of_one_plan_run_each_cell_once(plan, tmp_path):
    outcomes = []

    def work():
        runner = Runner(plan, tmp_path, ScriptExecutor("time.sleep(0.3)"))
        outcomes.append(runner.run())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.ok for outcome in outcomes] == [True, True]
    assert times_run(plan, tmp_path) == [1] * 7


def test_fail_fast_starts_nothing_after_a_failure(plan, tmp_path):
    executor = ScriptExecutor("raise SystemExit(1)", slots=1)
    outcome = Runner(plan, tmp_path, executor, options=RunOptions(fail_fast=True)).run()
    assert outcome.count("failed") == 1
    assert sum(times_run(plan, tmp_path)) == 1


def test_a_process_that_dies_without_a_word_has_failed():
    status = ended(Status("running", attempt=1), -9)
    assert status.state == "failed"
    assert status.error.startswith("killed by signal 9")
    assert status.failure == "signal"
    assert ended(Status("running"), 0).state == "failed"
    assert ended(Status("done"), 0).state == "done"


def test_a_message_of_the_child_is_kept():
    status = ended(Status("failed", error="out of memory"), 1)
    assert (status.error, status.exit_code) == ("out of memory", 1)


def test_the_status_of_a_new_cell_is_pending(plan, tmp_path):
    directory = cell_dir(tmp_path, plan.cells[0].digest)
    create(directory, plan.cells[0])
    assert read_status(directory).state == "pending"


@pytest.mark.slow
def test_a_value_added_to_a_sweep_later_runs_only_the_new_cells(tmp_path):
    def sweep(sparsities):
        configs = expand(parse(["mask=salient", f"mask.sparsity={sparsities}"]))
        return plan_sweep("s", configs, revision=lambda _model: "w", controls=False)

    assert Runner(sweep("0.1"), tmp_path, ScriptExecutor()).run().ok
    watch = Watch()
    assert Runner(sweep("0.1,0.3"), tmp_path, ScriptExecutor(), listeners=[watch]).run().ok
    started = [(stage, arm) for stage, arm, state in watch.events if state == "running"]
    assert started == [("train", "salient"), ("eval", "salient")]
    assert times_run(sweep("0.1,0.3"), tmp_path) == [1] * 5
