"""What masking needs of a distributed run: sums over processes and the rows of a shard."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.masking.statistics import Operation


def world_size() -> int:
    """Return how many processes take part; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce(tensor: Tensor, operation: Operation) -> Tensor:
    """Return the sum or maximum of `tensor` over all processes, the same on each."""
    if world_size() == 1:
        return tensor
    result = tensor.clone()
    dist.all_reduce(result, dist.ReduceOp.MAX if operation == "max" else dist.ReduceOp.SUM)
    return result


def gather_keys(keys: list[bytes]) -> list[list[bytes]]:
    """Return the keys of every process in rank order; a collective call."""
    if world_size() == 1:
        return [keys]
    gathered: list[list[bytes]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, keys)
    return gathered


def rank() -> int:
    """Return this process's place; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def is_sharded(parameter: Tensor) -> bool:
    """Return whether this is a distributed tensor, as FSDP2 makes them."""
    return hasattr(parameter, "placements") and hasattr(parameter, "device_mesh")


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's shard of a distributed tensor; it shares memory."""
    if not is_sharded(tensor):
        return tensor
    part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the whole of a distributed tensor on every process; a collective call."""
    if not is_sharded(tensor):
        return tensor
    whole: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return whole


def local_rows(rows: Tensor, parameter: Tensor, dim: int) -> Tensor:
    """Return the entries of `rows` that belong to this process's shard of `parameter`.

    Args:
        rows: One entry per index along `dim` of the whole parameter.
        parameter: Plain or distributed.
        dim: The dimension `rows` runs along.

    Raises:
        PrerequisiteError: The parameter is sharded in a way that is not understood.
    """
    if not is_sharded(parameter):
        return rows
    from torch.distributed.tensor import Replicate, Shard

    for mesh_dim, placement in enumerate(parameter.placements):  # type: ignore[attr-defined]
        mesh = parameter.device_mesh  # type: ignore[attr-defined]
        if type(placement) is Shard:
            if placement.dim == dim:
                parts = torch.chunk(rows, mesh.size(mesh_dim))
                place = mesh.get_local_rank(mesh_dim)
                rows = parts[place] if place < len(parts) else rows[:0]
        elif not isinstance(placement, Replicate):
            raise PrerequisiteError(
                f"a masked weight is placed as {placement}; the row mask understands FSDP2's "
                "Shard and Replicate only"
            )
    return rows


def refuse_unsupported(model: nn.Module) -> None:
    """Refuse backends under which a gradient hook cannot be right.

    Raises:
        ConfigError: The model is managed by DeepSpeed or by FSDP version 1.
    """
    for parameter in model.parameters():
        if type(parameter).__name__ == "FlatParameter" or hasattr(parameter, "_is_flat_param"):
            raise ConfigError(
                "the row mask cannot work under FSDP version 1, which flattens weights; set "
                "fsdp_version: 2 in the accelerate configuration"
            )
        if hasattr(parameter, "ds_id"):
            raise ConfigError(_DEEPSPEED)


def refuse_accelerate_backends() -> None:
    """Refuse what accelerate says it has been set up with, if it has been set up.

    Raises:
        ConfigError: It is DeepSpeed, FSDP version 1 or Megatron.
    """
    from accelerate.state import AcceleratorState

    state = AcceleratorState._shared_state  # what Accelerator() has set; constructing one resets it
    kind = str(getattr(state.get("distributed_type"), "value", ""))
    if state.get("deepspeed_plugins") and kind != "MEGATRON_LM":
        kind = "DEEPSPEED"
    if kind in ("DEEPSPEED", "MEGATRON_LM"):
        raise ConfigError(_DEEPSPEED.replace("DeepSpeed", kind))
    plugin = state.get("fsdp_plugin")
    if plugin is not None and getattr(plugin, "fsdp_version", 1) != 2:
        raise ConfigError(
            "the row mask cannot work under FSDP version 1, which flattens weights; set "
            "fsdp_version: 2 in the accelerate configuration"
        )


_DEEPSPEED = (
    "the row mask cannot work under DeepSpeed, which reduces gradients before the mask and clips "
    "and steps inside backward; use DDP or FSDP2 (accelerate with fsdp_version: 2)"
)
