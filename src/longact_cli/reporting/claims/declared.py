"""The checklist as data: what is claimed, by which comparison it is settled, in which family."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, model_validator
from yaml import safe_load

from longact_cli.config.base import Fraction, Frozen, Positive

Check = Literal["better", "as_good", "seeds", "granularity", "relative_gain", "analysis"]
Margin = Annotated[float, Field(gt=0.0, lt=1.0)]


class ArmSpec(Frozen):
    """Which arm takes part.

    Attributes:
        strategy: The mask strategy, or `base` for the untrained model.
        sparsity: Fraction of rows updated; None where the strategy has only one.
        algorithm: None for the one of the other side.
        adaptive: Whether rows are chosen by their share of the scores' sum.
    """

    strategy: str
    sparsity: Fraction | None = None
    algorithm: str | None = None
    adaptive: bool = False


class Claim(Frozen):
    """One line of the checklist.

    Attributes:
        text: What is claimed, in full; `title` is short.
        source: Who claims or asks it.
        check: How it is settled: `better` (left above right), `as_good` (they differ by less than
            `margin`), `seeds`, `granularity`, `relative_gain` (published numbers alone), `analysis`
            (evidence that no evaluation holds).
        model: None for every model in the store; so for `algorithm` and `benchmark`.
        margin: The smallest difference that would matter, in 0..1.
        gain: The published difference, in 0..1.
        min_seeds: Seeds that a verdict on the method needs.
        published: Value of the paper that is checked; `reference` the one it is compared with,
            `stated` the gain that the paper names.
        questions: Number of questions of the benchmark.
        command: What to run where the store holds nothing.
    """

    id: str
    family: str
    title: str
    text: str
    source: str
    check: Check
    left: ArmSpec | None = None
    right: ArmSpec | None = None
    model: str | None = None
    algorithm: str | None = None
    benchmark: str | None = None
    margin: Margin = 0.01
    gain: Margin | None = None
    min_seeds: Positive = 3
    published: str | None = None
    reference: str | None = None
    stated: str | None = None
    questions: Positive | None = None
    command: str

    @model_validator(mode="after")
    def _has_its_sides(self) -> "Claim":
        if self.compares != (self.left is not None and self.right is not None):
            raise ValueError(f"claim {self.id}: only a comparison has two sides")
        return self

    @property
    def compares(self) -> bool:
        """Whether two arms settle it."""
        return self.check in ("better", "as_good")


class Checklist(Frozen):
    """All claims, and the families within which p-values are corrected."""

    families: Mapping[str, str]
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _is_sound(self) -> "Checklist":
        names = [claim.id for claim in self.claims]
        if len(set(names)) != len(names):
            raise ValueError("two claims have the same id")
        if {claim.family for claim in self.claims} != set(self.families):
            raise ValueError("every claim needs a declared family, and every family a claim")
        return self


@cache
def declared_claims() -> Checklist:
    """Read the packaged checklist."""
    text = (files(__package__) / "claims.yaml").read_text(encoding="utf-8")
    return TypeAdapter(Checklist).validate_python(safe_load(text))
