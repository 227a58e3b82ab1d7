"""Plans beside their cells: what a later sync needs to bring them into MLflow."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from longact_cli.files import read_json, write_json
from longact_cli.plan import Plan
from longact_cli.redaction import redact


class StoredPlan(NamedTuple):
    """One plan of a store.

    Attributes:
        command: The command line that made it, without secrets.
        started: When it was last started, in seconds since the epoch; 0 where that is unknown.
        cells: Digest of each cell to the reasons that asked for it.
        path: Its file.
    """

    study: str
    digest: str
    command: str
    started: float
    cells: dict[str, tuple[str, ...]]
    path: Path


def write_plan(plan: Plan, runs_dir: Path, *, command: str) -> Path:
    """Write the plan beside its cells and return the file."""
    path = runs_dir / "plans" / f"{plan.digest[:12]}.json"
    cells = [
        {"digest": cell.digest, "label": cell.label, "asked_by": list(cell.asked_by)}
        for cell in plan.cells
    ]
    facts = {"command": redact(command), "started": time.time()}
    write_json(path, {"study": plan.study, "digest": plan.digest, "cells": cells, **facts})
    return path


def read_plans(runs_dir: Path) -> tuple[StoredPlan, ...]:
    """Return every readable plan of a store, the oldest first."""
    found = []
    for path in sorted((runs_dir / "plans").glob("*.json")):
        data = read_json(path)
        if not isinstance(data, dict) or not {"study", "digest", "cells"} <= data.keys():
            continue
        cells = {cell["digest"]: tuple(cell.get("asked_by", ())) for cell in data["cells"]}
        started = data.get("started", 0.0)
        found.append(
            StoredPlan(data["study"], data["digest"], data.get("command", ""), started, cells, path)
        )
    return tuple(sorted(found, key=lambda plan: (plan.started, plan.digest)))


@contextmanager
def holding_plan(runs_dir: Path, digest: str) -> Iterator[None]:
    """Show that a process is at work on this plan; several may be. The kernel lets go on death."""
    path = _lock(runs_dir, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def is_plan_held(runs_dir: Path, digest: str) -> bool:
    """Return whether a live process is at work on this plan."""
    path = _lock(runs_dir, digest)
    if not path.exists():
        return False
    with path.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(runs_dir: Path, digest: str) -> Path:
    return runs_dir / "plans" / f".{digest[:12]}.lock"
