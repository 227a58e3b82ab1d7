"""`longact doctor`: what this machine has and what is missing."""

from longact_cli.cli import options as opt


@opt.guarded
def doctor(
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Check packages, accelerators, executors and the runs folder; exit 4 if a need is unmet."""
    from longact_cli.execution.diagnosis import diagnose

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    checks = diagnose(runs_dir)
    for check in checks:
        output.data(check._asdict())
        mark = {"ok": "ok     ", "optional": "absent ", "missing": "MISSING"}[check.state]
        output.show(f"{mark}  {check.name}: {check.detail}")
    return 4 if any(check.state == "missing" for check in checks) else 0
