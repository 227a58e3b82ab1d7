"""Find the query and key projections of a model by what its attention layers own."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from longact_cli.errors import ConfigError

Kind = Literal["q", "k"]
_PROJECTION = {"q": "q_proj", "k": "k_proj"}
_NORM = {"q": "q_norm", "k": "k_norm"}


@dataclass(frozen=True)
class AttentionProjection:
    """One query or key projection.

    Attributes:
        parameter_name: Name of its weight in `model.named_parameters()`.
        kind: `q` or `k`.
        module: The linear layer; output row r of its weight makes channel r of the vector.
        norm: The norm on its output (QK norm), or None where the model has none.
        head_dim: Channels per head.
    """

    parameter_name: str
    kind: Kind
    module: nn.Linear
    norm: nn.Module | None
    head_dim: int

    @property
    def rows(self) -> int:
        """Output rows of the weight."""
        return self.module.out_features


def find_projections(
    model: nn.Module, targets: tuple[Kind, ...] = ("q", "k")
) -> tuple[AttentionProjection, ...]:
    """Return the projections of every attention layer, in the order of the layers.

    An attention layer is a module that owns linear layers called `q_proj` and `k_proj`; its own
    name and the name of the model do not matter.

    Raises:
        ConfigError: No module has them (fused query-key-value projections are not supported).
    """
    found = [
        _projection(name, module, kind)
        for name, module in model.named_modules()
        if _is_attention(module)
        for kind in targets
    ]
    if not found:
        raise ConfigError(
            f"model {type(model).__name__} has no module that owns linear layers 'q_proj' and "
            "'k_proj' (fused query-key-value projections are not supported); "
            "choose a model with separate projections"
        )
    return tuple(found)


def _is_attention(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), nn.Linear) for name in _PROJECTION.values())


def _projection(owner_name: str, owner: nn.Module, kind: Kind) -> AttentionProjection:
    linear = owner.get_submodule(_PROJECTION[kind])
    assert isinstance(linear, nn.Linear)  # _is_attention has checked it
    norm = getattr(owner, _NORM[kind], None)
    head_dim = getattr(owner, "head_dim", None)
    prefix = f"{owner_name}." if owner_name else ""
    return AttentionProjection(
        parameter_name=f"{prefix}{_PROJECTION[kind]}.weight",
        kind=kind,
        module=linear,
        norm=norm if isinstance(norm, nn.Module) else None,
        head_dim=head_dim if isinstance(head_dim, int) else linear.out_features,
    )
