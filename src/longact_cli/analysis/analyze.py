"""An analysis from settings to rows: measure every model, then compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from longact_cli.analysis import overlap
from longact_cli.analysis.changes import RowChange, row_change
from longact_cli.analysis.concentration import bin_rows, measure_rows, pool_seeds, ratio_rows
from longact_cli.analysis.measuring import Measured, measure_subject
from longact_cli.analysis.profile import Draw, Matrix, check_same_layout
from longact_cli.analysis.row_sets import (
    CHANGED,
    NO_PROMPT,
    SALIENT,
    RowSet,
    budget_of,
    changed_sets,
    prompt_sets,
    salient_sets,
    strategy_sets,
)
from longact_cli.analysis.rows import (
    ALL,
    BinRow,
    ChangedRow,
    ChannelRow,
    MeasureRow,
    OverlapRow,
    PromptRow,
    RatioRow,
)
from longact_cli.analysis.settings import AnalysisSettings
from longact_cli.masking.ranking import Budget
from longact_cli.masking.strategies import select_rows

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Analysis:
    """Everything that was found, as rows of tidy files.

    Attributes:
        settings: What was measured.
        matrices: Of the models.
        pooled: The activations of every model, site and context, over all seeds.
        prompts: What was read.
        measures: Concentration by matrix and head, by seed and over all seeds.
        ratios: Long against short.
        channels: Saliency of every channel, over all seeds.
        bins: Histograms.
        overlaps: By matrix and head.
        agreements: Overlaps over whole models.
        sets: Sets of rows against each other.
        changed: How far rows moved, where checkpoints before and after a run were given.
    """

    settings: AnalysisSettings
    matrices: tuple[Matrix, ...]
    pooled: tuple[Draw, ...]
    prompts: tuple[PromptRow, ...]
    measures: tuple[MeasureRow, ...]
    ratios: tuple[RatioRow, ...]
    channels: tuple[ChannelRow, ...]
    bins: tuple[BinRow, ...]
    overlaps: tuple[OverlapRow, ...]
    agreements: tuple[overlap.Agreement, ...]
    sets: overlap.MatrixOfSets
    changed: tuple[ChangedRow, ...]


def analyze(settings: AnalysisSettings, report: Report = lambda done, total: None) -> Analysis:
    """Measure and compare; the same settings and models give the same rows on the same machine.

    Args:
        settings: What is measured.
        report: Called as `(tokens done, tokens in all at most)` after every prompt.

    Raises:
        ConfigError: A model has another layout than the first, or a setting does not fit it.
        PrerequisiteError: A checkpoint is not on this machine.
    """
    changes = [row_change(change) for change in settings.changes]
    known = {change.label: change.matrices for change in changes}
    return _compare(settings, list(_measure_all(settings, known, report)), changes)


def _measure_all(
    settings: AnalysisSettings, known: Mapping[str, tuple[Matrix, ...]], report: Report
) -> Iterator[Measured]:
    """Yield every model's measurements; all must have the matrices that are known by label."""
    done, layouts = 0, dict(known)

    def finished(tokens: int) -> None:
        nonlocal done
        done += tokens
        report(min(done, settings.tokens), settings.tokens)

    report(0, settings.tokens)
    for subject in settings.subjects:

        def check(matrices: tuple[Matrix, ...], label: str = subject.label) -> None:
            budget_of(settings, matrices)  # refuses a sparsity that leaves a set empty
            for other, layout in layouts.items():
                check_same_layout(layout, matrices, f"{other} and {label}")
            layouts[label] = matrices

        yield measure_subject(settings, subject, check=check, finished=finished)
    report(settings.tokens, settings.tokens)


def _compare(
    settings: AnalysisSettings, measured: Sequence[Measured], changes: Sequence[RowChange]
) -> Analysis:
    matrices = measured[0].matrices
    budget = budget_of(settings, matrices)
    draws = [draw for found in measured for draw in found.draws]
    pooled = pool_seeds(draws)
    changed = [changed_sets(change, budget) for change in changes]
    sets = [*_sets(settings, measured, budget), *chain.from_iterable(changed)]
    overlaps = tuple(
        row
        for comparison in overlap.comparisons(sets)
        for row in overlap.overlap_rows(comparison, matrices)
    )
    return Analysis(
        settings=settings,
        matrices=matrices,
        pooled=pooled,
        prompts=tuple(row for found in measured for row in found.prompts),
        measures=tuple(_measures(settings, draws, pooled, matrices)),
        ratios=tuple(_ratios(settings, pooled, matrices)),
        channels=tuple(
            row for draw in pooled for row in _channels(settings, draw, matrices, budget)
        ),
        bins=tuple(row for draw in pooled for row in bin_rows(draw, matrices)),
        overlaps=overlaps,
        agreements=overlap.agreements(overlaps),
        sets=overlap.matrix_of_sets(_shown(settings, sets), matrices),
        changed=tuple(
            row
            for change, chosen in zip(changes, changed, strict=True)
            for row in _changed(change, chosen)
        ),
    )


def _sets(
    settings: AnalysisSettings, measured: Sequence[Measured], budget: Budget
) -> Iterator[RowSet]:
    """Yield all sets; single prompts at the first site only, strategies for the first model."""
    for found in measured:
        for draw in found.draws:
            yield from salient_sets(draw, settings, budget)
            if draw.site != settings.sites[0]:
                continue
            yield from prompt_sets(draw, settings, budget)
            if draw.context.name == "long" and draw.subject == settings.subjects[0].label:
                yield from strategy_sets(draw, found.scores, settings, budget)


def _shown(settings: AnalysisSettings, sets: Sequence[RowSet]) -> list[RowSet]:
    """Return the sets of the overlap matrix, salient ones first.

    What is not salient rows at the first site by the first statistic is shown for one seed only.
    """
    usual = (settings.sites[0], settings.statistics[0])
    first = (settings.subjects[0].label, "long", settings.seeds[0])
    shown = [
        s
        for s in sets
        if s.prompt == NO_PROMPT
        and (
            s.strategy == CHANGED
            or (s.strategy == SALIENT and (s.site, s.statistic) == usual)
            or (s.subject, s.context, s.seed) == first
        )
    ]
    return sorted(shown, key=lambda s: (s.strategy != SALIENT, s.strategy == CHANGED))


def _measures(
    settings: AnalysisSettings,
    draws: Sequence[Draw],
    pooled: Sequence[Draw],
    matrices: Sequence[Matrix],
) -> Iterator[MeasureRow]:
    for seeds, of in ((None, draws), (ALL, pooled)):
        for draw in of:
            seed = seeds or str(draw.seed)
            yield from measure_rows(draw, matrices, statistics=settings.statistics, seed=seed)


def _ratios(
    settings: AnalysisSettings, pooled: Sequence[Draw], matrices: Sequence[Matrix]
) -> Iterator[RatioRow]:
    by_key = {(draw.subject, draw.site, draw.context.name): draw for draw in pooled}
    for (subject, site, context), long in by_key.items():
        if context == "long":
            yield from ratio_rows(
                long,
                by_key[subject, site, "short"],
                matrices,
                statistics=settings.statistics,
                sparsity=settings.sparsity,
            )


def _channels(
    settings: AnalysisSettings, draw: Draw, matrices: Sequence[Matrix], budget: Budget
) -> Iterator[ChannelRow]:
    for statistic in settings.statistics:
        saliency = draw.saliency(statistic)
        salient = select_rows(SALIENT, saliency, budget)
        for matrix in matrices:
            pairs = zip(saliency[matrix.name].tolist(), salient[matrix.name].tolist(), strict=True)
            for channel, (value, chosen) in enumerate(pairs):
                yield ChannelRow(
                    draw.subject,
                    draw.site,
                    draw.context.name,
                    matrix.layer,
                    matrix.kind,
                    channel // matrix.head_dim,
                    channel,
                    statistic,
                    value,
                    int(chosen),
                )


def _changed(change: RowChange, chosen: Sequence[RowSet]) -> Iterator[ChangedRow]:
    for found in chosen:
        moves = change.by_measure["relative" if found.statistic == "relative" else "absolute"]
        for matrix in change.matrices:
            moved = moves[matrix.name].tolist()
            top = found.mask[matrix.name].tolist()
            for row, (value, among) in enumerate(zip(moved, top, strict=True)):
                yield ChangedRow(
                    change.label,
                    found.statistic,
                    matrix.layer,
                    matrix.kind,
                    row // matrix.head_dim,
                    row,
                    value,
                    int(among),
                )
