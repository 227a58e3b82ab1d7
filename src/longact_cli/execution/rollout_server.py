"""vLLM's server for the rollouts of one cell: started before training, ended with the cell."""

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from longact_cli.config.schema import VllmConfig
from longact_cli.errors import CellFailedError, ConfigError
from longact_cli.execution.leash import Leashed

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 15.0
_HOST = "127.0.0.1"
_TAIL_BYTES = 4000


class PrefixCache(NamedTuple):
    """Prompt tokens the server looked up in its prefix cache, and how many it found there."""

    queries: int
    hits: int


class RolloutServer(NamedTuple):
    """A server that answers.

    Attributes:
        url: Its address.
        process: Its process group.
        log: What it prints.
    """

    url: str
    process: Leashed
    log: Path

    def prefix_cache(self) -> PrefixCache | None:
        """Return the counters of the prefix cache; None where the server does not tell."""
        try:
            with urlopen(f"{self.url}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (URLError, OSError):
            return None
        queries, hits = (
            sum(map(float, re.findall(rf"^vllm:prefix_cache_{name}_total\S* (\S+)$", text, re.M)))
            for name in ("queries", "hits")
        )
        return PrefixCache(int(queries), int(hits))


def server_command(checkpoint: str, *, vllm: VllmConfig, port: int, longest: int) -> list[str]:
    """Return the command of a server as TRL's trainer expects it.

    Args:
        checkpoint: Local folder of the starting weights.
        vllm: GPUs and memory.
        port: Where it listens, on this machine only.
        longest: Prompt and completion, in tokens, at most.
    """
    from trl.scripts.vllm_serve import ScriptArguments, build_command

    arguments = ScriptArguments(
        model=checkpoint,
        host=_HOST,
        port=port,
        tensor_parallel_size=vllm.gpus,
        gpu_memory_utilization=vllm.memory,
        max_model_len=longest,
        enable_prefix_caching=True,
    )
    return list(build_command(arguments))


def split_gpus(visible: Sequence[str], *, training: int, server: int) -> tuple[str, str]:
    """Return CUDA_VISIBLE_DEVICES of training and of the server, which follows it.

    Raises:
        ConfigError: There are not enough.
    """
    if len(visible) < training + server:
        raise ConfigError(
            f"vllm.mode is server: parallel.processes = {training} and vllm.gpus = {server} need "
            f"{training + server} GPUs, and {len(visible)} are visible: lower one of them, or set "
            "vllm.mode=colocate"
        )
    return ",".join(visible[:training]), ",".join(visible[training : training + server])


@contextmanager
def serve(
    command: Sequence[str], *, port: int, gpus: str | None, log: Path, startup_seconds: float
) -> Iterator[RolloutServer]:
    """Run a server as long as the block lasts; it answers when the block begins.

    Args:
        command: Starts it.
        port: Where it will answer.
        gpus: Its CUDA_VISIBLE_DEVICES; None leaves that as it is.
        log: What it prints goes here.
        startup_seconds: How long it may take until it answers.

    Raises:
        CellFailedError: It ended, or did not answer in time.
    """
    # Weight updates and the reset of the prefix cache are endpoints of this mode.
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1"}
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    with log.open("ab") as stream:
        process = Leashed(command, log=stream, environment=environment)
    server = RolloutServer(f"http://{_HOST}:{port}", process, log)
    try:
        _wait(server, startup_seconds)
        yield server
    finally:
        process.stop(_GRACE_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _wait(server: RolloutServer, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _answers(f"{server.url}/health"):
        code = server.process.poll()
        if code is not None:
            raise CellFailedError(
                f"the vLLM server ended with exit code {code} before it answered: "
                f"{_last_line(server.log)}; see {server.log.name} in the cell's folder"
            )
        if time.monotonic() > deadline:
            raise CellFailedError(
                f"the vLLM server did not answer within vllm.startup_seconds = {seconds:g}; see "
                f"{server.log.name} in the cell's folder, or give it more time"
            )
        time.sleep(_POLL_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
