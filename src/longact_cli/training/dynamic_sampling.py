"""Dynamic sampling: groups whose accuracies are all equal teach nothing and are replaced.

A group is judged by its accuracy alone: with a length punishment the summed reward of a group that
is wrong throughout would still vary.

Source: DAPO, arXiv 2503.14476, section 3.2. Where the allowed number of generations does not fill
the batch, DAPO's code stops the run; here the missing groups stay out of the loss and are counted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longact_cli.training.data import PromptRow, PromptSource

Batch = Mapping[str, Tensor]

_LEFT = {"prompt_ids": None, "prompt_mask": 0.0}
_RIGHT = {
    "completion_ids": None,
    "completion_mask": 0.0,
    "old_per_token_logps": 0.0,
    "ref_per_token_logps": 0.0,
    "sampling_per_token_logps": 0.0,
    "importance_sampling_ratio": 1.0,
}
"""Fields of a batch by the side on which they are padded, and with what; None = padding token."""


class Scored(NamedTuple):
    """Rollouts of whole groups, rows of one group side by side.

    Attributes:
        batch: The trainer's tensors, [rows, ...].
        accuracy: [rows].
    """

    batch: Batch
    accuracy: Tensor


class Filled(NamedTuple):
    """A batch with as many groups as were asked for.

    Attributes:
        batch: The trainer's tensors; missing groups have an empty completion mask.
        generations: How often rollouts were generated.
        generated: Groups generated on this process.
        missing: Groups without a replacement on this process.
    """

    batch: Batch
    generations: int
    generated: int
    missing: int


class RefillPrompts:
    """Prompts beyond those of the regular steps, in order; the position survives a resume."""

    def __init__(self, source: PromptSource, *, start: int) -> None:
        """Begin with prompt number `start` of `source`."""
        self.source = source
        self.start = start
        self.position = 0

    def draw(self, count: int, *, at: int) -> list[PromptRow]:
        """Return the next `count` prompts.

        Args:
            count: How many.
            at: Number of the regular prompt that they replace, for the length curriculum.
        """
        first = self.start + self.position
        self.position += count
        return [self.source.row(index, at=at) for index in range(first, first + count)]


class DynamicSampler:
    """Replaces groups without signal by new ones, equally often on every process."""

    def __init__(
        self,
        prompts: RefillPrompts,
        *,
        group_size: int,
        max_generation_batches: int,
        pad_token_id: int,
        accelerator: Any,
    ) -> None:
        """Keep the settings.

        Args:
            prompts: Where replacements come from.
            group_size: Rollouts of one prompt.
            max_generation_batches: The first generation included.
            pad_token_id: Pads prompts and completions of different generations.
            accelerator: Counts what is missing over all processes.
        """
        self.prompts = prompts
        self._group_size = group_size
        self._most = max_generation_batches
        self._pad_token_id = pad_token_id
        self._accelerator = accelerator

    def fill(
        self, first: Scored, generate: Callable[[list[PromptRow]], Scored], *, at: int
    ) -> Filled:
        """Return a batch as large as the first generation's, of groups with signal.

        Args:
            first: Rollouts of the regular prompts.
            generate: Makes rollouts of the given rows and scores them.
            at: Number of the first regular prompt of this batch.
        """
        wanted = len(first.accuracy) // self._group_size
        scored, live = [first], [self._live_rows(first)]
        generated = wanted
        while short := self._shortage(wanted * self._group_size - sum(map(len, live))):
            if len(scored) == self._most:
                break
            prompts = self._own(self.prompts.draw(short * self._accelerator.num_processes, at=at))
            scored.append(generate([row for row in prompts for _ in range(self._group_size)]))
            live.append(self._live_rows(scored[-1]))
            generated += short
        parts = [_rows(one.batch, rows) for one, rows in zip(scored, live, strict=True)]
        missing = max(0, wanted - sum(map(len, live)) // self._group_size)
        if missing:
            parts.append(self._placeholders(first, missing))
        batch = join(parts, rows=wanted * self._group_size, pad_token_id=self._pad_token_id)
        return Filled(self._recounted(batch), len(scored), generated, missing)

    def filter(self, first: Scored) -> Filled:
        """Return the first generation with groups without signal taken out of the loss."""
        keep = live_groups(first.accuracy, self._group_size).repeat_interleave(self._group_size)
        mask = first.batch["completion_mask"] * keep.unsqueeze(1)
        wanted = len(keep) // self._group_size
        missing = int((~keep).sum()) // self._group_size
        batch = self._recounted({**first.batch, "completion_mask": mask})
        return Filled(batch, 1, wanted, missing)

    def _live_rows(self, scored: Scored) -> Tensor:
        live = live_groups(scored.accuracy, self._group_size)
        return live.repeat_interleave(self._group_size).nonzero().flatten()

    def _shortage(self, rows: int) -> int:
        """Return the most groups that any process still lacks."""
        lacking = torch.tensor([max(rows, 0)], device=self._accelerator.device)
        return int(self._accelerator.gather(lacking).max()) // self._group_size

    def _own(self, prompts: Sequence[PromptRow]) -> Sequence[PromptRow]:
        size = len(prompts) // self._accelerator.num_processes
        start = self._accelerator.process_index * size
        return prompts[start : start + size]

    def _placeholders(self, first: Scored, groups: int) -> Batch:
        """Return groups without signal, out of the loss, to keep the batch's size."""
        dead = ~live_groups(first.accuracy, self._group_size).repeat_interleave(self._group_size)
        rows = dead.nonzero().flatten()[: groups * self._group_size]
        batch = _rows(first.batch, rows)
        return {**batch, "completion_mask": torch.zeros_like(batch["completion_mask"])}

    def _recounted(self, batch: Batch) -> Batch:
        tokens = self._accelerator.gather(batch["completion_mask"].sum()).sum()
        return {**batch, "num_items_in_batch": tokens}


def live_groups(accuracy: Tensor, group_size: int) -> Tensor:
    """Return bool [groups]: whether the accuracies of a group differ at all."""
    groups = accuracy.view(-1, group_size)
    return groups.amax(dim=1) != groups.amin(dim=1)


def join(batches: Sequence[Batch], *, rows: int, pad_token_id: int) -> Batch:
    """Return the first `rows` rows of all batches, padded to common lengths.

    Raises:
        RuntimeError: A batch has a field that is not known here.
    """
    unknown = set(batches[0]) - {*_LEFT, *_RIGHT, "advantages", "num_items_in_batch"}
    if unknown:
        raise RuntimeError(f"TRL's batch has new fields {sorted(unknown)}: adapt {__name__}")
    return {
        name: torch.cat(_aligned(name, [batch[name] for batch in batches], pad_token_id))[:rows]
        for name in batches[0]
        if name != "num_items_in_batch"
    }


def _aligned(name: str, tensors: Sequence[Tensor], pad_token_id: int) -> list[Tensor]:
    if tensors[0].dim() == 1:
        return list(tensors)
    padding = {**_LEFT, **_RIGHT}[name]
    value = pad_token_id if padding is None else padding
    longest = max(tensor.shape[1] for tensor in tensors)

    def sides(tensor: Tensor) -> tuple[int, int]:
        missing = longest - tensor.shape[1]
        return (missing, 0) if name in _LEFT else (0, missing)

    return [torch.nn.functional.pad(tensor, sides(tensor), value=value) for tensor in tensors]


def _rows(batch: Batch, rows: Tensor) -> Batch:
    return {name: values[rows] for name, values in batch.items() if values.dim()}
