"""The faults. Each returns what was observed, or raises."""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.harness import (
    Sweep,
    checksums,
    cut,
    kill,
    kill_cell,
    micro,
    quick,
    times_run,
    tracked,
    wait_for,
)

Tables = dict[str, bytes]


def same(sweep: Sweep, expected: Tables) -> str:
    """Check that the tables of a sweep have the expected bytes."""
    found = sweep.tables()
    wrong = [name for name in expected if found.get(name) != expected[name]]
    if wrong or not expected:
        raise AssertionError(f"other table bytes: {wrong}")
    return f"same bytes in {len(expected)} table files"


def orchestrator_killed(folder: Path, expected: Tables) -> str:
    """kill -9 of the orchestrator while a cell trains."""
    sweep = micro(folder)
    process = sweep.start()
    wait_for(lambda: bool(list(sweep.runs.glob("cells/*/checkpoints/*/COMPLETE"))), process)
    kill(process)
    sweep.finish()
    return same(sweep, expected)


def _cell_killed(folder: Path, expected: Tables, ready: Callable[[Sweep], bool], stage: str) -> str:
    """Kill one cell when `ready`; the orchestrator must try it again by itself."""
    sweep = micro(folder)
    process = sweep.start()
    if not wait_for(lambda: ready(sweep), process):
        raise AssertionError("the sweep ended before the fault")
    kill_cell(sweep.cell(stage))
    printed, _ = process.communicate(timeout=900)
    if process.returncode != 0 or "trying again (1 of 1)" not in printed:
        raise AssertionError(printed[-2000:])
    return f"tried again by itself; {same(sweep, expected)}"


def training_killed(folder: Path, expected: Tables) -> str:
    """kill -9 of a cell while it trains, after its first checkpoint."""

    def ready(sweep: Sweep) -> bool:
        return bool(list(sweep.cell("train").path.glob("checkpoints/*/COMPLETE")))

    return _cell_killed(folder, expected, ready, "train")


def checkpoint_killed(folder: Path, expected: Tables) -> str:
    """kill -9 of a cell while it writes its second checkpoint."""

    def ready(sweep: Sweep) -> bool:
        second = sweep.cell("train").path / "checkpoints/checkpoint-4"
        return second.is_dir() and not (second / "COMPLETE").exists()

    return _cell_killed(folder, expected, ready, "train")


def evaluation_killed(folder: Path, expected: Tables) -> str:
    """kill -9 of a cell while it evaluates, with some answers in its journal."""

    def ready(sweep: Sweep) -> bool:
        samples = sweep.cell("eval").samples
        return samples.exists() and samples.stat().st_size > 0

    return _cell_killed(folder, expected, ready, "eval")


def random_moments(
    make: Callable[[Path], Sweep], number: int, *, most: float
) -> Callable[[Path, Tables], str]:
    """kill -9 of the orchestrator at a random moment, then the same command, again and again."""

    def fault(folder: Path, expected: Tables) -> str:
        rng = random.Random(number)
        struck = 0
        results: set[tuple[tuple[str, str], ...]] = set()
        for index in range(number):
            sweep = make(folder / str(index))
            process = sweep.start()
            # Counted from the first cell: starting up is the lesser part of a real sweep.
            wait_for(lambda sweep=sweep: sweep.runs.joinpath("cells").is_dir(), process)
            moment = time.monotonic() + rng.uniform(0.0, most)
            struck += wait_for(lambda moment=moment: time.monotonic() >= moment, process)
            kill(process)
            sweep.finish()
            results.add(checksums(sweep.runs))
            if set(tracked(sweep.runs).values()) != {1}:
                raise AssertionError(f"MLflow runs per cell: {tracked(sweep.runs)}")
        if len(results) > 1:
            raise AssertionError("other results")
        return f"{struck} of {number} struck; same checksums each time, {same(sweep, expected)}"

    return fault


def checkpoint_torn(folder: Path, expected: Tables) -> str:
    """Power cut: the newest checkpoint's weights are cut off."""
    sweep = micro(folder)
    process = sweep.start()
    newest = Path("checkpoints/checkpoint-4")
    wait_for(lambda: (sweep.cell("train").path / newest / "COMPLETE").exists(), process)
    kill(process)
    directory = sweep.cell("train")
    cut(directory.path / newest / "model.safetensors")
    sweep.finish()
    named = "checkpoint-4" in directory.stdout.read_text() + directory.stderr.read_text()
    return f"{'named in the log; ' if named else ''}{same(sweep, expected)}"


def torn(
    whole: Sweep, damage: Callable[[Sweep], None], messages: Sequence[str]
) -> Callable[[Path, Tables], str]:
    """Damage files of a finished sweep; what is damaged is said and done again."""

    def fault(folder: Path, expected: Tables) -> str:
        shutil.copytree(whole.folder, folder)
        sweep = micro(folder)
        damage(sweep)
        printed = sweep.finish()
        unsaid = [message for message in messages if message not in printed]
        if unsaid:
            raise AssertionError(f"{unsaid} was not said: {printed[-1000:]}")
        said = "; ".join(f"said '{message}'" for message in messages)
        return f"{said}; done again, {same(sweep, expected)}"

    return fault


def two_orchestrators(folder: Path, expected: Tables) -> str:
    """Two orchestrators on the same sweep at the same time."""
    sweep = quick(folder, seeds=2, workers=2)
    both = [sweep.start(), sweep.start()]
    for process in both:
        printed, _ = process.communicate(timeout=900)
        if process.returncode != 0:
            raise AssertionError(printed[-2000:])
    counts, records = times_run(sweep.runs), tracked(sweep.runs)
    if set(counts) != {1} or set(records.values()) != {1}:
        raise AssertionError(f"runs per cell {counts}, MLflow runs per cell {records}")
    return f"{len(counts)} cells, each run once and in MLflow once; {same(sweep, expected)}"


def many_writers(folder: Path, _expected: Tables) -> str:
    """Four workers and 43 quick cells."""
    sweep = quick(folder, seeds=7, workers=4)
    begun = time.monotonic()
    sweep.finish()
    counts, records = times_run(sweep.runs), tracked(sweep.runs)
    if set(counts) != {1} or len(records) != len(counts) or set(records.values()) != {1}:
        raise AssertionError(f"runs per cell {counts}, MLflow runs per cell {records}")
    seconds = time.monotonic() - begun
    return f"{len(counts)} cells, each recorded once in sqlite, {seconds:.0f} s"
