"""A plan in the hands of a cluster that starts an evaluation after its training by itself."""

from dataclasses import dataclass, replace

import pytest

from cell_scripts import times_run
from longact_cli.cells import (
    CellDir,
    Status,
    cell_dir,
    create,
    mark_done,
    read_cell,
    read_status,
    write_status,
)
from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_sweep
from longact_cli.errors import PrerequisiteError
from longact_cli.execution import runner, slurm
from longact_cli.execution.base import EXIT_BLOCKED, HandOver
from longact_cli.execution.cancelled import CellsCancelled
from longact_cli.execution.failures import ended
from longact_cli.execution.job import CellProcess, end_code
from longact_cli.execution.overview import overview
from longact_cli.execution.runner import Runner, RunOptions
from longact_cli.execution.slurm import SlurmExecutor


@dataclass
class Job:
    """Starts its cell once the job before it has ended; leaves if that has not done its cell."""

    cluster: "Cluster"
    cell: HandOver
    before: "Job | None"
    code: int | None = None

    def poll(self):
        if self.before is not None and self.before.code is None:
            return None
        if self.cell.after is not None and read_status(self.cell.after).state != "done":
            return EXIT_BLOCKED
        self.code = self.cluster.work(self.cell.directory)
        return self.code


def finish(directory):
    with (directory.path / "runs.txt").open("a") as stream:
        stream.write("x")
    mark_done(directory)
    write_status(directory, replace(read_status(directory), state="done"))
    return 0


class Cluster:
    name = "cluster"
    outlives = True
    chains = True
    slots = 1

    def __init__(self, work=finish, *, room=100):
        self.work = work
        self.room = room
        self.jobs = {}
        self.batches = []

    def start(self, directory):
        return self.start_together([HandOver(directory)])[0]

    def start_together(self, cells):
        self.batches.append([(cell.directory, cell.after) for cell in cells])
        handles = []
        for cell in cells:
            before = self.jobs.get(cell.after.path) if cell.after else None
            job = Job(self, cell, before) if len(handles) < self.room else None
            self.jobs[cell.directory.path] = job
            handles.append(job)
        return handles

    def attach(self, directory):
        return None


@pytest.fixture
def plan():
    return plan_sweep("s", [compose(parse([]))], revision=lambda _model: "w", controls=False)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(runner, "_NO_ROOM_SECONDS", 0.1)
    monkeypatch.setattr(runner, "_DETACHED_POLL_SECONDS", 0.01)
    monkeypatch.setattr("longact_cli.execution.job._LATE_SECONDS", 0.3)


def folders(plan, runs):
    return {(c.stage, c.arm): cell_dir(runs, c.digest) for c in plan.cells}


def test_a_plan_is_handed_over_at_once_and_an_evaluation_comes_after_its_training(plan, tmp_path):
    cluster = Cluster()
    assert Runner(plan, tmp_path, cluster).run().ok
    where = folders(plan, tmp_path)
    training = where["train", "salient"]
    assert len(cluster.batches) == 1
    assert dict(cluster.batches[0]) == {
        training: None,
        where["eval", "salient"]: training,
        where["eval", "base"]: None,
    }
    assert times_run(plan, tmp_path) == [1, 1, 1]


def test_with_fail_fast_nothing_is_handed_over_before_its_training_is_done(plan, tmp_path):
    cluster = Cluster()
    assert Runner(plan, tmp_path, cluster, options=RunOptions(fail_fast=True)).run().ok
    # One slot: as many are in the queue at a time.
    assert [len(batch) for batch in cluster.batches] == [1, 1, 1]
    assert all(after is None for batch in cluster.batches for _, after in batch)


def test_a_training_that_is_tried_again_takes_its_evaluation_along(plan, tmp_path):
    def work(directory):
        first = read_status(directory).attempt == 1
        return -9 if first and read_cell(directory).stage == "train" else finish(directory)

    cluster = Cluster(work)
    assert Runner(plan, tmp_path, cluster).run().ok
    where = folders(plan, tmp_path)
    assert [len(batch) for batch in cluster.batches] == [3, 2]
    assert read_status(where["train", "salient"]).retries == ("signal",)
    assert read_status(where["eval", "salient"]).retries == ()


def test_the_evaluation_of_a_failed_training_is_blocked_and_runs_with_retry_failed(plan, tmp_path):
    def work(directory):
        return 3 if read_cell(directory).stage == "train" else finish(directory)

    outcome = Runner(plan, tmp_path, Cluster(work)).run()
    where = folders(plan, tmp_path)
    assert outcome.count("blocked") == 1
    assert "--retry-failed" in read_status(where["eval", "salient"]).error
    assert Runner(plan, tmp_path, Cluster(), options=RunOptions(retry_failed=True)).run().ok


def test_cells_that_a_cluster_has_no_room_for_are_handed_over_later(plan, tmp_path):
    cluster = Cluster(room=2)
    assert Runner(plan, tmp_path, cluster).run().ok
    assert [len(batch) for batch in cluster.batches] == [3, 1]
    assert times_run(plan, tmp_path) == [1, 1, 1]
    assert {read_status(d).attempt for d in folders(plan, tmp_path).values()} == {1}


@pytest.mark.parametrize(
    ("training", "says"),
    [
        (Status("failed", 1, failure="error"), "fix the cause"),
        (Status("interrupted", 1), "did not finish (interrupted): the same command goes on"),
        (Status("running", 1), "did not finish (running): the same command goes on"),
    ],
)
def test_a_job_leaves_when_the_training_of_its_cell_is_not_done(
    plan, tmp_path, monkeypatch, training, says
):
    for cell in plan.cells:
        create(cell_dir(tmp_path, cell.digest), cell)
    where = folders(plan, tmp_path)
    write_status(where["train", "salient"], training)
    evaluation = where["eval", "salient"]
    write_status(evaluation, Status("pending", attempt=1))
    monkeypatch.setattr("longact_cli.execution.job.spawn", pytest.fail)
    assert CellProcess(str(evaluation.path), threads=1).run() == EXIT_BLOCKED
    assert end_code(evaluation) == EXIT_BLOCKED
    left = read_status(evaluation)
    assert (left.state, left.attempt, left.failure) == ("blocked", 0, None)
    assert says in left.error
    # If the orchestrator knows the training as done, its result is damaged: never another round.
    assert ended(left, EXIT_BLOCKED).state == "failed"
    assert ended(left, EXIT_BLOCKED).exit_code is None


def test_an_array_that_slurm_finds_too_large_is_handed_over_in_parts(plan, tmp_path, monkeypatch):
    executor = SlurmExecutor(compose(parse(["executor=slurm"])).executor, tmp_path)
    tried = []

    def submit(cells, _shape):
        tried.append(len(cells))
        if len(cells) > 3 or sum(accepted) + len(cells) > 7:
            raise slurm._NoRoomError("job submit limit")
        accepted.append(len(cells))
        return [f"{len(accepted)}_{i}" for i in range(len(cells))]

    accepted: list[int] = []
    monkeypatch.setattr(executor, "_submit", submit)
    directory = cell_dir(tmp_path, plan.cells[0].digest)
    create(directory, plan.cells[0])
    cells = [HandOver(CellDir(tmp_path / "cells" / str(i))) for i in range(10)]
    for cell in cells:
        create(cell.directory, replace(plan.cells[0]))
    handles = executor.start_together(cells)
    # 10 and 5 are too many, 2 fit three times, then one more of the seven; nothing is lost.
    assert tried == [10, 5, 2, 2, 2, 2, 1, 1]
    assert [handle is not None for handle in handles] == [True] * 7 + [False] * 3
    assert executor.start_together(cells[7:]) == [None] * 3


def test_a_cluster_that_takes_no_job_at_all_is_one_line(plan, tmp_path, monkeypatch):
    executor = SlurmExecutor(compose(parse(["executor=slurm"])).executor, tmp_path)

    def refuse(_cells, _shape):
        raise slurm._NoRoomError("AssocMaxSubmitJobLimit")

    monkeypatch.setattr(executor, "_submit", refuse)
    directory = cell_dir(tmp_path, plan.cells[0].digest)
    create(directory, plan.cells[0])
    with pytest.raises(PrerequisiteError, match="Slurm refused the jobs: AssocMaxSubmitJobLimit"):
        executor.start(directory)


def test_status_says_why_a_cell_waits_and_that_it_was_called_off(plan, tmp_path, monkeypatch):
    from longact_cli.execution.job import JobRecord, write_job

    for number, cell in enumerate(plan.cells):
        directory = cell_dir(tmp_path, cell.digest)
        create(directory, cell)
        write_job(directory, JobRecord("slurm", f"7_{number}"))
    monkeypatch.setattr(
        "longact_cli.execution.overview.waiting_reasons",
        lambda: {"7_0": "None", "7_1": "Dependency"},
    )
    CellsCancelled(tmp_path).add(cell_dir(tmp_path, plan.cells[2].digest).path.name)
    rows = {row.digest: row for row in overview(tmp_path)}
    first, second, third = (rows[cell.digest] for cell in plan.cells)
    assert first.status.error == "in Slurm's queue as 7_0: starting"
    assert second.status.error == "in Slurm's queue as 7_1: Dependency"
    assert (first.queued, third.queued) == (True, False)
    assert third.status.state == "interrupted"
    assert "cancelled" in third.status.error
