"""Options that several commands share, and how they become settings."""

import errno
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from longact_cli.errors import ConfigError, LongActError, PrerequisiteError

if TYPE_CHECKING:
    from longact_cli.config.compose import Assignment
    from longact_cli.console.output import Output

P = ParamSpec("P")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Any setting, e.g. mask.refresh_every=4. `longact config show` lists them.",
        show_default=False,
    ),
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of all cells and tracking.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for scripts.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Also show where cells lie and what failed ones printed."),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR=1).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost, run nothing.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="micro, qwen3-4b, qwen3-8b, a local folder or a hub id."),
]
Algo = Annotated[
    str | None,
    typer.Option("--algo", help="dapo, grpo, clip-cov, kl-cov, gspo, dr-grpo, cispo, sft."),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask", help="salient, random, lowest, gradient, weight, wanda, dense, frozen..."
    ),
]
Sparsity = Annotated[
    str | None,
    typer.Option("--sparsity", help="Fraction of query/key rows that ARE updated, e.g. 0.3."),
]
Steps = Annotated[str | None, typer.Option("--steps", help="Optimizer steps.")]
Study = Annotated[str, typer.Option("--study", help="Name of the study; the experiment in MLflow.")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow store; default sqlite in the runs folder.",
        show_default=False,
    ),
]
Workers = Annotated[str | None, typer.Option("--workers", help="Cells run side by side.")]

_PATH_ERRORS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.EIO),
)
DEFAULT_RUNS = Path("runs")
_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def guarded(command: Callable[P, int | None]) -> Callable[P, None]:
    """Turn a user error into one line and its exit code; a bug keeps its traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except LongActError as error:
            _output_of(kwargs).error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except OSError as error:
            known = _full_disk(error, kwargs) or _bad_path(error)
            if known is None:
                raise
            _output_of(kwargs).error(known)
            raise typer.Exit(known.exit_code) from None
        if code:
            raise typer.Exit(code)

    return run


def _full_disk(error: OSError, options: dict[str, Any]) -> LongActError | None:
    """Return the error for the user where the disk of the runs folder is full."""
    from longact_cli.execution.disk import disk_full_message, is_disk_full

    folder = Path(options.get("runs_dir") or DEFAULT_RUNS)
    return LongActError(disk_full_message(folder)) if is_disk_full(error, folder) else None


def _bad_path(error: OSError) -> LongActError | None:
    """Return the error for the user where a path cannot be used; a missing file may be a bug."""
    if error.errno not in _PATH_ERRORS or error.filename is None:
        return None
    why = (error.strerror or "error").lower()
    return PrerequisiteError(f"{error.filename} cannot be used ({why}): give another path")


def _output_of(options: dict[str, Any]) -> "Output":
    return make_output(
        json=bool(options.get("json")),
        quiet=bool(options.get("quiet")),
        no_color=bool(options.get("no_color")),
        verbose=bool(options.get("verbose")),
    )


def make_output(*, json: bool, quiet: bool, no_color: bool, verbose: bool = False) -> "Output":
    """Return where a command prints."""
    from longact_cli.console.output import Output

    return Output(json=json, quiet=quiet, color=not no_color, verbose=verbose)


def check_study(name: str) -> str:
    """Return the study's name if it can be used in paths and in MLflow.

    Raises:
        ConfigError: It cannot.
    """
    if not _STUDY.fullmatch(name):
        raise ConfigError(
            f"--study is '{name}'; it must be 1 to 64 letters, digits, dots, dashes or "
            "underscores and start with a letter or digit"
        )
    return name


def assignments(
    settings: Sequence[tuple[str, str | None]], overrides: Sequence[str] | None
) -> list["Assignment"]:
    """Return the settings that were given, then the trailing overrides, which win.

    Args:
        settings: Pairs of configuration key and option text, None where the option is absent.
        overrides: Trailing `key=value` arguments.

    Raises:
        ConfigError: Any of them is malformed or unknown; all are listed.
    """
    from longact_cli.config.compose import parse

    given = [f"{key}={text}" for key, text in settings if text is not None]
    for key, text in settings:
        if text is not None and not text.strip(", "):
            raise ConfigError(f"the sweep is empty: {key} has no value; give at least one")
    return list(parse([*given, *(overrides or [])]))


def list_setting(text: str | None) -> str | None:
    """Write a comma list as one list value, e.g. `256,512` as `[256,512]`."""
    return None if text is None else f"[{text}]"


def command_line(arguments: Sequence[str]) -> str:
    """Return the command as the user can repeat it, without the machine's path and secrets."""
    from longact_cli.redaction import redact

    return redact(join(["longact", *arguments[1:]]))
