"""Change masks and losses one token at a time and list the changes that no test notices.

Run from the root of the checkout: `python -m tests.mutation [part of a module name ...]`.
Every mutant runs in its own process, forked after the heavy imports, on a copy of the sources.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.mutation.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "longact_cli"
UNIT = "tests/unit"
TARGETS = {
    "training/covariance.py": (f"{UNIT}/training/test_covariance.py",),
    "training/token_selection.py": (f"{UNIT}/training/test_token_selection.py",),
    "training/dynamic_sampling.py": (f"{UNIT}/training/test_dynamic_sampling.py",),
    "training/rewards.py": (f"{UNIT}/training/test_rewards.py",),
    "training/arguments.py": (f"{UNIT}/training/test_arguments.py",),
    "training/shared_prefix.py": (f"{UNIT}/training/test_shared_prefix.py",),
    "training/prefix_attention.py": (f"{UNIT}/training/test_shared_prefix.py",),
    "training/flex_block.py": (f"{UNIT}/training/test_flex_block.py",),
    "training/groups.py": (f"{UNIT}/training/test_groups.py",),
    "config/algorithm.py": (f"{UNIT}/training/test_algorithms.py", f"{UNIT}/config"),
    "masking/ranking.py": (f"{UNIT}/masking",),
    "masking/statistics.py": (f"{UNIT}/masking",),
    "masking/row_mask.py": (f"{UNIT}/masking",),
    "masking/scores.py": (f"{UNIT}/masking",),
    "masking/rotary.py": (f"{UNIT}/masking",),
    "masking/strict.py": (f"{UNIT}/masking",),
    "masking/strategies": (f"{UNIT}/masking",),
}
SECONDS = 120


def files() -> list[tuple[Path, tuple[str, ...]]]:
    """Return the modules to change with their tests, as far as they exist."""
    wanted = sys.argv[1:]
    found = []
    for name, tests in TARGETS.items():
        path = PACKAGE / name
        modules = sorted(path.glob("*.py")) if path.is_dir() else [path] if path.exists() else []
        found += [(module, tests) for module in modules]
    return [
        (module, tests)
        for module, tests in found
        if not wanted or any(part in str(module.relative_to(PACKAGE)) for part in wanted)
    ]


def survives(copy: Path, tests: tuple[str, ...]) -> bool:
    """Run the tests on the copy in a forked process; an endless mutant is noticed by the alarm."""
    child = os.fork()
    if child == 0:
        import signal

        import pytest

        signal.alarm(SECONDS)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        os._exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]) != 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    """Print every survivor and the counts."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import hydra  # noqa: F401
    import pandas  # noqa: F401
    import pydantic  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import transformers  # noqa: F401
    import trl  # noqa: F401

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("src", "tests", "conf", "experiments"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for module, tests in files():
            run_module(module, tests, copy)


def run_module(module: Path, tests: tuple[str, ...], copy: Path) -> None:
    """Try all mutants of one module."""
    name = module.relative_to(ROOT)
    source = module.read_text(encoding="utf-8")
    lines = source.splitlines()
    made = killed = 0
    if not survives(copy, tests):
        print(f"{name}: its tests fail without any change", flush=True)
        return
    for mutant in mutants(source):
        (copy / name).write_text(mutant.source, encoding="utf-8")
        made += 1
        if survives(copy, tests):
            text = lines[mutant.line - 1].strip() if mutant.line else ""
            print(f"  {name}:{mutant.line}: {mutant.change}: {text}", flush=True)
        else:
            killed += 1
    (copy / name).write_text(source, encoding="utf-8")
    print(f"{name}: {killed} of {made} changes noticed", flush=True)


if __name__ == "__main__":
    main()
