"""How long `longact report` takes on stores of 1,000 and 5,000 runs with 100,000 answers.

Run: python -m tests.bench.reporting. Each time is of a whole command, with the start of Python:
the first report, the same again, and the first one after ten more runs. Seconds of the clock, and
of the processor in brackets: on a busy machine these say more.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bulk_store import Bench, Trained, add_runs, write_store
from longact_cli.tracking.client import connect

_SPARSITIES = tuple(round(0.05 * step, 2) for step in range(1, 20))
_ANSWERS = 100_000
_MORE = 5
_SETTLED = 1.1
REPORTS = {"tables": ("--format", "md,tex,csv,json"), "tables, figures and page": ()}


def settings(n: int) -> list[Trained]:
    """`n` training settings: algorithms, masks and sparsities with five seeds each."""
    found = [
        Trained("qwen3-4b", algorithm, mask, sparsity, seed, 0.1)
        for algorithm in ("dapo", "grpo", "gspo", "clip-cov", "kl-cov", "cispo", "dr-grpo")
        for mask in ("salient", "random", "lowest", "gradient")
        for sparsity in _SPARSITIES
        for seed in range(5)
    ]
    return found[:n]


def seconds(runs_dir: Path, options: tuple[str, ...]) -> str:
    """Return the time of one report: of the clock, and of the processor in brackets."""
    command = [sys.executable, "-m", "longact_cli", "report", "--runs-dir", str(runs_dir), *options]
    time.sleep(_SETTLED)  # what was written less than a second ago is not kept
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    clock, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return f"{clock:.1f} s ({used:.1f})"


def measure(runs: int, template: Path, kind: str) -> None:
    """Print the times of the first, the second and a later report on one store."""
    pairs = runs // 2
    bench = (Bench("ruler", ("vt", "cwe"), (4096,), _ANSWERS // pairs // 2),)
    chosen = settings(pairs + _MORE)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, template, "big", chosen[:pairs], benches=bench)
        first, again = (seconds(root, REPORTS[kind]) for _ in range(2))
        add_runs(root, "big", chosen[pairs:], benches=bench)
        more = seconds(root, REPORTS[kind])
    print(
        f"{runs} runs, {_ANSWERS} answers, {kind}: first {first}, again {again}, "
        f"with {2 * _MORE} more runs {more}",
        flush=True,
    )


def main() -> None:
    """Measure both sizes."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "mlflow.db"
        connect(f"sqlite:///{template}").search_experiments()
        for runs in (1000, 5000):
            for kind in REPORTS:
                measure(runs, template, kind)


if __name__ == "__main__":
    main()
