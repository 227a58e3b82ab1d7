"""The life of a rollout server, with a real process in vLLM's place."""

import os
import sys
from urllib.request import urlopen

import pytest

from longact_cli.cells import cell_dir
from longact_cli.config.compose import compose, parse
from longact_cli.config.schema import VllmConfig
from longact_cli.controls import plan_train
from longact_cli.errors import CellFailedError, ConfigError, PrerequisiteError
from longact_cli.execution.resources import (
    check_machines,
    limit_gpus,
    refuse_launchers,
    rollout_server,
)
from longact_cli.execution.rollout_server import (
    PrefixCache,
    free_port,
    serve,
    server_command,
    split_gpus,
)

METRICS = """# HELP vllm:prefix_cache_queries_total Prefix cache queries
vllm:prefix_cache_queries_total{engine="0"} 1600.0
vllm:prefix_cache_hits_total{engine="0"} 896.0
vllm:external_prefix_cache_hits_total{engine="0"} 5.0
"""
SERVER = f"""
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write({METRICS!r}.encode() if self.path == "/metrics" else b"")

print(os.environ["VLLM_SERVER_DEV_MODE"], os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def run(tmp_path, code: str, *, seconds: float = 20.0):
    port = free_port()
    command = [sys.executable, "-c", code, str(port)]
    log = tmp_path / "vllm.log"
    return serve(command, port=port, gpus="4,5", log=log, startup_seconds=seconds)


def test_a_server_answers_inside_the_block_and_is_gone_after_it(tmp_path):
    with run(tmp_path, SERVER) as server:
        with urlopen(f"{server.url}/health") as answer:
            assert answer.status == 200
        assert server.prefix_cache() == PrefixCache(queries=1600, hits=896)
        assert (tmp_path / "vllm.log").read_text().splitlines()[0] == "1 4,5"
    with pytest.raises(ProcessLookupError):
        os.killpg(server.process.pid, 0)
    assert server.prefix_cache() is None


def test_a_server_that_ends_says_its_last_line(tmp_path):
    code = "print('no'); raise SystemExit('GPU too small')"
    with pytest.raises(CellFailedError, match="exit code 1 before it answered: GPU too small"):
        with run(tmp_path, code):
            pytest.fail("it never answered")


def test_a_silent_server_is_given_up(tmp_path):
    with pytest.raises(CellFailedError, match=r"within vllm\.startup_seconds = 0\.3"):
        with run(tmp_path, "import time; time.sleep(60)", seconds=0.3):
            pytest.fail("it never answered")


def test_the_command_is_the_one_trl_expects(tmp_path):
    command = server_command(
        "folder", vllm=VllmConfig(mode="server", gpus=2, memory=0.5), port=8123, longest=640
    )
    text = " ".join(command)
    assert command[0] == sys.executable
    for part in (
        "serve folder --host 127.0.0.1 --port 8123 --tensor-parallel-size 2",
        "--gpu-memory-utilization 0.5",
        "--max-model-len 640",
        "--enable-prefix-caching",
        '--weight-transfer-config {"backend": "nccl"}',
        "--logprobs-mode processed_logprobs",
    ):
        assert part in text


def test_training_and_server_get_gpus_of_their_own():
    assert split_gpus(["0", "1", "2", "7"], training=2, server=1) == ("0,1", "2")
    with pytest.raises(ConfigError, match=r"vllm\.gpus = 2 need 4 GPUs, and 3 are visible"):
        split_gpus(["0", "1", "2"], training=2, server=2)


def test_a_process_sees_no_gpu_beyond_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert limit_gpus(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert limit_gpus(1)  # in a process of its own
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert not limit_gpus(1)
    assert limit_gpus(2)  # the trainer then says what is missing


def plan(*overrides):
    return plan_train("s", compose(parse(list(overrides))), revision=lambda _model: "w")


def test_what_the_machine_lacks_is_refused_before_the_start(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_machines(plan("parallel.processes=2"))
    with pytest.raises(PrerequisiteError, match="fsdp2 and no GPU is visible") as caught:
        check_machines(plan("parallel=fsdp2"))
    assert caught.value.exit_code == 4
    monkeypatch.setattr("longact_cli.evaluation.vllm_cpu.vllm_version", lambda: "0.30.0")
    check_machines(plan("algorithm.use_vllm=true"))
    check_machines(plan("algorithm=sft", "vllm=server", "algorithm.use_vllm=true"))
    with pytest.raises(PrerequisiteError, match=r"vllm\.mode is server and no GPU is visible"):
        check_machines(plan("algorithm.use_vllm=true", "vllm=server"))
    monkeypatch.setattr("longact_cli.evaluation.vllm_cpu.vllm_version", lambda: None)
    with pytest.raises(PrerequisiteError, match=r"pip install 'longact\[vllm\]'"):
        check_machines(plan("algorithm.use_vllm=true"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(PrerequisiteError, match=r"parallel\.processes is 8 and 4 GPUs are visible"):
        check_machines(plan("parallel.processes=8"))


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"WORLD_SIZE": "8"}, "WORLD_SIZE is 8.*parallel.processes=8"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "cannot act under DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "1"}, "set parallel.sharding=fsdp2 instead"),
    ],
)
def test_an_environment_made_by_a_launcher_is_refused(environment, line):
    refuse_launchers({"WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "false"})
    with pytest.raises(ConfigError, match=line):
        refuse_launchers(environment)


def test_a_cell_without_vllm_starts_no_server(tmp_path):
    config = compose(parse(["vllm=server"]))
    with rollout_server(config, cell_dir(tmp_path, "0" * 64), checkpoint="folder"):
        assert not list(tmp_path.iterdir())
