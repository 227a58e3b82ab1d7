"""Write docs/exactness.md from a run of the tests it cites: `python tests/exactness.py`."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/unit/masking/test_layouts.py",
    "tests/unit/masking/test_strict.py",
    "tests/integration/test_mask_distributed.py",
)
HEAD = """# Exactness

Written by `python tests/exactness.py` from a run of the tests it names. A cell says how many tests
passed of those that were run; `-` means that no test covers it.

"""


class Outcomes:
    """Collects the outcome of every test by its parametrisation."""

    def __init__(self) -> None:
        self.passed: dict[tuple[str, str], bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome of a test's body, and failures of its fixtures."""
        if report.when == "call" or report.failed:
            name = report.nodeid.split("::")[-1]
            test, _, case = name.partition("[")
            self.passed[test, case.rstrip("]")] = report.passed

    def cell(self, test_part: str, *case_parts: str) -> str:
        """Return `passed/run` over the tests with these words in name and case."""
        found = [
            passed
            for (test, case), passed in self.passed.items()
            if test_part in test and all(part in f"-{case}-" for part in case_parts)
        ]
        return f"{sum(found)}/{len(found)}" if found else "-"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [list(row) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def document(outcomes: Outcomes) -> str:
    """Return the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    from integration.test_mask_distributed import RUNS
    from unit.masking.tiny_models import LAYOUTS

    ranked = ("salient", "random-head-matched", "gradient", "weight", "wanda")
    layouts = [
        [
            layout,
            outcomes.cell("masked_rows_get_zero", f"-{layout}-"),
            *(outcomes.cell("strict_training", f"-{s}-{layout}-") for s in ranked),
        ]
        for layout in LAYOUTS
    ]
    backends = {"single": "one process", "ddp": "DDP, 2 processes", "fsdp2": "FSDP2, 2 processes"}
    parallel = [
        [label, *(outcomes.cell("", f"-{strategy}-{backend}-") for strategy in RUNS)]
        for backend, label in backends.items()
    ]
    kernels = [
        [
            kernel,
            outcomes.cell("fifty_steps", f"-{kernel}-"),
            outcomes.cell("active_rows_are_bitwise", f"-{kernel}-"),
        ]
        for kernel in ("loop", "foreach", "fused")
    ]
    return "\n".join(
        [
            HEAD + "## Layout\n",
            "Masked rows get a gradient of exactly zero, all else bitwise the dense gradient;",
            "strict: three AdamW steps with decay leave masked rows bitwise alone.\n",
            table(["layout", "gradient", *(f"strict, {s}" for s in ranked)], layouts),
            "## Parallelism\n",
            "Through the Hugging Face Trainer, with gradient accumulation and checkpointing:",
            "masks equal on all processes and those of one process, gradients of one process",
            "(1e-4 of the largest entry), zero in masked rows, drift as promised. gloo on CPU.\n",
            table(["backend", *(f"{s} ({how})" for s, how in RUNS.items())], parallel),
            "## Optimizer kernel (AdamW, decay 0.1)\n",
            table(
                ["kernel", "50 steps: masked rows move by exactly 0", "active rows bitwise AdamW"],
                kernels,
            ),
            "DeepSpeed, Megatron and FSDP version 1 are refused",
            "(tests/unit/masking/test_processes.py).\n",
        ]
    )


if __name__ == "__main__":
    collected = Outcomes()
    code = pytest.main([*(str(ROOT / test) for test in TESTS)], plugins=[collected])
    (ROOT / "docs" / "exactness.md").write_text(document(collected), "utf-8")
    raise SystemExit(code)
