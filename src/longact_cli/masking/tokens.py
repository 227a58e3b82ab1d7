"""Which tokens of a forward pass count for saliency."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor


class TokenSelection(NamedTuple):
    """Tokens of a batch: some rows, the first columns of each, padding left out.

    Attributes:
        rows: Rows of the batch.
        width: How many leading columns are looked at.
        kept: Bool [rows, width], True = the token counts; None where all do.
    """

    rows: Sequence[int]
    width: int
    kept: Tensor | None

    @classmethod
    def of(cls, rows: Sequence[int], kept: Tensor) -> Self:
        """Select `kept` [rows, width] of these rows."""
        return cls(rows, kept.shape[1], None if bool(kept.all()) else kept)

    @property
    def tokens(self) -> int:
        """How many tokens are selected."""
        return len(self.rows) * self.width if self.kept is None else int(self.kept.sum())

    def take(self, vectors: Tensor) -> Tensor:
        """Return the selected vectors, [tokens, channels], of [batch, time, channels]."""
        if list(self.rows) != list(range(len(vectors))):
            vectors = vectors[list(self.rows)]
        vectors = vectors[:, : self.width]
        if self.kept is None:
            return vectors.flatten(0, 1)
        return vectors[self.kept.to(vectors.device)]


def prompt_keys(input_ids: Tensor, attention_mask: Tensor) -> list[bytes]:
    """Return the tokens of each row without padding, as bytes: equal prompts, equal keys."""
    rows = zip(input_ids.cpu(), attention_mask.cpu().bool(), strict=True)
    return [ids[kept].numpy().tobytes() for ids, kept in rows]


class LeftAligned(NamedTuple):
    """A batch whose rows begin with their tokens.

    Attributes:
        ids: [batch, longest row].
        kept: Bool, as `ids`, True = token.
        columns: As `ids`; where each stood before.
    """

    ids: Tensor
    kept: Tensor
    columns: Tensor


def left_aligned(input_ids: Tensor, attention_mask: Tensor) -> LeftAligned:
    """Move the padding of [batch, time] behind the tokens and cut what is padding in every row."""
    kept = attention_mask.bool()
    columns = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : int(kept.sum(dim=1).max())]
    return LeftAligned(input_ids.gather(1, columns), kept.gather(1, columns), columns)


class PromptMatcher:
    """Finds prompts at the start of the rows of a training forward, each once.

    A trainer puts [prompt, completion] into a row, with the prompt batch's own padding, without the
    columns that are padding in every row, or with the padding behind the prompt (packed batches).
    """

    def __init__(self, input_ids: Tensor, attention_mask: Tensor, *, fresh: Sequence[int]) -> None:
        """Look for the rows `fresh` of a prompt batch, [batch, time]."""
        ids, kept = input_ids.cpu(), attention_mask.bool().cpu()
        columns = kept.any(dim=0)
        packed = left_aligned(ids, kept)
        self._layouts = [
            (ids, kept),
            (ids[:, columns], kept[:, columns]),
            (packed.ids, packed.kept),
        ]
        self._missing = list(fresh)

    @property
    def missing(self) -> list[int]:
        """Rows of the prompt batch that have not been seen in a forward."""
        return list(self._missing)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None) -> TokenSelection | None:
        """Return where missing prompts lie in a forward's input, [batch, time]; None if nowhere."""
        seen = input_ids.cpu()
        best = max(self._layouts, key=lambda layout: len(self._found(seen, layout[0])))
        found = self._found(seen, best[0])
        if not found:
            return None
        self._missing = [row for row in self._missing if row not in found.values()]
        return TokenSelection.of(tuple(found), best[1][list(found.values())])

    def _found(self, seen: Tensor, ids: Tensor) -> dict[int, int]:
        """Return where in a forward's rows, [batch, time], which missing rows of `ids` lie."""
        width = ids.shape[1]
        if seen.shape[1] < width:
            return {}
        index = {ids[row].numpy().tobytes(): row for row in reversed(self._missing)}
        found: dict[int, int] = {}
        for place, row_ids in enumerate(seen[:, :width].contiguous()):
            row = index.pop(row_ids.numpy().tobytes(), None)
            if row is not None:
                found[place] = row
        return found


def all_tokens(input_ids: Tensor, attention_mask: Tensor | None) -> TokenSelection:
    """Select every token of a forward's input that is not padding."""
    if attention_mask is None or attention_mask.dim() != 2:
        kept = torch.ones_like(input_ids, dtype=torch.bool)
    else:
        kept = attention_mask.bool()
    return TokenSelection.of(tuple(range(len(input_ids))), kept)
