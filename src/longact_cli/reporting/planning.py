"""What a number of questions or seeds can show: the rows of `longact power`."""

from typing import NamedTuple

from longact_cli.errors import ConfigError
from longact_cli.reporting.statistics.granularity import check_granularity
from longact_cli.reporting.statistics.power import (
    Aim,
    detectable,
    detectable_unpaired,
    discordance_of,
    needed,
    needed_seeds,
    paired_floor,
    paired_power,
    permutation_floor,
    seeds_power,
    unpaired_power,
)

SHOWN_RHOS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


class Question(NamedTuple):
    """What is asked. Shares and differences lie in 0..1.

    Attributes:
        n: Questions.
        p: Score of the weaker side.
        delta: Difference to be found; negative where the other side is worse.
        rho: Correlation of right and wrong answers per question; None: several.
        discordance: Share of questions that one side alone answers rightly, instead of `rho`.
        seeds: Training seeds per arm; None: no claim on methods.
        seed_sd: Standard deviation of the score over seeds.
        aim: Level and power of the test.
        printed: A percentage to check against `n`.
    """

    n: int
    p: float
    delta: float
    rho: float | None
    discordance: float | None
    seeds: int | None
    seed_sd: float
    aim: Aim
    printed: str | None


class Design(NamedTuple):
    """One way to ask the questions, and what it can show; None: no number is enough."""

    name: str
    rho: float | None
    discordance: float | None
    power: float
    needed: int | None
    detectable: float | None


class SeedDesign(NamedTuple):
    """What seeds can show: the t test over seeds, and the smallest p of permutations of them."""

    seeds: int
    seed_sd: float
    power: float
    needed: int | None
    permutation_floor: float
    paired_floor: float


class PowerPlan(NamedTuple):
    """The answer: designs over questions, over seeds, and remarks."""

    designs: tuple[Design, ...]
    seeds: SeedDesign | None
    notes: tuple[str, ...]


def plan_power(question: Question) -> PowerPlan:
    """Return what the questions and seeds can show.

    Raises:
        ConfigError: The values contradict each other.
    """
    _check(question)
    seeds = None if question.seeds is None else _seed_design(question, question.seeds)
    return PowerPlan((_unpaired(question), *_paired(question)), seeds, _notes(question, seeds))


def _check(question: Question) -> None:
    other = question.p + question.delta
    if not 0.0 < other < 1.0:
        raise ConfigError(
            f"--p is {question.p:g} and --delta is {question.delta:g}; the other side would score "
            f"{other:g}: give values whose sum lies above 0 and below 1"
        )
    if question.rho is not None and question.discordance is not None:
        raise ConfigError("--rho and --discordance are both given; give one of them")
    if question.discordance is not None and question.discordance < abs(question.delta):
        raise ConfigError(
            f"--discordance is {question.discordance:g}; a difference of {question.delta:g} needs "
            f"at least {abs(question.delta):g} of the questions to differ"
        )
    if question.rho is not None:
        _check_rho(question, question.rho)


def _check_rho(question: Question, rho: float) -> None:
    p, delta = question.p, question.delta
    none, spread = discordance_of(p, delta, 0.0), 1.0
    spread = none - discordance_of(p, delta, 1.0)
    q = p + delta
    low, high = (none - min(p + q, 2 - p - q)) / spread, (none - abs(delta)) / spread
    if not low - 1e-12 <= rho <= high + 1e-12:
        raise ConfigError(
            f"--rho is {rho:g}; scores of {p:g} and {q:g} can only be correlated "
            f"from {low:.3f} to {high:.3f}"
        )


def _unpaired(question: Question) -> Design:
    n, p, delta, aim = question.n, question.p, question.delta, question.aim
    return Design(
        name="unpaired",
        rho=None,
        discordance=None,
        power=unpaired_power(n, p, delta, aim),
        needed=needed(lambda size: unpaired_power(size, p, delta, aim), aim),
        detectable=detectable_unpaired(n, p, aim),
    )


def _paired(question: Question) -> list[Design]:
    if question.discordance is not None:
        return [_with_discordance(question, question.discordance)]
    rhos = SHOWN_RHOS if question.rho is None else (question.rho,)
    found = [_with_rho(question, rho) for rho in rhos]
    return [design for design in found if design is not None]


def _with_discordance(question: Question, discordance: float) -> Design:
    n, delta, aim = question.n, question.delta, question.aim
    return Design(
        name="paired",
        rho=None,
        discordance=discordance,
        power=paired_power(n, discordance, delta, aim),
        needed=needed(lambda size: paired_power(size, discordance, delta, aim), aim),
        detectable=detectable(
            lambda x: paired_power(n, discordance, x, aim), aim, most=discordance
        ),
    )


def _with_rho(question: Question, rho: float) -> Design | None:
    """Return the design at this correlation; None where the two scores cannot have it."""
    n, p, aim = question.n, question.p, question.aim
    discordance = discordance_of(p, question.delta, rho)
    if discordance < abs(question.delta) - 1e-12:
        return None

    def power_of(delta: float) -> float:
        return paired_power(n, max(discordance_of(p, delta, rho), delta), delta, aim)

    return _with_discordance(question, discordance)._replace(
        rho=rho, detectable=detectable(power_of, aim, most=1 - p)
    )


def _seed_design(question: Question, seeds: int) -> SeedDesign:
    return SeedDesign(
        seeds=seeds,
        seed_sd=question.seed_sd,
        power=seeds_power(seeds, question.delta, question.seed_sd, question.aim),
        needed=needed_seeds(question.delta, question.seed_sd, question.aim),
        permutation_floor=permutation_floor(seeds),
        paired_floor=paired_floor(seeds),
    )


def _notes(question: Question, seeds: SeedDesign | None) -> tuple[str, ...]:
    notes = ["One checkpoint against another: questions alone say nothing about other seeds."]
    if question.discordance is None and question.rho is None:
        notes.append("rho depends on the pair of models; a pilot gives it, see docs/statistics.md.")
    if seeds is not None and seeds.permutation_floor >= question.aim.alpha:
        notes.append(
            f"Exchanging {seeds.seeds} seeds per arm cannot give p below "
            f"{seeds.permutation_floor:.3g}, whatever the scores."
        )
    if question.printed is not None:
        notes.append(check_granularity(question.printed, question.n).sentence())
    return tuple(notes)
