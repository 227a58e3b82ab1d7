"""What produced a cell: code version, packages, machine, hashes of model and tokenizer."""

import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from longact_cli import __version__
from longact_cli.cells import CellDir
from longact_cli.files import read_json, write_json

_PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "lm_eval",
    "mlflow", "hydra-core", "numpy", "vllm", "wonderwords",
)  # fmt: skip


def git_state(folder: Path) -> tuple[str | None, bool]:
    """Return the commit of the checkout that holds `folder`, and whether it has local changes.

    The commit is None outside a checkout, e.g. for an installed wheel.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None or _git(folder, "ls-files", "--error-unmatch", __file__) is None:
        return None, False
    return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that can change a number."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_provenance(directory: CellDir, *, checkpoint: str) -> None:
    """Record what this cell runs with, before it starts."""
    from longact_cli.models.loading import checkpoint_sha256, tokenizer_sha256

    commit, dirty = git_state(Path(__file__).parent)
    write_json(
        directory.provenance,
        {
            "longact": __version__,
            "git_commit": commit,
            "git_dirty": dirty,
            "packages": package_versions(),
            "python": platform.python_version(),
            "platform": f"{platform.system()}-{platform.machine()}",
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "model_sha256": checkpoint_sha256(checkpoint),
            "tokenizer_sha256": tokenizer_sha256(checkpoint),
        },
    )


def add_provenance(directory: CellDir, **facts: str | int | float | None) -> None:
    """Add what is known only after the run: hash of the data, tokens, time."""
    write_json(directory.provenance, {**(read_json(directory.provenance) or {}), **facts})


def peak_memory_bytes() -> int:
    """Return the most memory this process held: of the GPU where it used one, else of the host."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024  # Linux counts in KiB
