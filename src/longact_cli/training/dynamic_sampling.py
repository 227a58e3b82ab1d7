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
_PLACE = "place"
_ROUND = 1 << 40
"""A row's place counts rows of all processes within one round of generation."""


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
        batch: This process's tensors; missing groups have an empty completion mask.
        generations: How often rollouts were generated.
        generated: Groups generated on all processes together.
        missing: Groups without a replacement on all processes together.
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
    """Replaces groups without signal by new ones, as one process with the whole batch would.

    Each round draws as many prompts as are missing on all processes together, and shares the work:
    where the number does not divide, some processes generate a group that is thrown away. Groups
    then move between processes, so that all hold equally many.
    """

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
            accelerator: Joins what all processes hold.
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
            first: Rollouts of this process's regular prompts.
            generate: Makes rollouts of the given rows and scores them.
            at: Number of the first regular prompt of this batch.
        """
        groups = len(first.accuracy) // self._group_size
        wanted = generated = groups * self._accelerator.num_processes
        live = live_groups(first.accuracy, self._group_size)
        parts = [self._part(first, live, round_=0)]
        missing = wanted - self._everywhere(live)
        rounds = 1
        while missing and rounds < self._most:
            scored, fresh = self._more(generate, missing, at=at)
            new = live_groups(scored.accuracy, self._group_size) & fresh
            parts.append(self._part(scored, new, round_=rounds))
            generated += missing
            missing -= self._everywhere(new)
            rounds += 1
        if missing:
            parts.append(self._placeholders(first, ~live))
        return Filled(self._shared(parts, groups), rounds, generated, missing)

    def filter(self, first: Scored) -> Filled:
        """Return the first generation with groups without signal taken out of the loss."""
        live = live_groups(first.accuracy, self._group_size)
        keep = live.repeat_interleave(self._group_size)
        mask = first.batch["completion_mask"] * keep.unsqueeze(1)
        wanted = len(live) * self._accelerator.num_processes
        batch = self._recounted({**first.batch, "completion_mask": mask})
        return Filled(batch, 1, wanted, wanted - self._everywhere(live))

    def _more(
        self, generate: Callable[[list[PromptRow]], Scored], missing: int, *, at: int
    ) -> tuple[Scored, Tensor]:
        """Generate `missing` groups together; return this process's, and which of them count."""
        accelerator = self._accelerator
        share = -(-missing // accelerator.num_processes)
        numbers = range(share * accelerator.process_index, share * (accelerator.process_index + 1))
        prompts = self.prompts.draw(missing, at=at)
        own = [prompts[min(number, missing - 1)] for number in numbers]
        scored = generate([row for row in own for _ in range(self._group_size)])
        fresh = [number < missing for number in numbers]
        return scored, torch.tensor(fresh, device=scored.accuracy.device)

    def _part(self, scored: Scored, chosen: Tensor, *, round_: int) -> dict[str, Tensor]:
        """Return the chosen groups, each row with its place in the order of all processes."""
        rows = chosen.repeat_interleave(self._group_size).nonzero().flatten()
        place = rows + self._accelerator.process_index * len(scored.accuracy)
        return {**_rows(scored.batch, rows), _PLACE: place + round_ * _ROUND}

    def _placeholders(self, first: Scored, dead: Tensor) -> dict[str, Tensor]:
        """Return groups without signal, out of the loss, to keep the batch's size."""
        part = self._part(first, dead, round_=self._most)
        return {**part, "completion_mask": torch.zeros_like(part["completion_mask"])}

    def _shared(self, parts: Sequence[Batch], groups: int) -> Batch:
        """Return this process's equal share of all groups, in the order they were generated."""
        accelerator = self._accelerator
        batch = join(parts, pad_token_id=self._pad_token_id)
        if accelerator.num_processes > 1 and len(parts) > 1:
            batch = {name: self._gathered(name, values) for name, values in batch.items()}
            batch = _rows(batch, (batch[_PLACE] >= 0).nonzero().flatten())
        size = groups * self._group_size
        start = size * accelerator.process_index if len(parts) > 1 else 0
        order = batch[_PLACE].argsort(stable=True)[start : start + size]
        rows = _rows({n: values for n, values in batch.items() if n != _PLACE}, order)
        return self._recounted(rows)

    def _gathered(self, name: str, values: Tensor) -> Tensor:
        """Return the rows of all processes; rows that only fill up have the place -1."""
        accelerator, dtype = self._accelerator, values.dtype
        if values.dim() > 1:
            values = accelerator.pad_across_processes(
                values, dim=1, pad_index=self._padding(name), pad_first=name in _LEFT
            )
        fill = -1 if name == _PLACE else 0
        values = accelerator.pad_across_processes(values, dim=0, pad_index=fill)
        # Padding with a float turns integers into floats, on the processes that need padding.
        gathered: Tensor = accelerator.gather(values.to(dtype).contiguous())
        return gathered

    def _padding(self, name: str) -> float:
        padding = {**_LEFT, **_RIGHT}[name]
        return self._pad_token_id if padding is None else padding

    def _everywhere(self, chosen: Tensor) -> int:
        """Return how many groups are chosen on all processes together."""
        return int(self._accelerator.gather(chosen.sum().reshape(1)).sum())

    def _recounted(self, batch: Batch) -> Batch:
        tokens = self._accelerator.gather(batch["completion_mask"].sum().reshape(1)).sum()
        return {**batch, "num_items_in_batch": tokens}


def live_groups(accuracy: Tensor, group_size: int) -> Tensor:
    """Return bool [groups]: whether the accuracies of a group differ at all."""
    groups = accuracy.view(-1, group_size)
    return groups.amax(dim=1) != groups.amin(dim=1)


def join(batches: Sequence[Batch], *, pad_token_id: int) -> Batch:
    """Return the rows of all batches, padded to common lengths.

    Raises:
        RuntimeError: A batch has a field that is not known here.
    """
    unknown = set(batches[0]) - {*_LEFT, *_RIGHT, "advantages", "num_items_in_batch", _PLACE}
    if unknown:
        raise RuntimeError(f"TRL's batch has new fields {sorted(unknown)}: adapt {__name__}")
    return {
        name: torch.cat(_aligned(name, [batch[name] for batch in batches], pad_token_id))
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


def _rows(batch: Batch, rows: Tensor) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in batch.items() if values.dim()}
