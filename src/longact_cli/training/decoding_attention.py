"""Keys and values of rollouts being generated: each prompt once, each completion by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor


class DecodingCache:
    """The cache of a grid of rollouts: rows = prompts, slots = their completions.

    Rollout i is the completion in slot i % slots of prompt i // slots.
    """

    def __init__(self, lengths: Sequence[int], *, slots: int, room: int) -> None:
        """Make room for `room` new tokens of each rollout.

        Args:
            lengths: Tokens of each prompt; the columns after them are padding.
            slots: Completions per prompt.
            room: New tokens per completion at most.
        """
        self.slots = slots
        self.prefilled = False
        self._lengths = torch.tensor(lengths)
        self._room = room
        self._written = 0
        self._prompts: list[tuple[Tensor, Tensor]] = []
        self._own: list[tuple[Tensor, Tensor]] = []
        self._padding: Tensor | None = None

    def keep(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep the prompts' keys and values of a layer, [prompts, heads, time, head_dim]."""
        assert layer == len(self._prompts)
        self._prompts.append((key, value))
        shape = (len(key) * self.slots, key.shape[1], self._room, key.shape[3])
        self._own.append((key.new_empty(shape), value.new_empty(*shape[:3], value.shape[3])))

    def finish_prefill(self) -> None:
        """Go over from prompts to new tokens."""
        self.prefilled = True
        keys = self._prompts[0][0]
        columns = torch.arange(keys.shape[2], device=keys.device)
        self._lengths = self._lengths.to(keys.device)
        padding = columns >= self._lengths.unsqueeze(1)
        self._padding = padding[:, None, None] if bool(padding.any()) else None

    def advance(self) -> None:
        """Close a new token: every layer has seen it."""
        self._written += 1

    def attend(
        self, layer: int, query: Tensor, *, key: Tensor, value: Tensor, scale: float
    ) -> Tensor:
        """Add a token of each rollout and return what it sees, [rollouts, 1, heads, head_dim].

        Args:
            layer: Index of the layer.
            query: [rollouts, heads, 1, head_dim].
            key: [rollouts, key-value heads, 1, head_dim].
            value: As `key`.
            scale: Of the scores.
        """
        now = self._written
        own_key, own_value = self._own[layer]
        own_key[:, :, now], own_value[:, :, now] = key[:, :, 0], value[:, :, 0]
        own_key, own_value = own_key[:, :, : now + 1], own_value[:, :, : now + 1]
        prompt_key, prompt_value = self._prompts[layer]
        heads, width = prompt_key.shape[1], prompt_key.shape[2]
        single = query.reshape(len(query), heads, -1, query.shape[3]) * scale
        beside = self._beside(single)
        scores = beside @ prompt_key.transpose(-1, -2)
        if self._padding is not None:
            scores = scores.masked_fill(self._padding, float("-inf"))
        own_scores = self._beside(single @ own_key.transpose(-1, -2))
        shares = torch.cat([scores, own_scores], dim=-1).softmax(-1, dtype=torch.float32)
        shares = shares.to(value.dtype)
        seen = self._apart(shares[..., :width] @ prompt_value)
        seen = seen + self._apart(shares[..., width:]) @ own_value
        return seen.flatten(1, 2).unsqueeze(1)

    def shrink(self, prompts: Tensor, rollouts: Tensor, *, slots: int) -> None:
        """Go on with some of the rollouts.

        Args:
            prompts: Which prompts stay.
            rollouts: Which rollouts stay, [prompts x slots], those of a prompt side by side.
            slots: Completions per prompt from now on.
        """
        self.slots = slots
        now = self._written
        self._prompts = [(key[prompts], value[prompts]) for key, value in self._prompts]
        self._own = [
            (_rows(key, rollouts, now), _rows(value, rollouts, now)) for key, value in self._own
        ]
        if self._padding is not None:
            self._padding = self._padding[prompts]

    def _beside(self, apart: Tensor) -> Tensor:
        """[rollouts, heads, repeats, n] -> [prompts, heads, slots x repeats, n]."""
        split = apart.reshape(-1, self.slots, *apart.shape[1:])
        return split.transpose(1, 2).flatten(2, 3)

    def _apart(self, beside: Tensor) -> Tensor:
        """Undo `_beside`."""
        split = beside.reshape(*beside.shape[:2], self.slots, -1, beside.shape[3])
        return split.transpose(1, 2).flatten(0, 1)


def _rows(kept: Tensor, rollouts: Tensor, written: int) -> Tensor:
    """Return these rows with their room; only what was written is copied."""
    fresh = kept.new_empty(len(rollouts), *kept.shape[1:])
    fresh[:, :, :written] = kept[rollouts, :, :written]
    return fresh
