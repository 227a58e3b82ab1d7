"""`longact train`: train one configuration."""

from typing import Annotated

import typer

from longact_cli.cli import options as opt


@opt.guarded
def train(
    overrides: opt.Overrides = None,
    model: opt.Model = None,
    algo: opt.Algo = None,
    mask: opt.Mask = None,
    sparsity: opt.Sparsity = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Seed of the run.")] = None,
    steps: opt.Steps = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Digest of an interrupted cell to continue.")
    ] = None,
    study: opt.Study = "default",
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Train one model with the row mask and keep a plain Hugging Face checkpoint.

    The same command continues an interrupted run and does nothing for a finished one.

    Example: longact train --algo dapo --mask salient --sparsity 0.3 mask.refresh_every=4
    """
    from longact_cli.cells import cell_dir
    from longact_cli.cli.running import Request, handle
    from longact_cli.config.compose import compose
    from longact_cli.config.sweep import model_choices
    from longact_cli.controls import plan_train
    from longact_cli.errors import ConfigError
    from longact_cli.execution.resume import check_same
    from longact_cli.execution.revision import revision
    from longact_cli.execution.runner import RunOptions

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    settings = [
        ("algorithm", algo),
        ("mask", mask),
        ("mask.sparsity", sparsity),
        ("seed", seed),
        ("algorithm.steps", steps),
    ]
    choices = model_choices(model)
    if len(choices) > 1:
        raise ConfigError(f"--model is '{model}'; train takes one: use `longact ablate` to sweep")
    config = compose([*choices[0], *opt.assignments(settings, overrides)])
    plan = plan_train(opt.check_study(study), config, revision=revision)
    if resume is not None:
        check_same(plan.cells[0], runs_dir, resume)
    executor = config.executor.model_copy(update={"workers": 1})
    code = handle(
        plan,
        Request(output, runs_dir, executor, tracking_uri, dry_run, RunOptions(retry_failed=True)),
    )
    if code == 0 and not dry_run:
        path = cell_dir(runs_dir, plan.cells[0].digest).model
        output.show(str(path))
        output.data({"event": "checkpoint", "path": str(path)})
    return code
