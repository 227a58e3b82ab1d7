"""Deal rollouts out to optimizer steps in whole groups."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from longact_cli.masking.tokens import prompt_keys

Batch = Mapping[str, Tensor]


def whole_groups(batches: Sequence[Batch]) -> list[Batch]:
    """Return micro-batches of the same rollouts and sizes in which those of a prompt follow.

    Groups come in the order in which the given micro-batches first show them: shuffled as before.

    Args:
        batches: Of equal size, with `prompt_ids` and `prompt_mask`; tensors with a row for each
            rollout are dealt out again, all else stays where it is.
    """
    keys = [
        key for batch in batches for key in prompt_keys(batch["prompt_ids"], batch["prompt_mask"])
    ]
    place: dict[bytes, int] = {}
    for key in keys:
        place.setdefault(key, len(place))
    order = torch.tensor(sorted(range(len(keys)), key=lambda row: place[keys[row]]))
    size = len(keys) // len(batches)
    dealt = [dict(batch) for batch in batches]
    for name, value in batches[0].items():
        if isinstance(value, Tensor) and value.dim() and len(value) == size:
            joined = torch.cat([batch[name] for batch in batches])[order.to(value.device)]
            for batch, part in zip(dealt, torch.split(joined, size), strict=True):
                batch[name] = part
    return list(dealt)
