"""Split the rollouts of an optimizer step into micro-batches that fill a budget of tokens.

A micro-batch is a rectangle: prompts x (longest prompt + completions per prompt x longest
completion). Rollouts of one prompt stay together where they fit, prompts of similar length meet,
and of all ways to cut the prompts in that order the one with the fewest micro-batches, then the
fewest tokens, is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longact_cli.masking.tokens import prompt_keys

Batch = Mapping[str, Tensor]
Parts = tuple[tuple[int, ...], ...]
"""The rows of each micro-batch, in ascending order."""


class Rollouts(NamedTuple):
    """The sizes of rollouts, one entry for each.

    Attributes:
        prompts: Prompt tokens.
        completions: Completion tokens, at least 1.
        groups: Equal where two rollouts are read with one prompt.
    """

    prompts: Sequence[int]
    completions: Sequence[int]
    groups: Sequence[int]


def rollouts_of(
    prompt_ids: Tensor, prompt_mask: Tensor, *, completion_mask: Tensor, share: bool
) -> Rollouts:
    """Return the sizes of [rows, time]; without `share` every rollout has a prompt of its own."""
    columns = torch.arange(1, completion_mask.shape[1] + 1, device=completion_mask.device)
    ends = (completion_mask.bool() * columns).amax(dim=1).clamp(min=1)
    groups: Sequence[int] = range(len(prompt_ids))
    if share:
        places: dict[bytes, int] = {}
        keys = prompt_keys(prompt_ids, prompt_mask)
        groups = [places.setdefault(key, len(places)) for key in keys]
    return Rollouts(prompt_mask.bool().sum(dim=1).tolist(), ends.tolist(), groups)


def divide_by_tokens(
    rollouts: Rollouts, budget: int, *, same_count: Callable[[int], int] = int
) -> Parts:
    """Return micro-batches of at most `budget` tokens; each row is in exactly one.

    A rollout above the budget goes alone. There are never more micro-batches than if single
    rollouts, the longest first, went into the first micro-batch with room.

    Args:
        rollouts: All rollouts of the step.
        budget: Tokens.
        same_count: This process's number of micro-batches -> the number it has to come to, at
            least as many; processes that step together need the same.
    """
    pieces = sorted(_pieces(rollouts, budget), key=_longest_first)
    single = sorted(
        (_piece(rollouts, [row]) for row in range(len(rollouts.prompts))), key=_longest_first
    )
    boxes = min(_cut(pieces, budget), _first_fit(single, budget), key=len)
    wanted = same_count(len(boxes))
    while len(boxes) < wanted:
        boxes = _with_one_more(boxes)
    return tuple(tuple(sorted(row for piece in box for row in piece.rows)) for box in boxes)


def loss_weights(loss_type: str, *, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Return what each micro-batch's loss counts in the loss of the undivided step.

    Args:
        loss_type: TRL's name. `dapo` and `cispo` divide by the tokens of the whole step already,
            `bnpo` by those of the micro-batch, `grpo` and `dr_grpo` by its rows.
        rows: Rollouts of each micro-batch.
        tokens: Completion tokens of each that count in the loss.
    """
    if loss_type in ("dapo", "cispo"):
        return [1.0] * len(rows)
    if loss_type == "bnpo":
        return [max(count, 1) / max(sum(tokens), 1) for count in tokens]
    return [count / sum(rows) for count in rows]


def divided(batch: Batch, parts: Parts) -> list[Batch]:
    """Return the micro-batches; what has no rows, like the step's token count, stays whole."""
    return [
        {name: value[list(rows)] if value.dim() else value for name, value in batch.items()}
        for rows in parts
    ]


class _Piece(NamedTuple):
    """Rollouts of one prompt that stay together."""

    rows: tuple[int, ...]
    group: int
    prompt: int
    completion: int


class _Box:
    """A micro-batch that is being filled."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.tokens = 0
        self._prompt = self._completion = self._slots = 0
        self._members: dict[int, int] = {}

    def tokens_with(self, piece: _Piece) -> int:
        members = self._members.get(piece.group, 0) + len(piece.rows)
        prompts = len(self._members) + (piece.group not in self._members)
        width = max(self._slots, members) * max(self._completion, piece.completion)
        return prompts * (max(self._prompt, piece.prompt) + width)

    def add(self, piece: _Piece) -> None:
        self.tokens = self.tokens_with(piece)
        self.pieces.append(piece)
        self._members[piece.group] = self._members.get(piece.group, 0) + len(piece.rows)
        self._slots = max(self._slots, self._members[piece.group])
        self._prompt = max(self._prompt, piece.prompt)
        self._completion = max(self._completion, piece.completion)


def _piece(rollouts: Rollouts, rows: Sequence[int]) -> _Piece:
    longest = max(rollouts.completions[row] for row in rows)
    return _Piece(tuple(rows), rollouts.groups[rows[0]], rollouts.prompts[rows[0]], longest)


def _longest_first(piece: _Piece) -> tuple[int, ...]:
    return (-piece.prompt, -piece.completion, *piece.rows)


def _pieces(rollouts: Rollouts, budget: int) -> list[_Piece]:
    """Return the groups, those above the budget in as few pieces as possible."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(rollouts.groups):
        members.setdefault(group, []).append(row)
    pieces = []
    for rows in members.values():
        left = sorted(rows, key=lambda row: -rollouts.completions[row])
        while left:
            room = budget - rollouts.prompts[left[0]]
            size = max(room // rollouts.completions[left[0]], 1)
            pieces.append(_piece(rollouts, left[:size]))
            left = left[size:]
    return pieces


def _cut(pieces: Sequence[_Piece], budget: int) -> list[list[_Piece]]:
    """Cut the pieces, in this order, into the fewest micro-batches, then the fewest tokens."""
    best = [(0, 0, 0)]  # micro-batches and tokens up to here, and where the last one starts
    for end in range(1, len(pieces) + 1):
        box, options = _Box(), []
        for start in range(end - 1, -1, -1):
            if box.pieces and box.tokens_with(pieces[start]) > budget:
                break
            box.add(pieces[start])
            options.append((best[start][0] + 1, best[start][1] + box.tokens, start))
        best.append(min(options))
    boxes, end = [], len(pieces)
    while end:
        start = best[end][2]
        boxes.append(list(pieces[start:end]))
        end = start
    return boxes[::-1]


def _first_fit(pieces: Sequence[_Piece], budget: int) -> list[list[_Piece]]:
    boxes: list[_Box] = []
    for piece in pieces:
        box = next((box for box in boxes if box.tokens_with(piece) <= budget), None)
        if box is None:
            box = _Box()
            boxes.append(box)
        box.add(piece)
    return [box.pieces for box in boxes]


def _with_one_more(boxes: Sequence[list[_Piece]]) -> list[list[_Piece]]:
    """Halve the micro-batch of the most rollouts, between prompts if one has several."""
    sizes = [(len(box) > 1, sum(len(piece.rows) for piece in box)) for box in boxes]
    at = sizes.index(max(sizes))
    box = boxes[at]
    if len(box) == 1:
        rows = box[0].rows
        box = [
            box[0]._replace(rows=half) for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :])
        ]
    middle = len(box) // 2
    return [*boxes[:at], box[:middle], box[middle:], *boxes[at + 1 :]]
