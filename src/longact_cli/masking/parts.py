"""A masked parameter as this process holds it: which of its entries are frozen in a step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longact_cli.masking import processes
from longact_cli.masking.structure import AttentionProjection, RowBlock
from longact_cli.masking.types import UpdateMask


@dataclass(frozen=True)
class MaskedParameter:
    """One parameter with the blocks of rows that masks apply to.

    Attributes:
        name: As in `model.named_parameters()`.
        blocks: Pairs (projection, block); a fused weight has one for each vector.
    """

    name: str
    blocks: tuple[tuple[str, RowBlock], ...]

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as it is now; sharding may have replaced it."""
        return self.blocks[0][1].parameter

    @property
    def dim(self) -> int:
        """The dimension that runs over rows."""
        return self.blocks[0][1].dim

    def frozen_rows(self, mask: UpdateMask) -> Tensor:
        """Return the indices of rows that are not updated, within this process's shard.

        Rows that belong to no projection (values of a fused weight) are updated.
        """
        parameter = self.parameter
        frozen = torch.zeros(parameter.shape[self.dim], dtype=torch.bool)
        for projection, block in self.blocks:
            frozen[block.start : block.stop] = ~mask[projection]
        local = processes.local_rows(frozen, parameter, self.dim)
        return local.nonzero().flatten().to(parameter.device)


def masked_parameters(projections: Iterable[AttentionProjection]) -> Iterator[MaskedParameter]:
    """Yield every parameter that holds rows of these projections, biases and adapters included."""
    grouped: dict[str, list[tuple[str, RowBlock]]] = {}
    for projection in projections:
        for block in projection.blocks:
            grouped.setdefault(block.name, []).append((projection.parameter_name, block))
    for name, blocks in grouped.items():
        yield MaskedParameter(name, tuple(blocks))


def zero_rows(tensor: Tensor, rows: Tensor, dim: int) -> None:
    """Set the entries of `rows` (indices) along `dim` to zero in place, NaN included."""
    tensor.index_fill_(dim, rows, 0.0)


def take_rows(tensor: Tensor, rows: Tensor, dim: int) -> Tensor:
    """Return a copy of the entries of `rows` (indices) along `dim`."""
    return tensor.index_select(dim, rows)


def put_rows(tensor: Tensor, rows: Tensor, dim: int, values: Tensor) -> None:
    """Write `values` where `take_rows` read them."""
    tensor.index_copy_(dim, rows, values)
