"""Cells as actors of a Ray cluster: an existing one by its address, or one started here.

An actor holds the resources of its cell while the cell's process runs. On an existing cluster it
outlives the process that started it and is found again by name. Ray's own retries are off: what is
tried again is decided in one place, by what is on disk.
"""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, cast

from longact_cli.cells import CellDir, read_cell, read_status
from longact_cli.config.schema import ExecutorConfig
from longact_cli.errors import PrerequisiteError
from longact_cli.execution.base import HandOver
from longact_cli.execution.job import CellProcess, JobRecord, end_code, read_job, write_job

_NAME = "ray"
_NAMESPACE = "longact"
_ASK_SECONDS = 2.0
_CONNECT_SECONDS = 10.0
_GIGABYTE = 1 << 30


class CellActor:
    """Runs one cell on a node; `run` and the other methods work side by side."""

    def __init__(self, path: str, threads: int) -> None:
        """Look after the cell in the folder `path`."""
        self._process = CellProcess(path, threads=threads)

    def run(self) -> None:
        """Run the cell to its end, then give the node's resources back."""
        from ray.actor import exit_actor

        try:
            self._process.run()
        finally:
            exit_actor()

    def ping(self) -> None:
        """Show that the node and this actor live."""

    def stop(self) -> None:
        """Ask the cell to stop, and wait: a training writes a checkpoint first."""
        self._process.stop()


@dataclass
class RayHandle:
    """A cell in a Ray actor."""

    directory: CellDir
    actor: Any
    answer: Any = None
    asked: float = 0.0

    def poll(self) -> int | None:
        """Return the exit code once the actor is gone, else None; an actor may wait for a node."""
        import ray

        if self.answer is None:
            if time.monotonic() - self.asked < _ASK_SECONDS:
                return None
            self.answer, self.asked = self.actor.ping.remote(), time.monotonic()
        ready, _ = ray.wait([self.answer], timeout=0)
        if not ready:
            return None
        try:
            ray.get(self.answer)
        except ray.exceptions.RayError:
            return end_code(self.directory)
        self.answer = None
        return None

    def terminate(self) -> None:
        """Ask the cell to stop; one that waits, or has not begun, has nothing to save."""
        if read_status(self.directory).state == "pending":
            self.kill()
        else:
            self.actor.stop.remote()

    def kill(self) -> None:
        """Stop the actor, and with it the cell, at once."""
        import ray

        ray.kill(self.actor, no_restart=True)


class RayExecutor:
    """Hands cells to Ray; `workers` of them run or wait for resources."""

    name = _NAME
    chains = False

    def __init__(self, config: ExecutorConfig) -> None:
        """Connect to `config.address`, or start Ray on this machine's loopback address.

        Raises:
            PrerequisiteError: The cluster does not answer.
        """
        self._config = config
        connect(config.address, cpus=config.workers * config.threads_per_worker)

    @property
    def outlives(self) -> bool:
        """Whether cells go on after this process: not in a cluster that it has started."""
        return self._config.address is not None

    @property
    def slots(self) -> int:
        """How many cells may wait or run at the same time."""
        return self._config.workers

    def start(self, directory: CellDir) -> RayHandle:
        """Hand one cell over."""
        import ray

        config = read_cell(directory).config.executor
        path = directory.path.resolve()
        # A dead actor's name may stay taken for a while, hence one for each start.
        name = f"longact-{directory.path.name}-{token_hex(4)}"
        actor = (
            cast(Any, ray.remote(CellActor))
            .options(
                name=name,
                namespace=_NAMESPACE,
                lifetime="detached",
                num_cpus=config.threads_per_worker,
                num_gpus=config.gpus_per_cell,
                memory=int((config.memory_gb or 0) * _GIGABYTE) or None,
                max_restarts=0,
                max_concurrency=3,
            )
            .remote(str(path), config.threads_per_worker)
        )
        actor.run.remote()
        write_job(directory, JobRecord(_NAME, name))
        return RayHandle(directory, actor)

    def start_together(self, cells: Sequence[HandOver]) -> Sequence[RayHandle]:
        """Hand several cells over."""
        return [self.start(cell.directory) for cell in cells]

    def attach(self, directory: CellDir) -> RayHandle | None:
        """Return the handle of a cell whose actor still waits or runs."""
        import ray

        record = read_job(directory)
        if record is None or record.executor != _NAME:
            return None
        try:
            return RayHandle(directory, ray.get_actor(record.job, namespace=_NAMESPACE))
        except ValueError:
            return None


def connect(address: str | None, *, cpus: int) -> None:
    """Connect to a cluster, or start one that only this machine can reach.

    Raises:
        PrerequisiteError: There is none at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return
    _check_reachable(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=max(cpus, os.cpu_count() or 1),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
        else:
            ray.init(address=address, namespace=_NAMESPACE, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PrerequisiteError(
            f"executor.address is {address}; Ray does not answer ({reason}): start it with "
            "`ray start --head`, or leave the address out to start one here"
        ) from None


def _check_reachable(address: str | None) -> None:
    """Refuse an address that nobody listens at; Ray itself would try for many minutes.

    Raises:
        PrerequisiteError: There is no answer.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise PrerequisiteError(
            f"executor.address is {address}; nothing answers there ({error.strerror or error}): "
            "start Ray with `ray start --head`, or leave the address out to start one here"
        ) from None
