"""What `train`, `ablate` and `eval` do once they have a plan: check, show, run, track."""

import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import join
from sys import argv
from typing import TYPE_CHECKING

from longact_cli.cli.options import command_line
from longact_cli.console.output import Output
from longact_cli.console.plans import Failure, cost_line, show_outcome, show_plan
from longact_cli.console.progress import PlanProgress
from longact_cli.execution.runner import Outcome, RunOptions

if TYPE_CHECKING:
    from longact_cli.config.schema import ExecutorConfig
    from longact_cli.plan import Plan

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
_TAIL_LINES = 15


@dataclass(frozen=True)
class Request:
    """How a plan is to be handled."""

    output: Output
    runs_dir: Path
    executor: "ExecutorConfig"
    tracking_uri: str | None = None
    dry_run: bool = False
    run: RunOptions = field(default_factory=RunOptions)


def handle(plan: "Plan", request: Request) -> int:
    """Show the plan, or run it and say how it ended; return the exit code."""
    from longact_cli.execution.choose import check_available
    from longact_cli.execution.estimate import estimate, memory_lines
    from longact_cli.execution.preflight import check_plan, check_runs_dir
    from longact_cli.execution.resources import check_machines, check_shares
    from longact_cli.lease import lease_seconds
    from longact_cli.tracking import tracking_uri

    lease_seconds()
    check_runs_dir(request.runs_dir)
    configured = plan.cells[0].config.tracking.uri
    uri = tracking_uri(request.tracking_uri, request.runs_dir, configured=configured)
    check_plan(plan, runs=not request.dry_run)
    cost = estimate(plan, request.runs_dir, workers=request.executor.workers)
    if request.executor.name != "local":
        check_available(request.executor.name)
        check_shares(plan, request.executor)
    if request.dry_run:
        show_plan(request.output, plan, cost, memory_lines(plan))
        return 0
    if request.executor.name == "local":
        check_machines(plan)
    request.output.note(f"study {plan.study}: {cost_line(cost)}")
    outcome = _run(plan, request, uri)
    failures = _failures(plan, request.runs_dir)
    show_outcome(request.output, plan, outcome, failures, retries=request.run.retry_failed)
    if outcome.left:
        stop = ["longact", "cancel", "--study", plan.study, "--runs-dir", str(request.runs_dir)]
        request.output.note(
            f"{outcome.left} cells go on under {request.executor.name}; the same command attaches "
            f"to them again, `{join(stop)}` stops them"
        )
    if outcome.interrupted:
        return EXIT_INTERRUPTED
    return 0 if outcome.ok else EXIT_FAILED


def _run(plan: "Plan", request: Request, uri: str) -> Outcome:
    from longact_cli.execution.choose import make_executor
    from longact_cli.execution.runner import Runner
    from longact_cli.tracking.listener import PlanTracker

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    executor = make_executor(request.executor, request.runs_dir)
    request.runs_dir.mkdir(parents=True, exist_ok=True)
    follow = PlanProgress(request.output, plan, request.runs_dir, slots=executor.slots)
    tracker = PlanTracker(uri, request.runs_dir, warn=follow.warn)
    tracker.start(plan, command_line(argv))
    options = replace(request.run, retries=request.executor.retries)
    with follow:
        runner = Runner(
            plan, request.runs_dir, executor, listeners=(follow, tracker), options=options
        )
        outcome = runner.run()
    tracker.finish(ok=outcome.ok, interrupted=outcome.interrupted)
    return outcome


def _failures(plan: "Plan", runs_dir: Path) -> dict[str, Failure]:
    from longact_cli.cells import cell_dir, read_status

    found: dict[str, Failure] = {}
    for cell in plan.cells:
        directory = cell_dir(runs_dir, cell.digest)
        error = read_status(directory).error
        if error:
            found[cell.digest] = Failure(error, _tail(directory.stderr))
    return found


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
