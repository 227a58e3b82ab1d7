"""`longact power`: what a number of questions or seeds can show, before it is spent."""

from collections.abc import Callable
from typing import Annotated

import typer

from longact_cli.cli import options as opt

_MOST_QUESTIONS = 10_000_000
_MOST_SEEDS = 1000


@opt.guarded
def power(
    n: Annotated[str, typer.Option("--n", help="Questions, e.g. 503 for LongBench v2.")] = "503",
    p: Annotated[
        str, typer.Option("--p", help="Score of the weaker side, 0 to 1, e.g. 0.328.")
    ] = "0.328",
    delta: Annotated[
        str, typer.Option("--delta", help="Gain to be found, e.g. 0.0393 for 3.93 points.")
    ] = "0.0393",
    rho: Annotated[
        str | None,
        typer.Option(
            "--rho", help="Correlation of both sides' answers per question; default: several."
        ),
    ] = None,
    discordance: Annotated[
        str | None,
        typer.Option(
            "--discordance", help="Instead of --rho: share of questions only one side answers."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Training seeds per arm, for a claim on methods.")
    ] = None,
    seed_sd: Annotated[
        str, typer.Option("--seed-sd", help="Standard deviation of a score over seeds, 0 to 1.")
    ] = "0.01",
    alpha: Annotated[str, typer.Option("--alpha", help="Level of the two-sided test.")] = "0.05",
    aimed: Annotated[str, typer.Option("--power", help="Power that is asked for.")] = "0.8",
    check: Annotated[
        str | None,
        typer.Option("--check", help="A printed percentage: can it be a share of --n questions?"),
    ] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_color: opt.NoColor = False,
) -> int:
    """Print power, the number needed and the smallest difference found, paired and unpaired.

    Example: longact power --n 503 --p 0.328 --delta 0.0393
    """
    from longact_cli.console.power import show_power
    from longact_cli.reporting.planning import Question, plan_power
    from longact_cli.reporting.statistics.power import Aim

    output = opt.make_output(json=json, quiet=quiet, no_color=no_color)
    question = Question(
        n=_whole("--n", n, most=_MOST_QUESTIONS),
        p=_share("--p", p),
        delta=_number(
            "--delta", delta, "a number from -1 to 1, not 0", lambda x: -1 < x < 1 and x != 0
        ),
        rho=None
        if rho is None
        else _number("--rho", rho, "a number from -1 to 1", lambda x: abs(x) <= 1),
        discordance=None if discordance is None else _share("--discordance", discordance),
        seeds=None if seeds is None else _whole("--seeds", seeds, most=_MOST_SEEDS),
        seed_sd=_share("--seed-sd", seed_sd),
        aim=Aim(_share("--alpha", alpha), _share("--power", aimed)),
        printed=None if check is None else _percentage(check),
    )
    show_power(output, question, plan_power(question))
    return 0


def _share(option: str, text: str) -> float:
    return _number(option, text, "a number above 0 and below 1", lambda x: 0 < x < 1)


def _number(option: str, text: str, allowed: str, fits: Callable[[float], bool]) -> float:
    from longact_cli.errors import ConfigError

    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not fits(value):
        hint = f"; for {text} % write {value / 100:g}" if value > 1 and fits(value / 100) else ""
        raise ConfigError(f"{option} is '{text}'; it must be {allowed}{hint}")
    return value


def _whole(option: str, text: str, *, most: int) -> int:
    from longact_cli.errors import ConfigError

    if not text.isascii() or not text.isdecimal() or not 2 <= int(text) <= most:
        raise ConfigError(f"{option} is '{text}'; it must be a whole number from 2 to {most:,}")
    return int(text)


def _percentage(text: str) -> str:
    from re import fullmatch

    from longact_cli.errors import ConfigError

    if not fullmatch(r"\d{1,3}(\.\d{1,6})?", text) or float(text) > 100:
        raise ConfigError(
            f"--check is '{text}'; it must be a percentage from 0 to 100 as it is printed, "
            "without the sign, e.g. 36.73"
        )
    return text
