"""`longact eval`: score a checkpoint on benchmarks."""

from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.config.schema import RunConfig


@opt.guarded
def evaluate(
    overrides: opt.Overrides = None,
    bench: Annotated[str, typer.Option("--bench", help="Benchmarks, a comma list.")] = "ruler",
    model: opt.Model = None,
    task: Annotated[str | None, typer.Option("--task", help="Tasks, a comma list.")] = None,
    length: Annotated[
        str | None, typer.Option("--length", help="Context lengths in tokens, a comma list.")
    ] = None,
    limit: Annotated[
        str | None, typer.Option("--limit", help="Questions per task and length.")
    ] = None,
    backend: Annotated[str | None, typer.Option("--backend", help="hf or vllm.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="official.")] = None,
    study: opt.Study = "default",
    runs_dir: opt.RunsDir = opt.DEFAULT_RUNS,
    tracking_uri: opt.Tracking = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    no_color: opt.NoColor = False,
) -> int:
    """Score a model on benchmarks and print each task's score with its 95 % interval.

    The same command continues an interrupted evaluation and does nothing for a finished one.

    Example: longact eval --bench ruler --model micro --length 256,512 --limit 50
    """
    from longact_cli.cli.running import Request, handle
    from longact_cli.controls import plan_eval
    from longact_cli.execution.revision import model_revision

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    settings = [
        ("benchmark", bench),
        ("benchmark.tasks", opt.list_setting(task)),
        ("benchmark.context_lengths", opt.list_setting(length)),
        ("benchmark.limit", limit),
        ("benchmark.backend", backend),
        ("benchmark.protocol", protocol),
    ]
    configs = _configs(model, settings, overrides)
    plan = plan_eval(opt.check_study(study), configs, revision=model_revision)
    code = handle(plan, Request(output, runs_dir, configs[0].executor, tracking_uri, dry_run))
    if code == 0 and not dry_run:
        from longact_cli.cli.scores import show_scores

        show_scores(output, plan, runs_dir)
    return code


def _configs(
    model: str | None, settings: list[tuple[str, str | None]], overrides: list[str] | None
) -> "list[RunConfig]":
    from longact_cli.config.sweep import expand

    given = opt.assignments(settings, overrides)
    return [config for choice in opt.model_choices(model) for config in expand([*choice, *given])]
