"""From the configuration to an executor, or to one line that says what is missing."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from longact_cli.config.schema import ExecutorConfig
from longact_cli.errors import PrerequisiteError
from longact_cli.execution.base import Executor
from longact_cli.execution.local import LocalExecutor, visible_gpus

_SLURM_COMMANDS = ("sbatch", "srun", "squeue", "scancel")


def make_executor(config: ExecutorConfig, runs_dir: Path) -> Executor:
    """Return the executor of a configuration.

    Raises:
        PrerequisiteError: Its package, its cluster or a GPU is missing; says how to get it.
    """
    if config.name == "local":
        return LocalExecutor(
            config.workers,
            config.threads_per_worker,
            gpus_per_cell=config.gpus_per_cell,
            gpus=visible_gpus() if config.gpus_per_cell else (),
        )
    check_available(config.name)
    if config.name == "slurm":
        from longact_cli.execution.slurm import SlurmExecutor

        return SlurmExecutor(config, runs_dir)
    from longact_cli.execution.ray_ import RayExecutor

    return RayExecutor(config)


def check_available(name: str) -> None:
    """Refuse an executor that cannot work here.

    Raises:
        PrerequisiteError: Its package or its commands are missing.
    """
    reason = missing(name)
    if reason is not None:
        raise PrerequisiteError(f"executor is {name}; {reason}")


def missing(name: str) -> str | None:
    """Return what an executor lacks on this machine and how to get it; None if nothing."""
    package = {"slurm": "submitit", "ray": "ray"}.get(name)
    if package is not None and find_spec(package) is None:
        return f"{package} is not installed: pip install 'longact[{name}]'"
    absent = [c for c in _SLURM_COMMANDS if shutil.which(c) is None] if name == "slurm" else []
    if absent:
        return f"{', '.join(absent)} not found: run this on a node of the Slurm cluster"
    return None


def controller_answers() -> bool:
    """Return whether the cluster that this machine is set up for answers."""
    try:
        done = subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
