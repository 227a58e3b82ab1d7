"""Cells as actors of a Ray cluster: an existing one by its address, or one started here.

An actor holds the resources of its cell while the cell's process runs. On an existing cluster it
outlives the process that started it and is found again by name, and a plan is handed over as a
whole to an actor that starts its cells in turn. Ray's own retries are off: what is tried again is
decided in one place, by what is on disk.
"""

import os
import socket
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from longact_cli.cells import CellDir
from longact_cli.config.schema import ExecutorConfig
from longact_cli.errors import PrerequisiteError
from longact_cli.execution.base import HandOver
from longact_cli.execution.job import JobRecord, write_job
from longact_cli.execution.ray_actors import (
    NAMESPACE,
    RayHandle,
    Turn,
    TurnsView,
    find_cell,
    start_actor,
    start_turns,
)

_NAME = "ray"
_CONNECT_SECONDS = 10.0


class RayExecutor:
    """Hands cells to Ray; `workers` of them run or wait for resources."""

    name = _NAME

    def __init__(self, config: ExecutorConfig) -> None:
        """Connect to `config.address`, or start Ray on this machine's loopback address.

        Raises:
            PrerequisiteError: The cluster does not answer.
        """
        self._config = config
        self._views: dict[str, TurnsView] = {}
        connect(config.address, cpus=config.workers * config.threads_per_worker)

    @property
    def outlives(self) -> bool:
        """Whether cells go on after this process: not in a cluster that it has started."""
        return self._config.address is not None

    @property
    def chains(self) -> bool:
        """Whether a plan is handed over as a whole: where it can end without this process."""
        return self.outlives

    @property
    def slots(self) -> int:
        """How many cells may wait or run at the same time."""
        return self._config.workers

    def start(self, directory: CellDir) -> RayHandle:
        """Hand one cell over."""
        name = _new_name(directory)
        write_job(directory, JobRecord(_NAME, name))
        return start_actor(directory, name)

    def start_together(self, cells: Sequence[HandOver]) -> Sequence[RayHandle]:
        """Hand several cells over; where some have to wait, an actor gives all their turn."""
        if len(cells) <= self.slots and all(cell.after is None for cell in cells):
            return [self.start(cell.directory) for cell in cells]
        name = f"longact-turns-{token_hex(4)}"
        turns = [_turn(cell) for cell in cells]
        for cell, turn in zip(cells, turns, strict=True):
            write_job(cell.directory, JobRecord(_NAME, f"{name}/{turn.name}"))
        view = self._views[name] = start_turns(name, turns, workers=self.slots)
        named = zip(cells, turns, strict=True)
        return [RayHandle(cell.directory, turn.name, view=view) for cell, turn in named]

    def attach(self, directory: CellDir) -> RayHandle | None:
        """Return the handle of a cell that still waits or runs."""
        return find_cell(directory, self._views)


def _turn(cell: HandOver) -> Turn:
    after = None if cell.after is None else str(cell.after.path.resolve())
    return Turn(str(cell.directory.path.resolve()), _new_name(cell.directory), after)


def _new_name(directory: CellDir) -> str:
    """Return a name for a cell's actor; a dead actor's may stay taken for a while."""
    return f"longact-{directory.path.name}-{token_hex(4)}"


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
            ray.init(address=address, namespace=NAMESPACE, **quiet)
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
