"""Run every fault and print a table: `python -m tests.chaos [WORD...]` runs those named alike."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import faults
from tests.chaos.harness import Sweep, cut, micro, quick

Fault = tuple[str, str, Callable[[Path, faults.Tables], str]]


def _half_written(sweep: Sweep) -> None:
    """Lose DONE of the training, half of the answers, and the status of the base's cell."""
    sweep.cell("train").done.unlink()
    cut(sweep.cell("eval").samples)
    (sweep.cell("eval", trained=False).path / "status.json").write_text("")


def _cut_off(sweep: Sweep) -> None:
    """Cut off the trained weights and the results of their evaluation."""
    cut(sweep.cell("train").model / "model.safetensors")
    cut(sweep.cell("eval").results)


def _cut_metrics(sweep: Sweep) -> None:
    """Cut a line of the training's journal in two."""
    cut(sweep.cell("train").metrics)


def _all(whole: Sweep) -> list[Fault]:
    """Return (group, what happens, fault); the group says which tables are expected."""
    small = lambda folder: quick(folder, seeds=2, workers=2)  # noqa: E731
    return [
        ("micro", "kill -9 of the orchestrator during training", faults.orchestrator_killed),
        ("micro", "kill -9 of a cell during training", faults.training_killed),
        ("micro", "kill -9 of a cell during checkpoint write", faults.checkpoint_killed),
        ("micro", "kill -9 of a cell during evaluation", faults.evaluation_killed),
        ("quick", "kill -9 of the orchestrator at 16 random moments, 13 quick cells",
         faults.random_moments(small, 16, most=12.0)),
        ("micro", "kill -9 of the orchestrator at 4 random moments, micro training",
         faults.random_moments(micro, 4, most=40.0)),
        ("micro", "truncated checkpoint", faults.checkpoint_torn),
        ("micro", "missing DONE, truncated JSONL line (samples), empty status file",
         faults.torn(whole, _half_written,
                     ["run again: DONE is missing", "run again: samples.jsonl is damaged"])),
        ("micro", "truncated weights of a trained model, truncated results",
         faults.torn(whole, _cut_off, ["run again: model/model.safetensors is damaged",
                                       "run again: results.json is damaged"])),
        ("micro", "truncated JSONL line (metrics)",
         faults.torn(whole, _cut_metrics, ["run again: metrics.jsonl is damaged"])),
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
