"""The sets of rows that are compared: salient ones, those of other strategies, changed ones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from longact_cli.analysis.changes import RowChange
from longact_cli.analysis.profile import Draw, Matrix
from longact_cli.analysis.settings import AnalysisSettings, ContextName
from longact_cli.errors import ConfigError
from longact_cli.masking.ranking import Budget, updated_count
from longact_cli.masking.strategies import select_rows, step_generator
from longact_cli.masking.types import SaliencyMap, UpdateMask

NO_PROMPT = -1
SALIENT, CHANGED = "salient", "changed"


class RowSet(NamedTuple):
    """A set of rows of every matrix, and what it was taken from; empty text where it has none.

    Attributes:
        mask: Bool [rows] by matrix; True = in the set.
        subject: Label of the model, or of the run whose changes it holds.
        strategy: `salient`, another strategy, or `changed`.
        context: long or short; empty for sets that no activation decides.
        seed: Of the prompts; None for sets that no activation decides.
        site: Where activations were read.
        statistic: What made saliency of them; of changed rows, how change was measured.
        prompt: Number of a single prompt, or -1 for all.
    """

    mask: UpdateMask
    subject: str
    strategy: str
    context: ContextName | None = None
    seed: int | None = None
    site: str = ""
    statistic: str = ""
    prompt: int = NO_PROMPT


class Scores(NamedTuple):
    """What the strategies that need no gradient rank, for one model.

    Attributes:
        subject: Label of the model.
        weight: Norm of every row.
        wanda: Weight times input norm on long contexts, by seed.
    """

    subject: str
    weight: SaliencyMap
    wanda: Mapping[int, SaliencyMap]


def budget_of(settings: AnalysisSettings, matrices: Sequence[Matrix]) -> Budget:
    """Return how many rows a set has: the same fraction of each matrix.

    Raises:
        ConfigError: That is no row of some matrix.
    """
    fewest = min(matrix.rows for matrix in matrices)
    if not updated_count(settings.sparsity, fewest):
        raise ConfigError(
            f"--sparsity is {settings.sparsity:g}; a matrix with {fewest} rows has none in the "
            f"set: give at least {1 / fewest:.2g}"
        )
    return Budget(settings.sparsity, head_dims={m.name: m.head_dim for m in matrices})


def salient_sets(draw: Draw, settings: AnalysisSettings, budget: Budget) -> list[RowSet]:
    """Return the salient rows of a draw by each statistic, on all its prompts."""
    return [
        RowSet(
            select_rows(SALIENT, draw.saliency(statistic), budget),
            draw.subject,
            SALIENT,
            draw.context.name,
            draw.seed,
            draw.site,
            statistic,
        )
        for statistic in settings.statistics
    ]


def prompt_sets(draw: Draw, settings: AnalysisSettings, budget: Budget) -> list[RowSet]:
    """Return the salient rows of each single prompt of a draw, by the first statistic."""
    return [
        RowSet(
            select_rows(SALIENT, saliency, budget),
            draw.subject,
            SALIENT,
            draw.context.name,
            draw.seed,
            draw.site,
            settings.statistics[0],
            place,
        )
        for place, saliency in enumerate(draw.by_prompt)
    ]


def strategy_sets(
    draw: Draw, scores: Scores, settings: AnalysisSettings, budget: Budget
) -> list[RowSet]:
    """Return the rows other strategies would update where `salient` saw this draw.

    Random strategies draw with the seed of the prompts.
    """
    by_source = {"weight": scores.weight, "wanda": scores.wanda.get(draw.seed)}
    saliency = draw.saliency(settings.statistics[0])
    return [
        RowSet(
            select_rows(
                name, by_source.get(name) or saliency, budget, step_generator(draw.seed, 0)
            ),
            draw.subject,
            name,
            draw.context.name,
            draw.seed,
            draw.site,
            settings.statistics[0],
        )
        for name in settings.strategies
    ]


def changed_sets(change: RowChange, budget: Budget) -> list[RowSet]:
    """Return the rows that moved farthest, relative to their size and in absolute terms."""
    return [
        RowSet(select_rows(SALIENT, moved, budget), change.label, CHANGED, statistic=measure)
        for measure, moved in change.by_measure.items()
    ]
