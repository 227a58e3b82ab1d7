"""`longact config`: look at settings before anything runs."""

from collections.abc import Iterator, Mapping
from json import dumps
from typing import Any

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

    output = opt.make_output(json=json, quiet=False, no_color=no_color)
    config = compose([*model_choices(model)[0], *opt.assignments([], overrides)])
    tree = config.model_dump(mode="json")
    output.data(tree)
    output.show("\n".join(_settings(tree)))


def _settings(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every setting as it may be given on the command line."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _settings(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else dumps(value, separators=(",", ":"))
            yield f"{prefix}{key} = {text}"


@app.command("ls")
@opt.guarded
def ls(json: opt.Json = False, no_color: opt.NoColor = False) -> None:
    """Print the choices of each configuration group."""
    from longact_cli.config.compose import groups, options

    output = opt.make_output(json=json, quiet=False, no_color=no_color)
    output.data({group: list(options(group)) for group in groups()})
    output.show("\n".join(f"{group}: {', '.join(options(group))}" for group in groups()))
