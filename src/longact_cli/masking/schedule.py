"""When the mask is taken: probe the prompts of a step, choose rows, keep them until a refresh."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longact_cli.masking.probe import SaliencyProbe, Site
from longact_cli.masking.row_mask import RowMask
from longact_cli.masking.strategies import STRATEGIES, step_generator
from longact_cli.masking.structure import Kind, find_projections


class MaskSettings(NamedTuple):
    """What defines the masks of a run.

    Attributes:
        strategy: Registered name.
        update_ratio: Fraction of rows updated, in [0, 1]; the config key `mask.sparsity`.
        site: Where activations are read.
        targets: Which projections are masked.
        refresh_every: Optimizer steps that share one mask.
        seed: Of the `random` strategy.
    """

    strategy: str
    update_ratio: float
    site: Site
    targets: tuple[Kind, ...]
    refresh_every: int
    seed: int


class MaskSchedule:
    """The masks of one training run, step by step."""

    def __init__(self, model: nn.Module, settings: MaskSettings) -> None:
        """Find the projections of `model`; nothing is hooked yet.

        Raises:
            UnknownNameError: No strategy has that name.
            ConfigError: The model has no separate query/key projections.
        """
        self._settings = settings
        self._strategy = STRATEGIES.get(settings.strategy)
        self._projections = find_projections(model, settings.targets)
        self._probe = SaliencyProbe(model, self._projections, site=settings.site)
        self.row_mask = RowMask(model, self._projections)

    def observe(self, step: int, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Probe the prompts of one micro-batch, where this step takes a mask from saliency.

        Args:
            step: Optimizer steps finished so far.
            input_ids: Prompt tokens, [batch, time].
            attention_mask: 1 = token, 0 = padding, [batch, time].
        """
        if self._strategy.needs_saliency and self.refreshes(step):
            self._probe.add(input_ids, attention_mask)

    def arm(self, step: int, reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        """Set this step's mask and arm the hooks: before the last backward pass of the step.

        Args:
            step: Optimizer steps finished so far.
            reduce: Sums a tensor over processes; None on one process.
        """
        if self.refreshes(step):
            saliency = (
                self._probe.saliency(reduce)
                if self._strategy.needs_saliency
                else {p.parameter_name: torch.zeros(p.rows) for p in self._projections}
            )
            generator = step_generator(self._settings.seed, step)
            mask = self._strategy.select(saliency, self._settings.update_ratio, generator)
            self.row_mask.set_mask(mask)
            self._probe.reset()
        self.row_mask.arm()

    def refreshes(self, step: int) -> bool:
        """Return whether this step takes a new mask."""
        return self.row_mask.mask is None or step % self._settings.refresh_every == 0

    def save(self, path: Path) -> None:
        """Write the current mask, bool [rows] per weight; nothing before the first mask."""
        if self.row_mask.mask is not None:
            save_file(dict(self.row_mask.mask), path)

    def restore(self, path: Path) -> None:
        """Continue with a saved mask, so that a resumed run does not recompute it.

        Raises:
            ConfigError: The mask is of another model.
        """
        self.row_mask.set_mask(load_file(path))
