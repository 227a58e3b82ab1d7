"""When the mask is taken: probe the prompts of a step, choose rows, keep them until a refresh."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from longact_cli.errors import ConfigError
from longact_cli.masking.mask_file import MaskManifest, load_mask, save_mask
from longact_cli.masking.probe import SaliencyProbe, Selector
from longact_cli.masking.ranking import Budget
from longact_cli.masking.report import StepReport
from longact_cli.masking.row_mask import RowMask
from longact_cli.masking.scores import wanda_scores, weight_norms
from longact_cli.masking.strategies import STRATEGIES, Source, step_generator
from longact_cli.masking.structure import find_projections
from longact_cli.masking.types import (
    Kind,
    SaliencyMap,
    Scope,
    Semantics,
    Site,
    Statistic,
    UpdateMask,
)

Prompts = Literal["training", "long", "short", "file"]
ProbePrompts = Callable[[int], tuple[Tensor, Tensor]]
"""Optimizer steps finished -> (input_ids, attention_mask), [batch, time] each."""


class MaskSettings(NamedTuple):
    """What defines the masks of a run.

    Attributes:
        strategy: Registered name.
        update_ratio: Fraction of rows updated, in [0, 1]; the config key `mask.sparsity`.
        site: Where activations are read.
        targets: Which projections are masked.
        refresh_every: Optimizer steps that share one mask; 0 = one mask for the whole run.
        seed: Of the random strategies.
        statistic: How a channel's activations become one number.
        scope: Within what rows are counted out.
        mass: Share of the scores' sum the updated rows hold; None = go by `update_ratio` alone.
        update_semantics: Whether a masked row may still be moved by the optimizer.
        prompts: What activations are measured on.
        file: Saved mask of the strategy `file`.
    """

    strategy: str = "salient"
    update_ratio: float = 0.3
    site: Site = "norm"
    targets: tuple[Kind, ...] = ("q", "k")
    refresh_every: int = 1
    seed: int = 0
    statistic: Statistic = "mean_abs"
    scope: Scope = "matrix"
    mass: float | None = None
    update_semantics: Semantics = "gradient"
    prompts: Prompts = "training"
    file: str | None = None


class MaskSchedule:
    """The masks of one training run, step by step."""

    def __init__(
        self,
        model: nn.Module,
        settings: MaskSettings,
        probe_prompts: ProbePrompts | None = None,
    ) -> None:
        """Find the projections of `model`; nothing is hooked yet.

        Args:
            model: The policy.
            settings: What defines the masks.
            probe_prompts: Where `settings.prompts` is not `training`: the prompts of a step.

        Raises:
            UnknownNameError: No strategy has that name.
            ConfigError: The model's layout is not understood, or a setting lacks its other half.
        """
        self._settings = settings
        self._model = model
        self._strategy = STRATEGIES.get(settings.strategy)
        self._source = self._scores_of(settings)
        self._projections = find_projections(model, settings.targets)
        self._probe = self._make_probe()
        self._probe_prompts = probe_prompts
        self._probe_step: int | None = None
        self._step = 0
        self.row_mask = RowMask(model, self._projections)
        if settings.prompts != "training" and probe_prompts is None and self._probe is not None:
            raise ConfigError(
                f"mask.prompts is '{settings.prompts}' and no probe prompts were passed; choose "
                "training or pass probe_prompts"
            )

    @property
    def settings(self) -> MaskSettings:
        """What defines the masks."""
        return self._settings

    def observe(self, step: int, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Probe the prompts of one micro-batch in a pass of their own, if this step needs them.

        Args:
            step: Optimizer steps finished so far.
            input_ids: Prompt tokens, [batch, time].
            attention_mask: 1 = token, 0 = padding, [batch, time].
        """
        if self._probe is not None and self._listens(step):
            self._new_step(self._probe, step)
            self._probe.add(input_ids, attention_mask)

    @contextmanager
    def observing(self, step: int, input_ids: Tensor, attention_mask: Tensor) -> Iterator[None]:
        """Probe the prompts of one micro-batch in the training forward inside the block.

        Args:
            step: Optimizer steps finished so far.
            input_ids: What the forward's rows begin with, [batch, time].
            attention_mask: 1 = prompt token, 0 = padding (or completion), [batch, time].
        """
        if self._probe is None or not self._listens(step):
            yield
            return
        self._new_step(self._probe, step)
        with self._probe.listening(input_ids, attention_mask):
            yield

    def start(self, selector: Selector) -> None:
        """Probe every training forward from now on, where the strategy reads activations.

        Args:
            selector: (input_ids, attention_mask or None) -> the tokens that count.
        """
        if self._probe is not None and self._settings.prompts == "training":
            self._probe.start(selector)

    def stop(self) -> None:
        """Stop probing and remove all hooks."""
        if self._probe is not None:
            self._probe.stop()
        self.row_mask.remove()

    def begin_step(self, step: int) -> None:
        """Forget the prompts of the step before; for callers of `start`."""
        if self._probe is not None:
            self._new_step(self._probe, step)

    def arm(self, step: int) -> None:
        """Set this step's mask and arm the hooks: before the last backward pass of the step.

        Args:
            step: Optimizer steps finished so far.
        """
        self._step = step
        if not self.refreshes(step):
            self.row_mask.arm()
        elif self._source == "gradient":
            self.row_mask.arm(lambda norms: self._select(norms, step))
        else:
            self.row_mask.set_mask(self._select(self._scores(step), step))
            self.row_mask.arm()

    def finish_step(self) -> StepReport:
        """Disarm and report; call it after the optimizer step."""
        return self.row_mask.finish_step()

    def refreshes(self, step: int) -> bool:
        """Return whether this step takes a new mask."""
        every = self._settings.refresh_every
        return self.row_mask.mask is None or (every > 0 and step % every == 0)

    def save(self, path: Path) -> None:
        """Write the current mask; nothing before the first mask."""
        if self.row_mask.mask is not None:
            save_mask(path, self.row_mask.mask, self.manifest())

    def restore(self, path: Path) -> None:
        """Continue with a saved mask, so that a resumed run does not recompute it.

        Raises:
            ConfigError: The mask is of another model.
        """
        self.row_mask.set_mask(load_mask(path).mask)

    def _listens(self, step: int) -> bool:
        return self._settings.prompts == "training" and self.refreshes(step)

    def _new_step(self, probe: SaliencyProbe, step: int) -> None:
        if self._probe_step != step:
            probe.reset()
            self._probe_step = step

    def _select(self, scores: SaliencyMap, step: int) -> UpdateMask:
        settings = self._settings
        budget = Budget(
            settings.update_ratio,
            scope=settings.scope,
            mass=settings.mass,
            head_dims={p.parameter_name: p.head_dim for p in self._projections},
        )
        return self._strategy.select(scores, budget, step_generator(settings.seed, step))

    def _scores(self, step: int) -> SaliencyMap:
        if self._source == "weight":
            return weight_norms(self._projections)
        if self._source == "file":
            assert self._settings.file is not None  # checked when the source was chosen
            return {
                n: rows.float() for n, rows in load_mask(Path(self._settings.file)).mask.items()
            }
        if self._probe is None:
            return {p.parameter_name: torch.zeros(p.rows) for p in self._projections}
        if self._probe_prompts is not None and self._settings.prompts != "training":
            self._new_step(self._probe, step)
            self._probe.add(*self._probe_prompts(step))
        measured = self._probe.saliency()
        return wanda_scores(self._projections, measured) if self._source == "wanda" else measured

    def _scores_of(self, settings: MaskSettings) -> Source:
        if self._strategy.source == "file" and settings.file is None:
            raise ConfigError("mask.strategy is 'file'; set mask.file to a saved mask")
        if settings.mass is not None and self._strategy.source == "none":
            return "activation"  # how many rows hold the mass depends on activations
        return self._strategy.source

    def _make_probe(self) -> SaliencyProbe | None:
        if self._source == "wanda":
            return SaliencyProbe(self._model, self._projections, site="input", statistic="rms")
        if self._source == "activation":
            return SaliencyProbe(
                self._model,
                self._projections,
                site=self._settings.site,
                statistic=self._settings.statistic,
            )
        return None

    def manifest(self) -> MaskManifest:
        """Return where the current mask comes from."""
        settings = self._settings
        config = getattr(self._model, "config", None)
        return MaskManifest(
            model=str(getattr(config, "_name_or_path", "") or type(self._model).__name__),
            strategy=settings.strategy,
            site=settings.site,
            statistic=settings.statistic,
            scope=settings.scope,
            sparsity=settings.update_ratio,
            mass=settings.mass,
            seed=settings.seed,
            step=self._step,
            prompts=settings.prompts,
        )
