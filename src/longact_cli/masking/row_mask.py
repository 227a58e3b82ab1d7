"""Zero the gradient of masked query/key rows, inside the backward pass.

A hook fires once the gradient of a weight is complete, so the mask acts before gradient clipping:
the clipping norm holds no masked row. With `gradient` semantics the optimizer is left alone:
momentum and weight decay may still move a masked row, and `StepReport` says by how much. With
`strict` semantics a masked row does not move at all (see `strict.py`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.masking import processes
from longact_cli.masking.parts import MaskedParameter, masked_parameters, take_rows, zero_rows
from longact_cli.masking.report import StepReport, mask_overlap, rows_ratio
from longact_cli.masking.scores import row_norms
from longact_cli.masking.strict import hold_rows
from longact_cli.masking.structure import AttentionProjection, find_projections
from longact_cli.masking.types import SaliencyMap, UpdateMask

Choose = Callable[[SaliencyMap], UpdateMask]


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

        Raises:
            ConfigError: The model is laid out or wrapped in a way that cannot be masked.
        """
        processes.refuse_unsupported(model)
        found = find_projections(model) if projections is None else tuple(projections)
        self._projections = found
        self._rows = {projection.parameter_name: projection.rows for projection in found}
        self._parameters: dict[str, MaskedParameter] = {m.name: m for m in masked_parameters(found)}
        self._handles: list[RemovableHandle] = []
        self._optimizer_handles: list[RemovableHandle] = []
        self._hooked: list[nn.Parameter] = []
        self._frozen: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._squares: dict[str, tuple[Tensor, Tensor]] = {}
        self._mask: dict[str, Tensor] | None = None
        self._previous: dict[str, Tensor] | None = None
        self._choose: Choose | None = None
        self._queued = False
        self._armed = False
        self._verified = False

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
            update_mask: Bool [rows] for every projection; True = updated.

        Raises:
            ConfigError: Names or lengths are not those of the model.
        """
        lengths = {name: len(rows) for name, rows in update_mask.items()}
        if lengths != self._rows:
            raise ConfigError(
                f"update mask covers {_summary(lengths)}; the model needs {_summary(self._rows)}; "
                "build the mask from find_projections of this model"
            )
        self._mask = {name: rows.detach().cpu() for name, rows in update_mask.items()}
        self._frozen = {
            name: masked.frozen_rows(self._mask) for name, masked in self._parameters.items()
        }

    def hold(self, optimizer: Optimizer) -> None:
        """Let masked rows stand still in every step of `optimizer`: strict semantics."""
        self._optimizer_handles += hold_rows(optimizer, self)

    def arm(self, choose: Choose | None = None) -> None:
        """Let the next backward pass zero masked rows, and remember where they stand now.

        Args:
            choose: Takes the mask from the L2 norm of every gradient row, once the backward pass
                has accumulated (and reduced) them all; without, the mask is the one of `set_mask`.

        Raises:
            ConfigError: No mask has been set.
        """
        if self._mask is None and choose is None:
            raise ConfigError("the row mask is armed before set_mask; set an update mask first")
        self._squares = {}
        self._choose, self._queued = choose, False
        self._armed = True
        masks_rows = self._mask is not None and any(
            not bool(rows.all()) for rows in self._mask.values()
        )
        if masks_rows or choose is not None:
            self._install()
        if choose is None:
            self._remember()

    def disarm(self) -> None:
        """Let backward passes keep the dense gradient."""
        self._armed = False

    def masked_rows(self) -> Iterable[tuple[MaskedParameter, Tensor, Tensor]]:
        """Yield (parameter, its frozen rows here, their values when armed) while armed."""
        if self._armed and self._before:
            for name, masked in self._parameters.items():
                yield masked, self._frozen[name], self._before[name]

    def finish_step(self) -> StepReport:
        """Disarm and report; call it after the optimizer step.

        Raises:
            ConfigError: The mask was not armed.
            PrerequisiteError: A hook did not fire, or a masked row has a gradient or moved where
                it may not: the backend replaces parameters or gradients.
        """
        if not self._armed:
            raise ConfigError("finish_step without arm: arm the row mask before the backward pass")
        silent = set(self._parameters) - set(self._squares)
        if self._handles and silent:
            raise PrerequisiteError(
                f"the row mask never saw the gradient of {min(silent)}; use one process, DDP or "
                "FSDP2 (not FSDP version 1, DeepSpeed or a frozen projection)"
            )
        assert self._mask is not None  # arm or the backward pass has set it
        self._armed = False
        self._verify_once()
        drift_norm, drift_max = self._drift()
        if self._optimizer_handles and drift_max:
            raise PrerequisiteError(
                f"a masked row moved by {drift_max:g} with mask.update_semantics=strict; the "
                "optimizer does not run the hooks of torch.optim.Optimizer: use a torch optimizer"
            )
        overlap = None if self._previous is None else mask_overlap(self._previous, self._mask)
        self._before, self._previous = {}, self._mask
        return StepReport(
            update_ratios={name: rows.float().mean().item() for name, rows in self._mask.items()},
            rows_ratio=rows_ratio(self._mask),
            dense_norm=self._norm(0),
            kept_norm=self._norm(1),
            overlap=overlap,
            drift_norm=drift_norm,
            drift_max=drift_max,
        )

    def remove(self) -> None:
        """Remove all hooks; model and optimizer are as before."""
        for handle in (*self._handles, *self._optimizer_handles):
            handle.remove()
        self._handles, self._optimizer_handles, self._hooked = [], [], []
        self._before = {}
        self._armed = False

    def _install(self) -> None:
        """Hook the parameters as they are now; sharding replaces them once."""
        current = [masked.parameter for masked in self._parameters.values()]
        if len(current) == len(self._hooked) and all(
            ours is theirs for ours, theirs in zip(self._hooked, current, strict=True)
        ):
            return
        for handle in self._handles:
            handle.remove()
        self._hooked = current
        self._handles = [
            masked.parameter.register_post_accumulate_grad_hook(self._hook(masked))  # type: ignore[no-untyped-call]
            for masked in self._parameters.values()
        ]
        if self._mask is not None:
            self.set_mask(self._mask)

    def _hook(self, masked: MaskedParameter) -> Callable[[Tensor], None]:
        def mask_gradient(parameter: Tensor) -> None:
            if not self._armed or parameter.grad is None:
                return
            if self._choose is None:
                self._zero(masked, parameter.grad)
            elif not self._queued:
                self._queued = True
                # Twice: DDP and FSDP2 queue their own end of the backward pass before it ends.
                _after_backward(lambda: _after_backward(self._choose_and_zero))

        return mask_gradient

    def _choose_and_zero(self) -> None:
        assert self._choose is not None
        with torch.no_grad():
            norms = {p.parameter_name: row_norms(p.blocks[0]) for p in self._projections}
            self.set_mask(self._choose(norms))
            self._remember()
            for masked in self._parameters.values():
                if masked.parameter.grad is not None:
                    self._zero(masked, masked.parameter.grad)

    def _zero(self, masked: MaskedParameter, gradient: Tensor) -> None:
        local = processes.local_part(gradient)
        dense = local.float().square().sum()
        zero_rows(local, self._frozen[masked.name], masked.dim)
        self._squares[masked.name] = (dense, local.float().square().sum())

    def _remember(self) -> None:
        self._before = {
            name: take_rows(
                processes.local_part(masked.parameter.detach()), self._frozen[name], masked.dim
            )
            for name, masked in self._parameters.items()
        }

    def _verify_once(self) -> None:
        """Check after the first step that the optimizer saw no gradient of a masked row."""
        if self._verified:
            return
        self._verified = True
        for name, masked in self._parameters.items():
            gradient = masked.parameter.grad
            if gradient is None:
                continue
            rows = take_rows(processes.local_part(gradient), self._frozen[name], masked.dim)
            if bool(rows.any()):
                raise PrerequisiteError(
                    f"masked rows of {name} have a gradient after the optimizer step: something "
                    "writes gradients after the mask; use one process, DDP or FSDP2"
                )

    def _norm(self, which: int) -> float | None:
        """Return the norm over all watched gradients: 0 before the mask, 1 after it."""
        sharded = any(processes.is_sharded(m.parameter) for m in self._parameters.values())
        if not self._squares or (
            processes.world_size() > 1 and not sharded and self._choose is None
        ):
            return None
        total = torch.stack([squares[which] for squares in self._squares.values()]).sum()
        if sharded:
            total = processes.all_reduce(total, "sum")
        return math.sqrt(total.item())

    def _drift(self) -> tuple[float, float]:
        squares, largest = torch.zeros(()), torch.zeros(())
        for name, masked in self._parameters.items():
            now = processes.local_part(masked.parameter.detach())
            moved = take_rows(now, self._frozen[name], masked.dim) - self._before[name]
            if moved.numel():
                squares = squares.to(now.device) + moved.float().square().sum()
                largest = torch.maximum(largest.to(now.device), moved.float().abs().max())
        if any(processes.is_sharded(m.parameter) for m in self._parameters.values()):
            squares = processes.all_reduce(squares, "sum")
            largest = processes.all_reduce(largest, "max")
        return math.sqrt(squares.item()), largest.item()


def _after_backward(function: Callable[[], None]) -> None:
    """Run `function` when the backward pass that is under way has ended."""
    torch.autograd.Variable._execution_engine.queue_callback(function)


def _summary(lengths: Mapping[str, int]) -> str:
    return f"{len(lengths)} weights with {sum(lengths.values())} rows"
