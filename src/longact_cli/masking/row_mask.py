"""Zero the gradient of masked query/key rows, inside the backward pass.

A hook fires once the gradient of a weight is complete, so the mask acts before gradient clipping:
the clipping norm holds no masked row. The optimizer is left alone; momentum and weight decay may
still move a masked row, and `StepReport` says by how much.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.masking.structure import AttentionProjection, find_projections
from longact_cli.masking.types import UpdateMask


class StepReport(NamedTuple):
    """What the mask did in one optimizer step.

    Attributes:
        update_ratios: Fraction of rows updated, per weight, 0..1.
        dense_norm: L2 norm of the query/key gradient before the mask; None without hooks.
        kept_norm: The same after the mask; None without hooks.
        overlap: Jaccard overlap of the updated rows with those of the step before, 0..1; None in
            the first step.
        drift_norm: L2 norm of how far masked rows moved over the step; 0 = they stood still.
        drift_max: Largest such move of one entry.
    """

    update_ratios: Mapping[str, float]
    dense_norm: float | None
    kept_norm: float | None
    overlap: float | None
    drift_norm: float
    drift_max: float

    def metrics(self) -> Mapping[str, float]:
        """Return the report as named numbers; what is not known is left out."""
        ratios = tuple(self.update_ratios.values())
        values = {
            "mask/update_ratio": sum(ratios) / len(ratios),
            "mask/update_ratio_min": min(ratios),
            "mask/update_ratio_max": max(ratios),
            "mask/qk_grad_norm": self.kept_norm,
            "mask/kept_grad_norm_share": self._kept_share(),
            "mask/overlap_with_previous": self.overlap,
            "mask/masked_drift_norm": self.drift_norm,
            "mask/masked_drift_max": self.drift_max,
        }
        return {name: value for name, value in values.items() if value is not None}

    def _kept_share(self) -> float | None:
        if self.kept_norm is None or not self.dense_norm:
            return None
        return self.kept_norm / self.dense_norm


class RowMask:
    """Hooks on the query/key weights (and biases) of a model that zero masked gradient rows.

    Per step: `set_mask`, `arm` before the last backward pass of the step, optimizer step,
    `finish_step`. Unarmed backward passes accumulate the dense gradient; zeroing rows of the sum
    once equals zeroing them in every part.
    """

    def __init__(
        self, model: nn.Module, projections: Iterable[AttentionProjection] | None = None
    ) -> None:
        """Prepare masking of `projections`, by default of all query/key projections of `model`.

        Hooks are installed with the first mask that masks a row: dense training has none.
        """
        found = find_projections(model) if projections is None else tuple(projections)
        self._rows = {projection.parameter_name: projection.rows for projection in found}
        self._parameters = dict(_masked_parameters(found))
        self._handles: list[RemovableHandle] = []
        self._frozen: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._squares: dict[str, tuple[Tensor, Tensor]] = {}
        self._mask: dict[str, Tensor] | None = None
        self._overlap: float | None = None
        self._armed = False

    def __enter__(self) -> Self:
        """Return itself; leaving the block removes all hooks."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove all hooks."""
        self.remove()

    @property
    def mask(self) -> UpdateMask | None:
        """The current update mask, on the CPU; None before the first `set_mask`."""
        return self._mask

    @property
    def armed(self) -> bool:
        """Whether the next backward pass zeroes masked rows."""
        return self._armed

    def set_mask(self, update_mask: UpdateMask) -> None:
        """Use `update_mask` from now on.

        Args:
            update_mask: Bool [rows] for every projection's weight; True = updated.

        Raises:
            ConfigError: Names or lengths are not those of the model.
        """
        lengths = {name: len(rows) for name, rows in update_mask.items()}
        if lengths != self._rows:
            raise ConfigError(
                f"update mask covers {_summary(lengths)}; the model needs {_summary(self._rows)}; "
                "build the mask from find_projections of this model"
            )
        mask = {name: rows.detach().cpu() for name, rows in update_mask.items()}
        self._overlap = None if self._mask is None else mask_overlap(self._mask, mask)
        self._mask = mask
        self._frozen = {
            name: (~mask[weight_name]).to(parameter.device)
            for name, (weight_name, parameter) in self._parameters.items()
        }
        if not self._handles and not all(bool(rows.all()) for rows in mask.values()):
            self._install()

    def arm(self) -> None:
        """Let the next backward pass zero masked rows, and remember where they stand now.

        Raises:
            ConfigError: No mask has been set.
        """
        if self._mask is None:
            raise ConfigError("the row mask is armed before set_mask; set an update mask first")
        self._squares = {}
        self._before = {
            name: parameter.detach()[self._frozen[name]]
            for name, (_, parameter) in self._parameters.items()
        }
        self._armed = True

    def disarm(self) -> None:
        """Let backward passes keep the dense gradient."""
        self._armed = False

    def finish_step(self) -> StepReport:
        """Disarm and report; call it after the optimizer step.

        Raises:
            ConfigError: The mask was not armed.
            PrerequisiteError: A hook did not fire: the backend replaces parameters or gradients.
        """
        if not self._armed or self._mask is None:
            raise ConfigError("finish_step without arm: arm the row mask before the backward pass")
        self._armed = False
        silent = set(self._parameters) - set(self._squares)
        if self._handles and silent:
            raise PrerequisiteError(
                f"the row mask never saw the gradient of {min(silent)}; sharded or offloaded "
                "training (FSDP, DeepSpeed) is not supported, use one process or DDP"
            )
        drift_norm, drift_max = self._drift()
        self._before = {}
        return StepReport(
            update_ratios={name: rows.float().mean().item() for name, rows in self._mask.items()},
            dense_norm=self._norm(0),
            kept_norm=self._norm(1),
            overlap=self._overlap_once(),
            drift_norm=drift_norm,
            drift_max=drift_max,
        )

    def remove(self) -> None:
        """Remove all hooks; the model is as before."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._before = {}
        self._armed = False

    def _install(self) -> None:
        self._handles = [
            parameter.register_post_accumulate_grad_hook(self._hook(name))  # type: ignore[no-untyped-call]
            for name, (_, parameter) in self._parameters.items()
        ]

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        def mask_gradient(parameter: Tensor) -> None:
            if not self._armed or parameter.grad is None:
                return
            gradient = parameter.grad
            dense = gradient.float().square().sum()
            frozen = self._frozen[name]
            gradient.masked_fill_(frozen.view(-1, *[1] * (gradient.dim() - 1)), 0.0)
            self._squares[name] = (dense, gradient.float().square().sum())

        return mask_gradient

    def _norm(self, which: int) -> float | None:
        """Return the norm over all watched gradients: 0 before the mask, 1 after it."""
        if not self._squares:
            return None
        return math.sqrt(sum(squares[which].item() for squares in self._squares.values()))

    def _drift(self) -> tuple[float, float]:
        squares, largest = 0.0, 0.0
        for name, (_, parameter) in self._parameters.items():
            moved = (parameter.detach()[self._frozen[name]] - self._before[name]).float()
            if moved.numel():
                squares += moved.square().sum().item()
                largest = max(largest, moved.abs().max().item())
        return math.sqrt(squares), largest

    def _overlap_once(self) -> float | None:
        """Return the overlap with the step before; 1 in a step that reuses its mask."""
        overlap, self._overlap = self._overlap, 1.0
        return overlap


def mask_overlap(first: UpdateMask, second: UpdateMask) -> float:
    """Return the Jaccard overlap of the updated rows over all weights; two empty masks give 1."""
    shared = sum(int((first[name] & second[name]).sum()) for name in first)
    either = sum(int((first[name] | second[name]).sum()) for name in first)
    return shared / either if either else 1.0


def _masked_parameters(
    projections: Iterable[AttentionProjection],
) -> Iterable[tuple[str, tuple[str, Tensor]]]:
    """Yield (own name, (name of the weight whose mask applies, parameter)), biases included."""
    for projection in projections:
        weight_name = projection.parameter_name
        yield weight_name, (weight_name, projection.module.weight)
        bias: Tensor | None = projection.module.bias
        if bias is not None:
            yield weight_name.removesuffix("weight") + "bias", (weight_name, bias)


def _summary(lengths: Mapping[str, int]) -> str:
    return f"{len(lengths)} weights with {sum(lengths.values())} rows"
