"""Which rows of the query and key matrices a training run changed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from longact_cli.analysis.profile import Matrix, check_same_layout, matrices_of
from longact_cli.analysis.settings import Change
from longact_cli.config.schema import ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.masking.scores import base_rows
from longact_cli.masking.structure import find_projections
from longact_cli.masking.types import SaliencyMap
from longact_cli.models.loading import load_model, local_checkpoint


class RowChange(NamedTuple):
    """How far each row moved between two checkpoints.

    Attributes:
        label: Name of the run.
        matrices: Of the model.
        relative: ||after - before|| / ||before|| per row, float32 [rows] by matrix; a row that was
            zero counts with its absolute change.
    """

    label: str
    matrices: tuple[Matrix, ...]
    relative: SaliencyMap


def row_change(change: Change) -> RowChange:
    """Load both checkpoints one after the other and return how far rows moved; biases are left out.

    Raises:
        ConfigError: The checkpoints have different matrices, or are equal in all of them.
    """
    matrices, before = _weights(change.before)
    others, after = _weights(change.after)
    check_same_layout(matrices, others, f"the checkpoints of {change.label}")
    relative = {name: relative_change(rows, after[name]) for name, rows in before.items()}
    if not any(bool(values.any()) for values in relative.values()):
        raise ConfigError(
            f"the checkpoints of {change.label} have the same query and key weights; give the "
            "checkpoints before and after a run that trains them"
        )
    return RowChange(change.label, matrices, relative)


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """Return ||after - before|| / ||before|| of each row, float32 [rows].

    Args:
        before: [rows, features].
        after: The same shape.
    """
    size = before.float().norm(dim=1)
    moved = (after.float() - before.float()).norm(dim=1)
    relative: Tensor = moved / torch.where(size > 0, size, torch.ones_like(size))
    return relative


def _weights(config: ModelConfig) -> tuple[tuple[Matrix, ...], dict[str, Tensor]]:
    model: nn.Module = load_model(local_checkpoint(config), model=config)
    projections = find_projections(model)
    rows: Sequence[Tensor] = [base_rows(projection).clone() for projection in projections]
    names = [projection.parameter_name for projection in projections]
    return matrices_of(projections), dict(zip(names, rows, strict=True))
