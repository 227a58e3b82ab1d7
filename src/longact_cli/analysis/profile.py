"""Send prompts through a model, one by one, and keep sums of what its projections make."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from longact_cli.analysis.prompts import Prompt
from longact_cli.analysis.settings import Context
from longact_cli.analysis.totals import Totals, measure, merge
from longact_cli.errors import ConfigError
from longact_cli.masking.probe import SaliencyProbe
from longact_cli.masking.structure import AttentionProjection
from longact_cli.masking.types import SaliencyMap, Site, Statistic

Finished = Callable[[int], None]
"""Called with the number of tokens of each prompt that went through."""


class Matrix(NamedTuple):
    """One query or key projection.

    Attributes:
        name: Its key in saliency maps.
        layer: Number of its layer among those with attention, from 0.
        kind: `q` or `k`.
        rows: Channels.
        head_dim: Channels per head.
    """

    name: str
    layer: int
    kind: str
    rows: int
    head_dim: int


class Draw(NamedTuple):
    """The activations of one model on the prompts of one context and one seed.

    Attributes:
        subject: Label of the model.
        site: Where they were read.
        context: Long or short.
        seed: Of the prompts.
        totals: Over all prompts, by matrix.
        by_prompt: The first statistic on each single prompt.
    """

    subject: str
    site: Site
    context: Context
    seed: int
    totals: Mapping[str, Totals]
    by_prompt: tuple[SaliencyMap, ...]

    def saliency(self, statistic: Statistic) -> SaliencyMap:
        """Return a statistic per channel over all prompts."""
        return {name: total.saliency(statistic) for name, total in self.totals.items()}


def matrices_of(projections: Sequence[AttentionProjection]) -> tuple[Matrix, ...]:
    """Return the matrices of a model; layers are counted per kind, in the model's order."""
    seen: dict[str, int] = {}
    found = []
    for projection in projections:
        layer = seen.get(projection.kind, 0)
        seen[projection.kind] = layer + 1
        found.append(
            Matrix(
                projection.parameter_name,
                layer,
                projection.kind,
                projection.rows,
                projection.head_dim,
            )
        )
    return tuple(found)


class ActivationReader:
    """Reads a model's activations at one site."""

    def __init__(
        self,
        model: nn.Module,
        projections: Sequence[AttentionProjection],
        *,
        site: Site,
        statistics: Sequence[Statistic],
    ) -> None:
        """Prepare to read; nothing is hooked between prompts.

        Raises:
            ConfigError: The model has no such site.
        """
        self._statistics = tuple(statistics)
        self._device = next(model.parameters()).device
        self._found: dict[str, Totals] = {}
        self._probe = SaliencyProbe(model, projections, site=site, observer=self._observe)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Mapping[str, Totals]:
        """Return the totals of a batch by projection; padding does not count.

        Args:
            input_ids: [batch, time].
            attention_mask: 1 = token, 0 = padding, [batch, time].

        Raises:
            ConfigError: An activation is not finite.
        """
        self._found = {}
        self._probe.reset()
        self._probe.add(input_ids.to(self._device), attention_mask.to(self._device))
        self._probe.saliency()  # checks that every projection ran and that all is finite
        return self._found

    def _observe(self, projection: AttentionProjection, vectors: Tensor) -> None:
        self._found[projection.parameter_name] = measure(
            vectors, head_dim=projection.head_dim, statistics=self._statistics
        )


def read_all(
    reader: ActivationReader, prompts: Sequence[Prompt], *, statistic: Statistic, finished: Finished
) -> tuple[Mapping[str, Totals], tuple[SaliencyMap, ...]]:
    """Return the totals over all prompts, and `statistic` of each prompt by itself."""
    pooled: dict[str, Totals] = {}
    single = []
    for prompt in prompts:
        found = reader.read(prompt.input_ids, torch.ones_like(prompt.input_ids))
        single.append({name: total.saliency(statistic) for name, total in found.items()})
        pooled = {
            name: merge(pooled[name], total) if name in pooled else total
            for name, total in found.items()
        }
        finished(prompt.input_ids.shape[1])
    return pooled, tuple(single)


def input_rms(
    model: nn.Module,
    projections: Sequence[AttentionProjection],
    prompts: Sequence[Prompt],
    finished: Finished,
) -> SaliencyMap:
    """Return the root mean square of every input feature of each projection, over all prompts."""
    device = next(model.parameters()).device
    probe = SaliencyProbe(model, projections, site="input", statistic="rms")
    for prompt in prompts:
        ids = prompt.input_ids.to(device)
        probe.add(ids, torch.ones_like(ids))
        finished(ids.shape[1])
    return probe.saliency()


def check_same_layout(first: Sequence[Matrix], other: Sequence[Matrix], labels: str) -> None:
    """Refuse to compare models whose matrices differ.

    Raises:
        ConfigError: Names or sizes differ.
    """
    if tuple(first) != tuple(other):
        raise ConfigError(
            f"{labels} do not have the same query and key matrices; rows can only be compared "
            "between checkpoints of one model: analyze them one by one"
        )
