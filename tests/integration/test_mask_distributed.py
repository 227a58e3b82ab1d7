"""Two processes through the Hugging Face Trainer give what one process gives."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).parent / "mask_worker.py"
RUNS = {
    "salient": "strict",
    "random": "gradient",
    "random-head-matched": "strict",
    "gradient": "strict",
    "wanda": "gradient",
    "weight": "strict",
}
STEPS = 3


def launch(backend: str, runs: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WORKER), backend, runs, str(out)]
    if backend != "single":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command[1:1] = [
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            f"--master-port={port}",
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each backend left behind for each strategy."""
    folders = {}
    runs = ",".join(f"{strategy}:{how}" for strategy, how in RUNS.items())
    for backend in ("single", "ddp", "fsdp2"):
        folders[backend] = tmp_path_factory.mktemp(backend)
        result = launch(backend, runs, folders[backend])
        assert result.returncode == 0, result.stderr[-3000:]
    return folders


def part(tensors: dict[str, torch.Tensor], step: int, kind: str) -> dict[str, torch.Tensor]:
    prefix = f"{step}/{kind}/"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ddp", "fsdp2"])
@pytest.mark.parametrize("strategy", RUNS)
def test_masks_are_equal_on_all_processes_and_those_of_one_process(
    backend: str, strategy: str, recorded: dict[str, Path]
) -> None:
    single = load_file(recorded["single"] / strategy / "rank0.safetensors")
    for rank in (0, 1):
        ours = load_file(recorded[backend] / strategy / f"rank{rank}.safetensors")
        for step in range(STEPS):
            expected, actual = part(single, step, "mask"), part(ours, step, "mask")
            assert len(expected) == 4
            assert all(torch.equal(actual[name], rows) for name, rows in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["single", "ddp", "fsdp2"])
@pytest.mark.parametrize("strategy", RUNS)
def test_the_optimizer_sees_zero_in_masked_rows_and_the_dense_gradient_elsewhere(
    backend: str, strategy: str, recorded: dict[str, Path]
) -> None:
    single = load_file(recorded["single"] / strategy / "rank0.safetensors")
    ours = load_file(recorded[backend] / strategy / "rank0.safetensors")
    for step in range(STEPS):
        mask = part(ours, step, "mask")
        expected = part(single, step, "gradient")
        for name, gradient in part(ours, step, "gradient").items():
            scale = expected[name].abs().max()
            assert scale > 0
            assert torch.allclose(gradient, expected[name], atol=1e-4 * scale), name
            if name in mask:
                assert gradient[~mask[name]].abs().max() == 0
                assert (gradient[mask[name]].abs().amax(dim=1) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["single", "ddp", "fsdp2"])
@pytest.mark.parametrize("strategy", RUNS)
def test_masked_rows_stand_still_where_promised_and_the_report_is_right(
    backend: str, strategy: str, recorded: dict[str, Path]
) -> None:
    ours = load_file(recorded[backend] / strategy / "rank0.safetensors")
    for step in range(STEPS):
        before, after = part(ours, step, "before"), part(ours, step, "after")
        moved = max(
            (after[name] - before[name])[~rows].abs().max().item()
            for name, rows in part(ours, step, "mask").items()
        )
        drift, kept, dense = part(ours, step, "report")["values"].tolist()
        assert drift == pytest.approx(moved, rel=1e-5)
        assert (moved == 0) == (RUNS[strategy] == "strict")
        gradients = part(ours, step, "gradient")
        norm = sum(gradients[name].square().sum() for name in part(ours, step, "mask")) ** 0.5
        if backend != "ddp" or strategy == "gradient":
            assert kept == pytest.approx(norm.item(), rel=1e-4)
            assert dense > kept
        else:
            assert kept == -1.0  # a DDP hook sees its own process only: nothing is claimed
