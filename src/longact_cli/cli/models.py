"""`longact models`: rebuild the embedded micro model."""

from pathlib import Path
from typing import Annotated

import typer

from longact_cli.cli import options as opt

app = typer.Typer(name="models", help="Rebuild the embedded micro model.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Rebuild the embedded micro model."""


@app.command("build")
@opt.guarded
def build(
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint; must not exist.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of data and weights.", min=0)] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Optimizer steps; default as shipped.", min=1)
    ] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> None:
    """Make the micro model from nothing: tokenizer, pretraining, supervised fine-tuning.

    Example: longact models build --out my-micro
    """
    from longact_cli.console.progress import step_progress
    from longact_cli.errors import ConfigError
    from longact_cli.training.micro.build import DEFAULT_STEPS, build_micro

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color)
    if out.exists():
        raise ConfigError(f"--out is {out}; it exists already: give a new folder")
    with step_progress(output, "building the micro model") as progress:
        build_micro(
            out,
            seed=seed,
            steps=steps or DEFAULT_STEPS,
            progress=lambda done, total, _loss: progress(done, total),
        )
    output.show(str(out))
    output.data({"event": "checkpoint", "path": str(out)})
