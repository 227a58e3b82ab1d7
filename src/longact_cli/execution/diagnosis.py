"""What this machine offers to a sweep, and how to get what it lacks."""

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from longact_cli.errors import LongActError
from longact_cli.execution.choose import controller_answers, missing
from longact_cli.execution.preflight import check_runs_dir
from longact_cli.holding import locks_work

_NEEDED = ("torch", "transformers", "trl", "lm_eval", "mlflow", "hydra-core", "wonderwords")
_OPTIONAL = {
    "vllm": "faster rollouts and evaluation: pip install 'longact[vllm]'",
}
_ROOM_BYTES = 1 << 30


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "optional", "missing"]
    detail: str


def diagnose(runs_dir: Path) -> tuple[Check, ...]:
    """Look at packages, accelerators, executors and the store."""
    checks = [_needed(name) for name in _NEEDED]
    checks += [_optional(name, use) for name, use in _OPTIONAL.items()]
    checks += [_accelerator(), *map(_executor, ("local", "slurm", "ray"))]
    checks += [_micro(), _store(runs_dir), _locks(runs_dir)]
    return tuple(checks)


def _needed(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "missing", "reinstall longact: pip install longact")


def _optional(name: str, use: str) -> Check:
    if find_spec(name) is None:
        return Check(name, "optional", use)
    return Check(name, "ok", "importable")


def _accelerator() -> Check:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Check("GPU", "ok", f"{torch.cuda.device_count()} x {', '.join(sorted(names))}")
    return Check("GPU", "optional", f"none; {os.cpu_count()} CPU cores are enough for micro")


def _executor(name: str) -> Check:
    reason = missing(name)
    if reason is not None:
        return Check(f"executor {name}", "optional", reason)
    if name == "slurm" and not controller_answers():
        return Check(f"executor {name}", "optional", "installed, but no controller answers")
    return Check(f"executor {name}", "ok", f"longact ablate --executor {name}")


def _micro() -> Check:
    from longact_cli.config.schema import ModelConfig
    from longact_cli.models.loading import checkpoint_sha256, resolve_checkpoint

    try:
        digest = checkpoint_sha256(resolve_checkpoint(ModelConfig(name="micro")))
    except LongActError as error:
        return Check("micro model", "missing", str(error))
    return Check("micro model", "ok", f"sha256 {digest[:12]}")


def _store(runs_dir: Path) -> Check:
    try:
        check_runs_dir(runs_dir)
    except LongActError as error:
        return Check("runs folder", "missing", str(error))
    place = next(
        path for path in (runs_dir.resolve(), *runs_dir.resolve().parents) if path.exists()
    )
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Check("runs folder", "missing", f"{place} cannot be written; use --runs-dir")
    state: Literal["ok", "missing"] = "ok" if free >= _ROOM_BYTES else "missing"
    return Check("runs folder", state, f"{runs_dir}, {free / 1e9:.1f} GB free")


def _locks(runs_dir: Path) -> Check:
    """Look whether a lock on a file of the store keeps others out, as one owner a cell needs."""
    name = "file locks"
    place = next(
        path for path in (runs_dir.resolve(), *runs_dir.resolve().parents) if path.exists()
    )
    try:
        works = locks_work(place)
    except OSError as error:
        return Check(name, "missing", f"{place} cannot be written ({error.strerror})")
    if works:
        return Check(name, "ok", f"flock works in {place}")
    return Check(
        name,
        "optional",
        f"no flock in {place}: cells are owned by lease alone, a dead owner is replaced after "
        "LONGACT_LEASE_SECONDS (60); put a sqlite MLflow store on a local disk",
    )
