"""How long a report takes on stores of 1,000 and 5,000 runs with 100,000 answers.

Run: python -m tests.bench.reporting. Times are of `write_report` in a process that has already
imported everything; the command adds its start-up. "First" reads the store, "again" may use caches.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bulk_store import Bench, Trained, write_store
from longact_cli.reporting.report import ReportRequest, write_report
from longact_cli.tracking.client import connect

_SPARSITIES = tuple(round(0.05 * step, 2) for step in range(1, 20))


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


def measure(runs: int, answers: int, template: Path, *, tables: tuple[str, ...]) -> None:
    """Print the seconds of the first and the second report."""
    pairs = runs // 2
    bench = Bench("ruler", ("vt", "cwe"), (4096,), answers // pairs // 2)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        uri = write_store(root, template, "big", settings(pairs), benches=(bench,))
        request = ReportRequest(tables, ("md", "tex", "csv", "json"), "bench")
        seconds = []
        for name in ("a", "b"):
            start = time.perf_counter()
            write_report(uri, ("big",), request, out=root / name)
            seconds.append(time.perf_counter() - start)
    print(
        f"{runs} runs, {answers} answers, {', '.join(tables)}: first {seconds[0]:.2f} s, "
        f"again {seconds[1]:.2f} s"
    )


def main() -> None:
    """Measure both sizes."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "mlflow.db"
        connect(f"sqlite:///{template}").search_experiments()
        for runs in (1000, 5000):
            measure(runs, 100_000, template, tables=("sparsity",))


if __name__ == "__main__":
    main()
