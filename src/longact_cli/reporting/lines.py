"""Lines of tables: one training setting with its arms on several benchmarks and protocols."""

from collections.abc import Iterable
from dataclasses import dataclass

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm

SFT = "sft"


@dataclass(frozen=True, eq=False)
class Line:
    """One training setting; `algorithm` is None for the untrained model.

    Attributes:
        arms: Its arms, one per benchmark and variant of the evaluation.
    """

    model: str
    algorithm: str | None
    strategy: str
    sparsity: float | None
    arms: tuple[Arm, ...]

    def on(self, benchmark: str) -> Arm | None:
        """Return the arm on this benchmark; of several evaluations the one with most questions."""
        here = (arm for arm in self.arms if arm.section.benchmark == benchmark)
        return max(here, key=lambda arm: len(arm.questions), default=None)

    @property
    def name(self) -> str:
        """The mask strategy with its variant."""
        return self.arms[0].name if self.arms else self.strategy

    @property
    def amount(self) -> str:
        """The sparsity for people."""
        if self.arms:
            return self.arms[0].amount
        return "n/a" if self.sparsity is None else f"{self.sparsity:g}"

    @property
    def method(self) -> str:
        """Algorithm and mask in words, e.g. `dapo dense` or `dapo + LongAct`."""
        if self.algorithm is None:
            return "base"
        mask = {"dense": "dense", "salient": "+ LongAct"}.get(self.strategy, f"+ {self.strategy}")
        extra = self.name.removeprefix(self.strategy)
        plain = self.algorithm == SFT and self.strategy == "dense"
        return (self.algorithm if plain else f"{self.algorithm} {mask}") + extra


def collect_lines(arms: Iterable[Arm]) -> tuple[Line, ...]:
    """Group arms by what was trained: base first, then SFT, then the algorithms by name."""
    groups: dict[tuple[object, ...], dict[tuple[object, ...], Arm]] = {}
    for arm in arms:
        algorithm = None if arm.strategy == BASE_ARM else arm.section.algorithm
        training = {k: v for k, v in arm.variant.items() if not k.startswith("benchmark.")}
        head = (arm.section.model, algorithm, arm.strategy, arm.sparsity)
        asked = (arm.section.benchmark, *sorted(arm.variant.items()))
        groups.setdefault((*head, *sorted(training.items())), {}).setdefault(asked, arm)
    lines = []
    for group in groups.values():
        first = next(iter(group.values()))
        base = first.strategy == BASE_ARM
        algorithm = None if base else first.section.algorithm
        arms_ = tuple(group.values())
        lines.append(Line(first.section.model, algorithm, first.strategy, first.sparsity, arms_))
    return tuple(sorted(lines, key=_order))


def left_out(lines: Iterable[Line], benchmarks: Iterable[str]) -> tuple[str, ...]:
    """Return a note that names the evaluations which `Line.on` passes over, if there are any."""
    names = list(benchmarks)
    passed = [
        f"{line.method if line.algorithm else arm.name} on {arm.section.benchmark}"
        + f" with {len(arm.questions)} questions"
        for line in lines
        for arm in line.arms
        if arm.section.benchmark in names and arm is not line.on(arm.section.benchmark)
    ]
    if not passed:
        return ()
    return (
        "Of several evaluations of the same checkpoints the one with most questions is shown; "
        f"left out: {'; '.join(passed)} (see the table `scores`).",
    )


def _order(line: Line) -> tuple[object, ...]:
    stage = 0 if line.algorithm is None else 1 if line.algorithm == SFT else 2
    dense = 0 if line.strategy == "dense" else 1
    rank = {"salient": 0, "random": 1}.get(line.strategy, 2)
    amount = line.sparsity or 0.0
    return (line.model, stage, line.algorithm or "", dense, amount, rank, line.strategy, line.name)
