"""Run every fault and print a table: `python -m tests.chaos [WORD...]` runs those named alike."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import faults
from tests.chaos.harness import Sweep, cut, micro, quick

Fault = tuple[str, str, Callable[..., str]]


def _drop_done(sweep: Sweep) -> Path:
    directory = sweep.cell("train")
    directory.done.unlink()
    return directory.path


def _empty_status(sweep: Sweep) -> Path:
    directory = sweep.cell("eval")
    (directory.path / "status.json").write_text("")
    return directory.path


def _torn_line(sweep: Sweep) -> Path:
    directory = sweep.cell("eval")
    cut(directory.samples)
    return directory.path


def _torn_metrics(sweep: Sweep) -> Path:
    directory = sweep.cell("train")
    cut(directory.metrics)
    return directory.path


def _torn_results(sweep: Sweep) -> Path:
    directory = sweep.cell("eval")
    cut(directory.results)
    return directory.path


def _torn_weights(sweep: Sweep) -> Path:
    directory = sweep.cell("train")
    cut(directory.model / "model.safetensors")
    return directory.path


def _all(whole: Sweep) -> list[Fault]:
    """Return (group, what happens, fault); the group says which tables are expected."""
    small = lambda folder: quick(folder, seeds=2, workers=2)  # noqa: E731
    return [
        ("micro", "kill -9 of the orchestrator during training", faults.orchestrator_killed),
        ("micro", "kill -9 of a cell during training", faults.training_killed),
        ("micro", "kill -9 of a cell during checkpoint write", faults.checkpoint_killed),
        ("micro", "kill -9 of a cell during evaluation", faults.evaluation_killed),
        ("quick", "kill -9 of the orchestrator at 16 random moments, 13 quick cells",
         faults.random_moments(small, 16, most=9.0)),
        ("micro", "kill -9 of the orchestrator at 4 random moments, micro training",
         faults.random_moments(micro, 4, most=40.0)),
        ("micro", "truncated checkpoint", faults.checkpoint_torn),
        ("micro", "truncated JSONL line (samples)",
         faults.torn(whole, _torn_line, "run again: samples.jsonl is damaged")),
        ("micro", "truncated JSONL line (metrics)",
         faults.torn(whole, _torn_metrics, "run again: metrics.jsonl is damaged")),
        ("micro", "truncated results",
         faults.torn(whole, _torn_results, "run again: results.json is damaged")),
        ("micro", "truncated weights of a trained model",
         faults.torn(whole, _torn_weights, "run again: model/model.safetensors is damaged")),
        ("micro", "empty status file", faults.torn(whole, _empty_status, "")),
        ("micro", "missing DONE", faults.torn(whole, _drop_done, "run again: DONE is missing")),
        ("quick", "two orchestrators on one sweep", faults.two_orchestrators),
        ("none", "4 workers, 43 quick cells", faults.many_writers),
    ]  # fmt: skip


def main(words: list[str]) -> int:
    """Run the faults whose name holds one of `words`, all without; return 1 if one was fatal."""
    root = Path(tempfile.mkdtemp(prefix="longact-chaos-"))
    whole = micro(root / "whole-micro")
    chosen = [f for f in _all(whole) if not words or any(word in f[1] for word in words)]
    wholes = {"micro": whole, "quick": quick(root / "whole-quick", seeds=2, workers=2)}
    expected: dict[str, dict[str, bytes]] = {"none": {}}
    for group in {group for group, _, _ in chosen} - {"none"}:
        wholes[group].finish()
        expected[group] = wholes[group].tables()
    sys.stdout.write("| fault | outcome | seconds |\n| --- | --- | --- |\n")
    survived = True
    for number, (group, name, fault) in enumerate(chosen):
        begun = time.monotonic()
        try:
            outcome = fault(root / str(number), expected[group])
        except (AssertionError, RuntimeError, TimeoutError, LookupError) as error:
            outcome, survived = f"FAILED: {' '.join(str(error).split())}", False
        sys.stdout.write(f"| {name} | {outcome} | {time.monotonic() - begun:.0f} |\n")
        sys.stdout.flush()
    if survived:
        shutil.rmtree(root)
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
