"""`longact eval`: score a checkpoint on benchmarks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longact_cli.cli import options as opt

if TYPE_CHECKING:
    from longact_cli.config.compose import Assignment
    from longact_cli.config.schema import RunConfig
    from longact_cli.console.output import Output
    from longact_cli.plan import Plan


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
    backend: Annotated[str | None, typer.Option("--backend", help="hf, vllm or openai.")] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Server of --backend openai, with its /v1.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="official, or lm-eval for its own tasks.")
    ] = None,
    yarn: Annotated[
        str | None, typer.Option("--yarn", help="Extend the window by YaRN, e.g. 4 for Qwen3.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="Variant of the protocol, e.g. no-prefix, cot.")
    ] = None,
    scorer: Annotated[str | None, typer.Option("--scorer", help="Version of the scorer.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder with the benchmarks' files.")
    ] = None,
    rescore: Annotated[
        Path | None,
        typer.Option("--rescore", help="Score the predictions in this JSONL file; no model."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --rescore: write rows with their scores.")
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
    """Score a model on benchmarks and print each task's score with its 95 % interval.

    The same command continues an interrupted evaluation and does nothing for a finished one.

    Example: longact eval --bench ruler --model micro --length 256,512 --limit 50
    """
    output = opt.make_output(json=json, quiet=quiet, no_color=no_color, verbose=verbose)
    if rescore is not None:
        from longact_cli.cli.rescoring import rescore_file

        return rescore_file(output, bench, rescore, scorer=scorer, out=out)
    settings = [
        ("benchmark.tasks", opt.list_setting(task)),
        ("benchmark.context_lengths", opt.list_setting(length)),
        ("benchmark.limit", limit),
        ("benchmark.backend", backend),
        ("benchmark.protocol", protocol),
        ("benchmark.mode", mode),
        ("benchmark.scorer", scorer),
        ("benchmark.yarn_factor", yarn),
    ]
    texts = {
        "benchmark.base_url": base_url,
        "benchmark.data_dir": str(data_dir.resolve()) if data_dir else None,
    }
    from longact_cli.cli.running import Request, handle
    from longact_cli.controls import plan_eval
    from longact_cli.execution.revision import revision, with_data_hash
    from longact_cli.execution.runner import RunOptions

    given = [*_exact(texts), *opt.assignments(settings, overrides)]
    configs = [
        with_data_hash(config)
        for name in bench.split(",")
        for config in _configs(name, model, given)
    ]
    plan = plan_eval(opt.check_study(study), configs, revision=revision)
    _note_damage(output, plan, runs_dir)
    code = handle(
        plan,
        Request(
            output,
            runs_dir,
            configs[0].executor,
            tracking_uri,
            dry_run,
            RunOptions(retry_failed=True),
        ),
    )
    if code == 0 and dry_run:
        _show_work(output, configs, runs_dir)
    elif code == 0:
        from longact_cli.cli.scores import show_scores

        show_scores(output, plan, runs_dir)
    return code


def _note_damage(output: "Output", plan: "Plan", runs_dir: Path) -> None:
    """Say which stored answers cannot be read: only these are asked for again."""
    from longact_cli.cells import cell_dir
    from longact_cli.evaluation.journal import damaged_lines

    for cell in plan.cells:
        path = cell_dir(runs_dir, cell.digest).samples
        for number in damaged_lines(path):
            output.note(f"{path}, line {number} is damaged: only that answer is asked for again")


def _exact(texts: dict[str, str | None]) -> "list[Assignment]":
    """Set these keys to texts as they are: a path or an address may hold any character."""
    from longact_cli.config.compose import Assignment

    return [Assignment(key, (text,), (text,)) for key, text in texts.items() if text is not None]


def _configs(bench: str, model: str | None, given: "list[Assignment]") -> "list[RunConfig]":
    """Return the configurations of one benchmark, one for each model."""
    from longact_cli.config.sweep import expand, model_choices

    chosen = opt.assignments([("benchmark", bench)], None)
    choices = model_choices(model)
    return [config for choice in choices for config in expand([*choice, *chosen, *given])]


def _show_work(output: "Output", configs: "list[RunConfig]", runs_dir: Path) -> None:
    """Print what each evaluation will send through the model, and how long that takes."""
    from longact_cli.console.workload import show_duration, show_workload
    from longact_cli.evaluation.duration import estimate_duration
    from longact_cli.evaluation.workload import measure_workload

    for config in configs:
        loads, exact = measure_workload(config.benchmark, model=config.model)
        title = f"{config.benchmark.name} on {config.model.name}"
        show_workload(output, title, loads, exact=exact)
        found = estimate_duration(
            loads, model=config.model, benchmark=config.benchmark, runs_dir=runs_dir
        )
        show_duration(output, found)
