"""Which rows of the query and key matrices a training run changed."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

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

Measure = Literal["relative", "absolute"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class RowChange(NamedTuple):
    """How far each row moved between two checkpoints.

    Attributes:
        label: Name of the run.
        matrices: Of the model.
        by_measure: `relative` and `absolute`, see `row_moves`: float32 [rows] by matrix.
    """

    label: str
    matrices: tuple[Matrix, ...]
    by_measure: Mapping[Measure, SaliencyMap]


def row_change(change: Change) -> RowChange:
    """Load both checkpoints one after the other and return how far rows moved; biases are left out.

    Raises:
        ConfigError: The checkpoints have different matrices, or are equal in all of them.
    """
    matrices, before = _weights(change.before)
    others, after = _weights(change.after)
    check_same_layout(matrices, others, f"the checkpoints of {change.label}")
    moves = {name: row_moves(rows, after[name]) for name, rows in before.items()}
    if not any(bool(found.absolute.any()) for found in moves.values()):
        raise ConfigError(
            f"the checkpoints of {change.label} have the same query and key weights; give the "
            "checkpoints before and after a run that trains them"
        )
    by_measure: Mapping[Measure, SaliencyMap] = {
        "relative": {name: found.relative for name, found in moves.items()},
        "absolute": {name: found.absolute for name, found in moves.items()},
    }
    return RowChange(change.label, matrices, by_measure)


class RowMoves(NamedTuple):
    """How far the rows of one matrix moved, float32 [rows] each.

    Attributes:
        relative: ||after - before|| / ||before||; of a row that was zero, its absolute change.
        absolute: ||after - before||.
    """

    relative: Tensor
    absolute: Tensor


def row_moves(before: Tensor, after: Tensor) -> RowMoves:
    """Return how far each row moved.

    Adam moves all entries of a weight by similar steps, so that the largest relative change is
    often that of the smallest row: hence both measures.

    Args:
        before: [rows, features].
        after: The same shape.
    """
    size = before.float().norm(dim=1)
    moved = (after.float() - before.float()).norm(dim=1)
    return RowMoves(moved / torch.where(size > 0, size, torch.ones_like(size)), moved)


def _weights(config: ModelConfig) -> tuple[tuple[Matrix, ...], dict[str, Tensor]]:
    model: nn.Module = load_model(local_checkpoint(config), model=config)
    projections = find_projections(model)
    rows: Sequence[Tensor] = [base_rows(projection).clone() for projection in projections]
    names = [projection.parameter_name for projection in projections]
    return matrices_of(projections), dict(zip(names, rows, strict=True))
