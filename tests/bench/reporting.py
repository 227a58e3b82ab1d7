"""How long `longact report` takes on stores of 1,000 and 5,000 runs with 100,000 answers.

Run: python -m tests.bench.reporting [sqlite|server]. Each time is of a whole command, with the
start of Python: the first report, the same again, and the first one after ten more runs. Seconds of
the clock, and of the processor in brackets: on a busy machine these say more. `server` reads 5,000
runs from `mlflow server` on this machine, with the four workers it has by default, three times, and
the same database directly: the median with its range, and the ratio of each pair.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bulk_store import Bench, Trained, add_runs, serve_files, write_store
from longact_cli.tracking.client import connect
from mlflow_server import Server

_SPARSITIES = tuple(round(0.05 * step, 2) for step in range(1, 20))
_ANSWERS = 100_000
_MORE = 5
_SETTLED = 1.1
_REPEATS = 3
_WORKERS = 4
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


class Taken(NamedTuple):
    """Seconds that a report took: of the clock, and of the processor."""

    clock: float
    processor: float

    def __str__(self) -> str:
        """Return both."""
        return f"{self.clock:.1f} s ({self.processor:.1f})"


def seconds(runs_dir: Path, options: tuple[str, ...], uri: str | None = None) -> Taken:
    """Return the time of one report, which keeps what it has read in `runs_dir`."""
    command = [sys.executable, "-m", "longact_cli", "report", "--runs-dir", str(runs_dir), *options]
    command += ["--tracking-uri", uri] if uri else []
    time.sleep(_SETTLED)  # what was written less than a second ago is not kept
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    clock, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system
    return Taken(clock, used - before.children_user - before.children_system)


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


def measure_server(runs: int, template: Path, kind: str) -> None:
    """Print the times of reports from a server, beside those from its database."""
    pairs = runs // 2
    bench = (Bench("ruler", ("vt", "cwe"), (4096,), _ANSWERS // pairs // 2),)
    chosen = settings(pairs + _REPEATS * _MORE)
    taken: dict[str, list[tuple[Taken, Taken]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        store.mkdir()
        database = write_store(store, template, "big", chosen[:pairs], benches=bench)
        serve_files(store)
        server = Server(store, workers=_WORKERS)
        server.start()
        try:
            for turn in range(_REPEATS):
                places = [Path(folder) / f"{turn}-{where}" for where in ("server", "database")]
                for place in places:
                    place.mkdir()
                for what in ("first", "again", "more"):
                    if what == "more":
                        start = pairs + turn * _MORE
                        add_runs(store, "big", chosen[start : start + _MORE], benches=bench)
                        serve_files(store)
                    both = [
                        seconds(place, REPORTS[kind], uri)
                        for place, uri in zip(places, (server.uri, database), strict=True)
                    ]
                    taken.setdefault(what, []).append((both[0], both[1]))
        finally:
            server.kill()
    print(f"{runs} runs on a server, {_ANSWERS} answers, {kind}:")
    for what, found in taken.items():
        served, direct = ([pair[n].clock for pair in found] for n in range(2))
        ratios = [pair[0].clock / pair[1].clock for pair in found]
        print(
            f"  {what}: {_spread(served)} s, database {_spread(direct)} s, {_spread(ratios)} times"
        )
    print("", flush=True)


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def main() -> None:
    """Measure both sizes in sqlite, or the larger one on a server, or all."""
    wanted = sys.argv[1:] or ["sqlite", "server"]
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "mlflow.db"
        connect(f"sqlite:///{template}").search_experiments()
        for kind in REPORTS:
            for runs in (1000, 5000):
                if "sqlite" in wanted:
                    measure(runs, template, kind)
            if "server" in wanted:
                measure_server(5000, template, kind)


if __name__ == "__main__":
    main()
