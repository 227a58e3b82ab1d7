"""Which command settles an open claim: the one that made its arms, with more seeds or a side."""

from collections.abc import Sequence
from shlex import join, split
from typing import NamedTuple

from longact_cli.reporting.arms import Arm
from longact_cli.reporting.claims.declared import ArmSpec, Claim
from longact_cli.reporting.claims.evidence import Case

_MOST_SEEDS = 20


class Place(NamedTuple):
    """Where results go: the study, and the options that name its store."""

    study: str
    options: tuple[str, ...]

    @classmethod
    def of(cls, arms: Sequence[Arm], study: str) -> "Place":
        """Take the store's options from the commands that made its arms."""
        for arm in arms:
            words = _made_by(arm) or []
            found = _options_of(words, ("--runs-dir", "--tracking-uri"))
            if found:
                return cls(study, found)
        return cls(study, ())


def command_for_nothing(claim: Claim, place: Place) -> str:
    """Return what to run where the store holds no arm of the claim; results join the study."""
    if claim.command.startswith("longact ablate"):
        return f"{claim.command} {join(['--study', place.study, *place.options])}"
    return claim.command


def command_for_side(claim: Claim, case: Case, place: Place) -> str:
    """Return what runs the side that is missing, with the settings of the one that is there."""
    made = _made_by(case.left)
    if made is None or claim.right is None:
        return command_for_nothing(claim, place)
    kept = _without_keys(made, ("mask", "algorithm", "mask.sparsity", "mask.mass"))
    return join([*kept, *_settings(claim.right), "--no-controls"])


def command_for_seeds(claim: Claim, case: Case, seeds: int, place: Place) -> str:
    """Return what adds seeds to both sides, up to `seeds` in all."""
    commands = []
    for arm in (case.left, case.right):
        made = _made_by(arm)
        if made is None:
            return command_for_nothing(claim, place)
        numbers = ",".join(map(str, range(min(seeds, _MOST_SEEDS))))
        commands.append(join([*_without_keys(made, ("seed",)), f"seed={numbers}"]))
    return " && ".join(dict.fromkeys(commands))


def _made_by(arm: Arm | None) -> list[str] | None:
    """Return the words of the sweep that asked for an arm's cells; None where none is known."""
    for cell in arm.cells if arm else ():
        if cell.command and cell.command.startswith("longact ablate"):
            return split(cell.command)
    return None


_OPTIONS = {
    "seed": "--seeds",
    "mask": "--mask",
    "algorithm": "--algo",
    "mask.sparsity": "--sparsity",
}


def _without_keys(words: list[str], keys: tuple[str, ...]) -> list[str]:
    """Drop the settings of `keys`, as options and as overrides; what is added later wins."""
    options = {_OPTIONS[key] for key in keys if key in _OPTIONS}
    switches = {"--no-controls", "--controls"} if "mask" in keys else set()
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        elif word in switches or word.startswith(tuple(f"{option}=" for option in options)):
            continue
        elif word.split("=", 1)[0] not in keys or "=" not in word:
            kept.append(word)
    return kept


def _options_of(words: list[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return these options with their values."""
    found: list[str] = []
    for word, after in zip(words, (*words[1:], ""), strict=False):
        if word in names and after:
            found += [word, after]
        elif word.startswith(tuple(f"{name}=" for name in names)):
            found.append(word)
    return tuple(found)


def _settings(spec: ArmSpec) -> list[str]:
    words = [f"mask={spec.strategy}"]
    if spec.algorithm is not None:
        words.append(f"algorithm={spec.algorithm}")
    if spec.sparsity is not None:
        words.append(f"mask.sparsity={spec.sparsity:g}")
    return words
