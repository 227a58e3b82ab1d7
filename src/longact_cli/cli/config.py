"""`longact config`: look at settings before anything runs."""

import typer

from longact_cli.cli import options as opt

app = typer.Typer(name="config", help="Show settings and the choices of each group.")


@app.command("show")
@opt.guarded
def show(
    overrides: opt.Overrides = None,
    model: opt.Model = None,
    json: opt.Json = False,
    no_color: opt.NoColor = False,
) -> None:
    """Print the composed configuration, one `key = value` per line.

    Example: longact config show --model micro algorithm=grpo
    """
    from longact_cli.config.compose import compose
    from longact_cli.config.sweep import model_choices
    from longact_cli.plan import flat_config

    output = opt.make_output(json=json, quiet=False, no_color=no_color)
    config = compose([*model_choices(model)[0], *opt.assignments([], overrides)])
    output.data(config.model_dump(mode="json"))
    output.show("\n".join(f"{key} = {value}" for key, value in flat_config(config).items()))


@app.command("ls")
@opt.guarded
def ls(json: opt.Json = False, no_color: opt.NoColor = False) -> None:
    """Print the choices of each configuration group."""
    from longact_cli.config.compose import groups, options

    output = opt.make_output(json=json, quiet=False, no_color=no_color)
    output.data({group: list(options(group)) for group in groups()})
    output.show("\n".join(f"{group}: {', '.join(options(group))}" for group in groups()))
