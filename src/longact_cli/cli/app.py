"""The `longact` command. Imports nothing heavy: help is instant."""

import sys
from typing import Any, cast

import typer

from longact_cli.cli.ablate import ablate
from longact_cli.cli.analyze import analyze
from longact_cli.cli.cancel import cancel
from longact_cli.cli.cell import run_one, run_rank
from longact_cli.cli.config import app as config_app
from longact_cli.cli.diff import diff
from longact_cli.cli.doctor import doctor
from longact_cli.cli.eval import evaluate
from longact_cli.cli.logs import logs
from longact_cli.cli.mask import app as mask_app
from longact_cli.cli.models import app as models_app
from longact_cli.cli.power import power
from longact_cli.cli.report import report
from longact_cli.cli.status import status
from longact_cli.cli.sync import sync
from longact_cli.cli.train import train
from longact_cli.errors import ConfigError

app = typer.Typer(
    name="longact",
    help="RL on long contexts with saliency-masked query/key gradients (LongAct), with controls.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("ablate")(ablate)
app.command("eval")(evaluate)
app.command("report")(report)
app.command("power")(power)
app.command("analyze")(analyze)
app.command("status")(status)
app.command("logs")(logs)
app.command("diff")(diff)
app.command("sync")(sync)
app.command("cancel")(cancel)
app.command("doctor")(doctor)
app.add_typer(config_app)
app.add_typer(models_app)
app.add_typer(mask_app)
app.command("_cell", hidden=True)(run_one)
app.command("_rank", hidden=True)(run_rank)


def _version(wanted: bool) -> None:
    if wanted:
        from longact_cli import __version__

        typer.echo(f"longact {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """RL on long contexts with saliency-masked query/key gradients (LongAct), with controls."""


# The base of all complaints about arguments; Typer exports only this one of its kinds.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])


def main() -> None:
    """Run the command line; wrong arguments are one line, too, or one object with --json."""
    try:
        code = app(standalone_mode=False)
    except _UsageError as error:
        code = _refuse(error)
    raise SystemExit(code)


def _refuse(error: Any) -> int:
    from longact_cli.cli.options import make_output

    text = " ".join(error.format_message().split())
    if text:
        # Without a text nothing was asked for, and the help has been printed.
        asked = sys.argv[1:]
        output = make_output(json="--json" in asked, quiet=False, no_color="--no-color" in asked)
        command = error.ctx.command_path if error.ctx else "longact COMMAND"
        output.error(ConfigError(f"{text} See `{command} --help`"))
    return int(error.exit_code)
