"""Scores of rows that come from weights instead of activations."""

from collections.abc import Iterable

import torch
from torch import Tensor

from longact_cli.masking import processes
from longact_cli.masking.fused import base_weight
from longact_cli.masking.structure import AttentionProjection, RowBlock
from longact_cli.masking.types import SaliencyMap


def weight_norms(projections: Iterable[AttentionProjection]) -> SaliencyMap:
    """Return the L2 norm of each row of the weight that makes the channel, float32 [rows].

    With LoRA, that is the row of the frozen weight: `lora_B` starts at zero and ranks nothing.
    """
    return {p.parameter_name: base_rows(p).norm(dim=1) for p in projections}


def wanda_scores(projections: Iterable[AttentionProjection], input_rms: SaliencyMap) -> SaliencyMap:
    """Return the L2 norm over columns of |W_rc| x rms of input c, float32 [rows].

    Args:
        projections: Whose rows are scored.
        input_rms: Root mean square of each input feature, [features], per projection.
    """
    return {
        p.parameter_name: (base_rows(p) * input_rms[p.parameter_name]).norm(dim=1)
        for p in projections
    }


@torch.no_grad()
def base_rows(projection: AttentionProjection) -> Tensor:
    """Return the weight rows of a projection, float32 [rows, features], on every process."""
    own, transposed = base_weight(projection.module)
    weight = processes.full_tensor(own.detach()).float()
    rows = weight.t() if transposed else weight
    return rows[projection.offset : projection.offset + projection.rows]


def row_norms(block: RowBlock) -> Tensor:
    """Return the L2 norm of each gradient row of a block's weight, float32, on every process."""
    gradient = block.parameter.grad
    whole = torch.zeros_like(block.parameter) if gradient is None else gradient
    whole = processes.full_tensor(whole.detach()).float()
    rows = whole.t() if block.dim == 1 else whole
    norms: Tensor = rows[block.start : block.stop].norm(dim=1)
    return norms
