"""`longact ablate`: sweep settings, with the controls that a claim needs."""

from collections.abc import Sequence
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.config.schema import ExecutorConfig, RunConfig


@opt.guarded
def ablate(
    overrides: opt.Overrides = None,
    sparsity: opt.Sparsity = None,
    algo: opt.Algo = None,
    mask: opt.Mask = None,
    model: opt.Model = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="How many seeds (3) or which (0,7,42).")
    ] = None,
    steps: opt.Steps = None,
    bench: Annotated[str | None, typer.Option("--bench", help="Benchmarks to score on.")] = None,
    experiment: Annotated[
        Path | None, typer.Option("--experiment", help="A study file from experiments/.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Random and dense control cells.")
    ] = True,
    executor: Annotated[
        str | None, typer.Option("--executor", help="Where cells run: local, slurm, ray.")
    ] = None,
    workers: opt.Workers = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Name of the study; the experiment in MLflow.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run cells again that failed before.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Start nothing new after a failure.")
    ] = False,
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Train and score every combination of the given values. Options take comma lists.

    Each masked cell brings its random control at the same sparsity and the dense update; the
    untrained model is scored once. The same command continues an interrupted sweep.

    Example: longact ablate --sparsity 0.1,0.3,0.5 --mask salient,lowest --seeds 3
    """
    from longact_cli.cli.running import Request, handle
    from longact_cli.config.experiment import Experiment, load_experiment
    from longact_cli.controls import plan_sweep
    from longact_cli.execution.revision import revision, with_data_hash
    from longact_cli.execution.runner import RunOptions
    from longact_cli.redaction import redact

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    known = load_experiment(experiment) if experiment else Experiment()
    settings = [
        ("algorithm", algo),
        ("mask", mask),
        ("benchmark", bench),
        ("executor", executor),
        ("mask.sparsity", sparsity),
        ("seed", seed_list(seeds)),
        ("algorithm.steps", steps),
        ("executor.workers", workers),
    ]
    given = [*known.overrides, *(overrides or [])]
    configs = [with_data_hash(one) for one in _configs(model or known.model, settings, given)]
    plan = plan_sweep(
        opt.check_study(study or known.study or "default"),
        configs,
        revision=revision,
        controls=controls and known.controls,
    )
    request = Request(
        output,
        runs_dir,
        one_executor(configs),
        tracking_uri,
        dry_run,
        RunOptions(retry_failed=retry_failed, fail_fast=fail_fast),
    )
    code = handle(plan, request)
    if code == 0 and not dry_run:
        uri = tracking_uri or configs[0].tracking.uri
        tracked = ["--tracking-uri", redact(uri)] if uri else []
        words = ["--experiment", plan.study, "--runs-dir", str(runs_dir), *tracked]
        output.note(f"next: {join(['longact', 'report', *words])}")
    return code


def _configs(
    model: str | None, settings: list[tuple[str, str | None]], overrides: list[str]
) -> "list[RunConfig]":
    from longact_cli.config.sweep import expand, model_choices

    given = opt.assignments(settings, overrides)
    return [config for choice in model_choices(model) for config in expand([*choice, *given])]


def one_executor(configs: "Sequence[RunConfig]") -> "ExecutorConfig":
    """Return the executor of a sweep; the resources of its cells may differ, the rest may not.

    Raises:
        ConfigError: The configurations name several, or several places to track runs.
    """
    from longact_cli.errors import ConfigError

    first = configs[0].executor
    for key in ("name", "workers", "retries", "address"):
        values = list(dict.fromkeys(str(getattr(c.executor, key)) for c in configs))
        if len(values) > 1:
            raise ConfigError(f"executor.{key} is {','.join(values)}; a sweep has one: give one")
    addresses = list(dict.fromkeys(str(config.tracking.uri) for config in configs))
    if len(addresses) > 1:
        raise ConfigError(f"tracking.uri is {','.join(addresses)}; a sweep has one: give one")
    return first


def seed_list(text: str | None) -> str | None:
    """Read `3` as the seeds 0,1,2 and `0,7` as those two.

    Raises:
        ConfigError: The text is neither a count nor a list of whole numbers.
    """
    from longact_cli.errors import ConfigError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds is '{text}'; give a count such as 3, or a list such as 0,7,42")
    if len(parts) > 1:
        return ",".join(parts)
    if int(parts[0]) == 0:
        raise ConfigError("the sweep is empty: --seeds is 0; give a count of at least 1")
    return ",".join(map(str, range(int(parts[0]))))
