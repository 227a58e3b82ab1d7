"""What an analysis measures: models, contexts, sites, statistics, masks and trained pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from longact_cli.config.schema import ModelConfig
from longact_cli.masking.types import Site, Statistic

SITES: tuple[Site, ...] = get_args(Site)
STATISTIC_NAMES: tuple[Statistic, ...] = get_args(Statistic)
COMPARABLE = ("lowest", "random", "random-head-matched", "weight", "wanda")
"""Strategies whose rows can be told without training; each is compared with `salient`."""

ContextName = Literal["long", "short"]


class Subject(NamedTuple):
    """A model to be measured, with the label it has in tables."""

    label: str
    model: ModelConfig


class Change(NamedTuple):
    """Two checkpoints of one model; the rows that changed between them are compared with masks."""

    label: str
    before: ModelConfig
    after: ModelConfig


class Context(NamedTuple):
    """One of the two context lengths; `length` in tokens."""

    name: ContextName
    length: int


class PromptFiles(NamedTuple):
    """Prompts of one's own, as JSON lines with a `prompt` each; None: prompts are generated.

    Attributes:
        long: Cut in the middle to the long length and, where `short` is None, to the short one.
        short: Cut to the short length.
    """

    long: Path | None = None
    short: Path | None = None


@dataclass(frozen=True)
class AnalysisSettings:
    """Everything that defines an analysis.

    Attributes:
        subjects: Models, the first is the one that others are compared with.
        changes: Pairs of checkpoints whose changed rows are compared with masks.
        contexts: The long and the short one.
        sites: Where activations are read; tables of masks use the first.
        statistics: How a channel's activations become one number; masks use the first.
        strategies: Some of `COMPARABLE`; taken on the first model.
        sparsity: Fraction of rows in every set of rows, as in `mask.sparsity`.
        prompts: Prompts per context and seed.
        seeds: Prompt draws.
        tasks: What prompts are generated from.
        chat_template: Whether generated prompts carry the chat template.
        files: Prompts of one's own.
    """

    subjects: tuple[Subject, ...]
    changes: tuple[Change, ...]
    contexts: tuple[Context, Context]
    sites: tuple[Site, ...]
    statistics: tuple[Statistic, ...]
    strategies: tuple[str, ...]
    sparsity: float
    prompts: int
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    chat_template: bool
    files: PromptFiles

    @property
    def forward_passes(self) -> int:
        """How often a prompt goes through a model."""
        per_seed = len(self.subjects) * len(self.contexts) * len(self.sites)
        return len(self.seeds) * self.prompts * (per_seed + ("wanda" in self.strategies))

    @property
    def tokens(self) -> int:
        """Upper bound on the tokens that go through models."""
        lengths = sum(context.length for context in self.contexts) * len(self.sites)
        extra = self.contexts[0].length if "wanda" in self.strategies else 0
        per_seed = len(self.subjects) * lengths + extra
        return len(self.seeds) * self.prompts * per_seed
