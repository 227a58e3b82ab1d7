"""Real clusters on this machine: jobs that are preempted, nodes that die, the same result."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import slurm_cluster
from integration.cluster_runs import (
    STEPS,
    environment,
    start,
    training_processes,
    wait_until,
    weights,
    whole_checkpoints,
)
from longact_cli.cells import cell_dir, create
from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_sweep
from longact_cli.execution.base import HandOver
from longact_cli.execution.choose import missing
from longact_cli.lease import current
from processes import suspended, told_to_end

pytestmark = pytest.mark.slow
SLURM = ("executor=slurm", "executor.gpus_per_cell=0", "executor.threads_per_worker=1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights that training leaves when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder, env=environment())
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return weights(folder)


def status(folder):
    (path,) = folder.glob("runs/cells/*/status.json")
    return json.loads(path.read_text())


@pytest.mark.skipif(
    bool(slurm_cluster.missing() or missing("slurm")),
    reason=str(slurm_cluster.missing() or missing("slurm")),
)
def test_a_job_that_slurm_preempts_ends_with_the_same_weights(tmp_path, undisturbed):
    """Detached by Ctrl-C, attached to again, preempted by a job of a higher partition."""
    with slurm_cluster.slurm_cluster(tmp_path / "slurm") as cluster:
        env = environment(**cluster)
        process = start(tmp_path, *SLURM, env=env)
        wait_until(lambda: whole_checkpoints(tmp_path) >= 2)
        with suspended(training_processes(tmp_path)) as (training,):
            process.send_signal(signal.SIGINT)
            urgent = ["sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null"]
            subprocess.run([*urgent, "--wrap=true"], env=env, check=True, capture_output=True)
            wait_until(lambda: told_to_end(training))
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "1 cells go on under slurm; the same command attaches to them again" in printed
        process = start(tmp_path, *SLURM, env=env)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
    assert len(list((tmp_path / "runs/slurm").glob("*/*_submission.sh"))) == 1
    assert status(tmp_path)["retries"] == ["preempted"]
    assert weights(tmp_path) == undisturbed


@pytest.fixture
def ray_cluster(monkeypatch):
    """A head without resources, on the loopback address; nodes are added by the test."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'longact[ray]'")
    # Ray would listen at this machine's outward address otherwise.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a token of this process is not the command's
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def test_a_cell_whose_ray_node_is_killed_is_run_on_another_with_the_same_weights(
    tmp_path, undisturbed, ray_cluster
):
    node = ray_cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    address = f"executor.address={ray_cluster.address}"
    process = start(tmp_path, "executor=ray", address, env=environment())
    wait_until(lambda: whole_checkpoints(tmp_path) >= 2)
    with suspended(training_processes(tmp_path)):
        ray_cluster.remove_node(node, allow_graceful=False)
    ray_cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    # More than once where the new try lands on the dead node before Ray has noticed.
    assert set(status(tmp_path)["retries"]) == {"preempted"}
    assert weights(tmp_path) == undisturbed


def test_cells_on_two_ray_nodes_see_gpus_of_their_own(tmp_path, ray_cluster, monkeypatch):
    """Ray is told of two GPUs a node; what the processes of four cells see is read from them."""
    import ray

    from longact_cli.execution.ray_ import RayExecutor

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    for _ in range(2):
        ray_cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=80 << 20)
    given = ["executor=ray", f"executor.address={ray_cluster.address}", "executor.gpus_per_cell=1"]
    configs = [compose(parse([*given, f"seed={seed}"])) for seed in range(4)]
    plan = plan_sweep("gpus", configs, revision=lambda _model: "w", controls=False)
    cells = [cell for cell in plan.cells if cell.stage == "train"]
    directories = [cell_dir(tmp_path / "runs", cell.digest) for cell in cells]
    for cell, directory in zip(cells, directories, strict=True):
        create(directory, cell)
    handles = RayExecutor(configs[0].executor).start_together(list(map(HandOver, directories)))
    try:
        found = []
        for directory in directories:
            wait_until(lambda leases=directory.leases: current(leases) is not None)
            found.append(Path(f"/proc/{current(directory.leases).pid}/environ").read_bytes())
    finally:
        for handle in handles:
            handle.kill()
        ray.shutdown()
    seen = [re.search(rb"\0CUDA_VISIBLE_DEVICES=([^\0]*)", b"\0" + block) for block in found]
    assert sorted(match.group(1) for match in seen) == [b"0", b"0", b"1", b"1"]


def test_a_ray_address_that_does_not_answer_is_one_line_and_exit_code_4(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'longact[ray]'")
    process = start(tmp_path, "executor=ray", "executor.address=127.0.0.1:9", env=environment())
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    lines = [line for line in printed.splitlines() if line.startswith("error:")]
    assert "executor.address is 127.0.0.1:9; nothing answers there" in lines[0]


def test_ctrl_c_saves_before_it_stops_and_the_run_goes_on_from_there(tmp_path, undisturbed):
    rare = f"algorithm.checkpoint_every={STEPS}"
    process = start(tmp_path, rare, env=environment())
    wait_until(lambda: list(tmp_path.glob("runs/cells/*/progress.json")))
    with suspended(training_processes(tmp_path)) as (training,):
        process.send_signal(signal.SIGINT)
        wait_until(lambda: told_to_end(training))
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert status(tmp_path)["state"] == "interrupted"
    saved = whole_checkpoints(tmp_path)
    assert 2 <= saved < STEPS
    assert f"stopped with a checkpoint at step {saved} of {STEPS}" in status(tmp_path)["error"]
    process = start(tmp_path, rare, env=environment())
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    (journal,) = tmp_path.glob("runs/cells/*/metrics.jsonl")
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [row["step"] for row in rows if row["name"] == "grad_norm"] == list(range(1, STEPS + 1))
    assert weights(tmp_path) == undisturbed
