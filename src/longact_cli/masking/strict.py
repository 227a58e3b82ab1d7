"""Strict semantics: a masked row does not move at all in a step.

A zero gradient does not stop AdamW: momentum of earlier steps and decoupled weight decay still move
a row. Before the step the moments of masked rows are zeroed; after it their values are put back, so
that neither decay nor the optimizer's kernel matters. Active rows see the optimizer's own
arithmetic and no other, and parameter groups stay as they are.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from longact_cli.masking import processes
from longact_cli.masking.parts import MaskedParameter, put_rows, zero_rows


class _HasMaskedRows(Protocol):
    def masked_rows(self) -> Iterable[tuple[MaskedParameter, Tensor, Tensor]]:
        """Yield (parameter, frozen rows, their values when armed)."""
        ...


def hold_rows(optimizer: Optimizer, row_mask: _HasMaskedRows) -> list[RemovableHandle]:
    """Hook `optimizer` (or what a wrapper holds) so that the masked rows of a step stand still."""
    inner = torch_optimizer(optimizer)

    @torch.no_grad()
    def before_step(stepping: Optimizer, args: Any, kwargs: Any) -> None:
        for masked, rows, _ in row_mask.masked_rows():
            for value in stepping.state.get(masked.parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == masked.parameter.shape:
                    zero_rows(processes.local_part(value), rows, masked.dim)

    @torch.no_grad()
    def after_step(stepping: Optimizer, args: Any, kwargs: Any) -> None:
        for masked, rows, values in row_mask.masked_rows():
            put_rows(processes.local_part(masked.parameter), rows, masked.dim, values)

    return [
        inner.register_step_pre_hook(before_step),
        inner.register_step_post_hook(after_step),
    ]


def torch_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the torch optimizer inside wrappers such as accelerate's."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer  # type: ignore[attr-defined]
    return optimizer
