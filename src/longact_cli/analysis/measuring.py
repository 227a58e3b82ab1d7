"""One model of an analysis: load it, send the prompts through it, let go of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import nn

from longact_cli.analysis.profile import (
    ActivationReader,
    Draw,
    Finished,
    Matrix,
    input_rms,
    matrices_of,
    read_all,
)
from longact_cli.analysis.prompts import Prompt, prompt_draw
from longact_cli.analysis.row_sets import Scores
from longact_cli.analysis.rows import PromptRow
from longact_cli.analysis.settings import AnalysisSettings, Context, Subject
from longact_cli.masking.scores import wanda_scores, weight_norms
from longact_cli.masking.structure import AttentionProjection, find_projections
from longact_cli.masking.types import SaliencyMap
from longact_cli.models.loading import load_model, load_tokenizer, local_checkpoint

Check = Callable[[tuple[Matrix, ...]], None]
Drawn = Mapping[tuple[Context, int], tuple[Prompt, ...]]


@dataclass(frozen=True)
class Measured:
    """What is kept of one model.

    Attributes:
        matrices: Its query and key matrices.
        draws: Its activations by site, context and seed.
        scores: What other strategies rank.
        prompts: What it read.
    """

    matrices: tuple[Matrix, ...]
    draws: tuple[Draw, ...]
    scores: Scores
    prompts: tuple[PromptRow, ...]


def measure_subject(
    settings: AnalysisSettings, subject: Subject, *, check: Check, finished: Finished
) -> Measured:
    """Measure one model on the long and the short prompts of every seed.

    Args:
        settings: What is measured.
        subject: The model.
        check: Refuses matrices that do not fit, before a prompt has cost time.
        finished: Called after every prompt.

    Raises:
        ConfigError: A setting does not fit the model.
        PrerequisiteError: The checkpoint is not on this machine.
    """
    checkpoint = local_checkpoint(subject.model)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=subject.model.trust_remote_code)
    prompts_of = prompt_draw(settings, tokenizer)
    # Drawn before the weights are loaded, so that a bad file of prompts costs no time.
    drawn = {key: prompts_of(*key) for key in product(settings.contexts, settings.seeds)}
    model: nn.Module = load_model(checkpoint, model=subject.model)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    work = _Work(model, find_projections(model), drawn)
    check(matrices_of(work.projections))
    return Measured(
        matrices=matrices_of(work.projections),
        draws=tuple(_draws(settings, subject, work, finished)),
        scores=_scores(settings, subject, work, finished),
        prompts=tuple(_prompt_rows(subject, drawn)),
    )


class _Work(NamedTuple):
    """A loaded model and the prompts for it."""

    model: nn.Module
    projections: tuple[AttentionProjection, ...]
    drawn: Drawn


def _draws(
    settings: AnalysisSettings, subject: Subject, work: _Work, finished: Finished
) -> Iterator[Draw]:
    for site in settings.sites:
        reader = ActivationReader(
            work.model, work.projections, site=site, statistics=settings.statistics
        )
        for (context, seed), prompts in work.drawn.items():
            totals, single = read_all(
                reader, prompts, statistic=settings.statistics[0], finished=finished
            )
            yield Draw(subject.label, site, context, seed, totals, single)


def _scores(
    settings: AnalysisSettings, subject: Subject, work: _Work, finished: Finished
) -> Scores:
    wanda: dict[int, SaliencyMap] = {}
    is_first = subject.label == settings.subjects[0].label
    for seed in settings.seeds if is_first and "wanda" in settings.strategies else ():
        prompts = work.drawn[settings.contexts[0], seed]
        rms = input_rms(work.model, work.projections, prompts, finished)
        wanda[seed] = _on_cpu(wanda_scores(work.projections, rms))
    return Scores(subject.label, _on_cpu(weight_norms(work.projections)), wanda)


def _on_cpu(scores: SaliencyMap) -> SaliencyMap:
    return {name: values.cpu() for name, values in scores.items()}


def _prompt_rows(subject: Subject, drawn: Drawn) -> Iterator[PromptRow]:
    for (context, seed), prompts in drawn.items():
        for prompt in prompts:
            tokens = prompt.input_ids.shape[1]
            yield PromptRow(subject.label, context.name, seed, prompt.id, tokens, prompt.sha256)
