"""Find the attention projections of a model by what its attention layers own."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from longact_cli.errors import ConfigError
from longact_cli.masking.fused import find_fused, output_channels
from longact_cli.masking.rotary import rotary_channels
from longact_cli.masking.types import Kind

_SEPARATE: dict[Kind, tuple[str, ...]] = {"q": ("q_proj",), "k": ("k_proj",), "v": ("v_proj",)}
_OUTPUT = ("o_proj", "out_proj", "c_proj", "dense")
_NORMS: dict[Kind, tuple[str, ...]] = {
    "q": ("q_norm", "q_layernorm", "query_layernorm"),
    "k": ("k_norm", "k_layernorm", "key_layernorm"),
}
_LOOKED_FOR = (
    "an attention module with linear layers 'q_proj' and 'k_proj', with one 'qkv_proj' whose rows "
    "are [q|k|v] (and 'o_proj'), or with one Conv1D 'c_attn' (and 'c_proj')"
)


class RowBlock(NamedTuple):
    """The part of one parameter that makes the channels of one projection.

    Attributes:
        name: The parameter's name in `model.named_parameters()`.
        module: Its owner; the parameter is looked up when needed, since sharding replaces it.
        attribute: Its name in the owner.
        dim: Dimension that runs over output channels; 1 for GPT-2's Conv1D weights, else 0.
        start: First channel of the block along `dim`.
        stop: One past the last.
    """

    name: str
    module: nn.Module
    attribute: str
    dim: int
    start: int
    stop: int

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as it is now."""
        found = getattr(self.module, self.attribute)
        assert isinstance(found, nn.Parameter)  # linear layers own parameters
        return found


@dataclass(frozen=True)
class AttentionProjection:
    """One query, key, value or output projection.

    Attributes:
        parameter_name: Its key in saliency maps and update masks: the name of its weight in
            `model.named_parameters()`, with `:q`, `:k` or `:v` where one weight holds several.
        kind: Which vector it makes.
        module: The layer whose output holds the vector.
        offset: Where its channels begin in that output.
        rows: How many channels it makes.
        blocks: What is masked; more than one with biases and adapters.
        norm: The norm on its output (QK norm), or None where the model has none.
        head_dim: Channels per head.
        rotary_dim: Channels per head that the rotary embedding turns in pairs (i, i + half);
            None where the model does not do so.
    """

    parameter_name: str
    kind: Kind
    module: nn.Module
    offset: int
    rows: int
    blocks: tuple[RowBlock, ...]
    norm: nn.Module | None
    head_dim: int
    rotary_dim: int | None


def find_projections(
    model: nn.Module, targets: Sequence[Kind] = ("q", "k")
) -> tuple[AttentionProjection, ...]:
    """Return the projections of every attention layer, in the order of the layers.

    Attention layers are found by what they own; their names and the model's do not matter. With
    LoRA, the rows of `lora_B` are masked: row r of B makes row r of the weight's change.

    Raises:
        ConfigError: No layer is laid out in a way that is understood, or two projections share a
            parameter.
    """
    found = [
        projection
        for name, module in model.named_modules()
        for projection in _projections_of(name, module, targets)
    ]
    if not found:
        raise ConfigError(
            f"model {type(model).__name__} has no projections to mask; looked for {_LOOKED_FOR}; "
            f"its attention modules own: {_seen(model)}"
        )
    _refuse_shared(found)
    return tuple(found)


def _projections_of(
    name: str, owner: nn.Module, targets: Sequence[Kind]
) -> Iterator[AttentionProjection]:
    fused = find_fused(owner)
    separate = all(_child(owner, _SEPARATE[kind]) for kind in ("q", "k"))
    if fused is None and not separate:
        return
    for kind in targets:
        if fused is not None and kind in fused.channels:
            start, stop = fused.channels[kind]
            yield _projection(owner, kind, path=_join(name, fused.attribute), span=(start, stop))
            continue
        attribute = _child(owner, _OUTPUT if kind == "o" else _SEPARATE[kind])
        if attribute is None:
            raise ConfigError(
                f"mask.targets has '{kind}' and {name} owns none of "
                f"{', '.join(_OUTPUT if kind == 'o' else _SEPARATE[kind])}; leave it out"
            )
        yield _projection(owner, kind, path=_join(name, attribute), span=None)


def _projection(
    owner: nn.Module, kind: Kind, *, path: str, span: tuple[int, int] | None
) -> AttentionProjection:
    layer = owner.get_submodule(path.rsplit(".", 1)[-1])
    total = output_channels(layer)
    start, stop = span or (0, total)
    blocks = tuple(_blocks(layer, path, start=start, stop=stop))
    head_dim = stop - start if kind == "o" else _head_dim(owner, stop - start)
    _check_heads(owner, kind, path=path, rows=stop - start)
    norm = _child(owner, _NORMS.get(kind, ()))
    return AttentionProjection(
        parameter_name=blocks[0].name + (f":{kind}" if span else ""),
        kind=kind,
        module=layer,
        offset=start,
        rows=stop - start,
        blocks=blocks,
        norm=getattr(owner, norm) if norm else None,
        head_dim=head_dim,
        rotary_dim=rotary_channels(owner, head_dim) if kind in ("q", "k") else None,
    )


def _blocks(layer: nn.Module, path: str, *, start: int, stop: int) -> Iterator[RowBlock]:
    """Yield the weight and the bias, or those of `lora_B` where the layer carries adapters."""
    adapters = getattr(layer, "lora_B", None)
    if not isinstance(adapters, nn.ModuleDict):
        dim = 1 if hasattr(layer, "nf") else 0
        yield RowBlock(f"{path}.weight", layer, "weight", dim, start, stop)
        if getattr(layer, "bias", None) is not None:
            yield RowBlock(f"{path}.bias", layer, "bias", 0, start, stop)
        return
    if getattr(layer, "lora_magnitude_vector", None):
        raise ConfigError(
            f"{path} carries DoRA, whose magnitudes move every row; use plain LoRA adapters"
        )
    for adapter in getattr(layer, "active_adapters", ()):
        if adapter in adapters:
            where = f"{path}.lora_B.{adapter}"
            yield RowBlock(f"{where}.weight", adapters[adapter], "weight", 0, start, stop)
            if adapters[adapter].bias is not None:
                yield RowBlock(f"{where}.bias", adapters[adapter], "bias", 0, start, stop)


def _child(owner: nn.Module, names: Iterable[str]) -> str | None:
    """Return the first of these names under which the module owns a layer with a weight."""
    for name in names:
        layer = getattr(owner, name, None)
        if isinstance(layer, nn.Module) and (
            isinstance(getattr(layer, "weight", None), Tensor) or hasattr(layer, "base_layer")
        ):
            return name
    return None


def _head_dim(owner: nn.Module, rows: int) -> int:
    head_dim = getattr(owner, "head_dim", None)
    return head_dim if isinstance(head_dim, int) and rows % head_dim == 0 else rows


def _check_heads(owner: nn.Module, kind: Kind, *, path: str, rows: int) -> None:
    """Refuse a projection that makes more than its vector, e.g. a gate beside the query.

    Raises:
        ConfigError: Its rows are not heads x head_dim.
    """
    config = getattr(owner, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    if kind == "k":
        heads = getattr(config, "num_key_value_heads", heads)
    declared = getattr(owner, "head_dim", None)
    if kind in ("q", "k") and isinstance(heads, int) and isinstance(declared, int):
        if rows != heads * declared:
            raise ConfigError(
                f"{path} has {rows} rows, not {heads} heads x {declared}: it makes more than "
                "the vector (a gate?), and its layout is not understood; choose another model"
            )


def _refuse_shared(projections: Iterable[AttentionProjection]) -> None:
    seen: dict[tuple[int, int], str] = {}
    for projection in projections:
        for block in projection.blocks:
            key = (id(block.parameter), block.start)
            if key in seen:
                raise ConfigError(
                    f"{seen[key]} and {block.name} are one parameter; layers that share their "
                    "projections cannot be masked one by one"
                )
            seen[key] = block.name


def _join(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner else name


def _seen(model: nn.Module) -> str:
    names = {
        child
        for module in model.modules()
        if "attention" in type(module).__name__.lower()
        for child, layer in module.named_children()
        if getattr(layer, "weight", None) is not None
    }
    return ", ".join(sorted(names)) or "nothing (no module is called attention)"
