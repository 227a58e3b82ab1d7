import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).parent / "prefix_worker.py"


@pytest.mark.slow
def test_packed_passes_go_through_ddp_whatever_the_other_process_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "gradients.safetensors"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
            *(f"--master-port={port}", str(WORKER), str(out)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    gradients, expected = load_file(out), load_file(f"{out}.expected")
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        assert scale > 0
        assert torch.allclose(gradients[name], gradient, rtol=0, atol=1e-5 * scale), name
