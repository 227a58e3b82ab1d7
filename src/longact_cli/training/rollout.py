"""Generate rollouts with one prefill per distinct prompt and one copy of its cache.

The rollouts of a group share their prompt: it is read once, kept once, and rows that are done leave
the batch. Tokens are those of `model.generate`: the same scores, the same draws in the same order.
Used through TRL's `rollout_func`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from longact_cli.masking.tokens import left_aligned
from longact_cli.training.decoding_attention import DecodingCache
from longact_cli.training.prefix_attention import NAME
from longact_cli.training.prefix_support import attention_window

if TYPE_CHECKING:
    from trl import GRPOTrainer

_WARPERS = (
    ("temperature", TemperatureLogitsWarper, 1.0),
    ("top_k", TopKLogitsWarper, 0),
    ("top_p", TopPLogitsWarper, 1.0),
    ("min_p", MinPLogitsWarper, 0.0),
)
_UNDERSTOOD = frozenset(
    {
        *(name for name, _, _ in _WARPERS),
        *("do_sample", "max_new_tokens", "max_length", "use_cache", "disable_compile"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"),
        *("_from_model_config", "output_attentions", "output_hidden_states"),
        *("num_assistant_tokens", "num_assistant_tokens_schedule"),
        *("assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind"),
    }
)
_SHRINK_BELOW = 0.75
"""Rows that are done leave the batch once what stays is this part of it; it costs one copy."""


def shared_prefix_rollout(
    prompts: Sequence[str], trainer: "GRPOTrainer"
) -> Mapping[str, list[Any] | None]:
    """Generate one completion per prompt, in order.

    Args:
        prompts: Texts that carry their chat template; tokenised without special tokens.
        trainer: Whose model and generation settings are used.

    Returns:
        Token ids of prompts and of completions (the end token included, padding not). Log-probs
        are None: the trainer computes them with its own forward.
    """
    from trl.models import unwrap_model_for_generation

    texts = list(dict.fromkeys(prompts))
    tokens = trainer.processing_class(texts, add_special_tokens=False)["input_ids"]
    tokens_of = dict(zip(texts, tokens, strict=True))
    prompt_ids = [tokens_of[prompt] for prompt in prompts]
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped, trainer.accelerator, generation_kwargs=trainer.generation_kwargs
        ) as model,
        torch.no_grad(),
        trainer.accelerator.autocast(),
    ):
        generated = generate(model, prompt_ids, generation_config=trainer.generation_config)
    end_ids = torch.tensor(trainer.eos_token_ids, device=generated.device)
    completion_ids = [cut_after_end(row, end_ids) for row in generated]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def generate(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    *,
    generation_config: GenerationConfig,
) -> Tensor:
    """Return generated tokens, [prompts, new tokens], padded after the end token.

    Args:
        model: A causal language model on `use_prefix_attention`; one that does not understand it,
            or settings beyond plain sampling, take `model.generate`.
        prompt_ids: Tokens per prompt; equal ones are read once.
        generation_config: Sampling settings; the global generator of torch is drawn from.
    """
    settings, _ = model._prepare_generation_config(generation_config)
    longest = max(map(len, prompt_ids)) + settings.max_new_tokens
    if not _is_plain(settings) or not _takes_packed_prompts(model, longest):
        ids, kept = pad_left(prompt_ids, settings.pad_token_id, device=model.device)
        output: Tensor = model.generate(
            input_ids=ids, attention_mask=kept, generation_config=generation_config
        )
        return output[:, ids.shape[1] :]
    decoder = _Decoder(model, prompt_ids, room=settings.max_new_tokens)
    return _decode(decoder, settings)


class _Decoder:
    """A model with the cache of the rollouts that are still being written."""

    def __init__(
        self, model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], *, room: int
    ) -> None:
        """Read every distinct prompt once."""
        self._model = model
        distinct, where = _distinct(prompt_ids)
        self._lengths = torch.tensor([len(distinct[index]) for index in where])
        members: list[list[int]] = [[] for _ in distinct]
        for rollout, index in enumerate(where):
            members[index].append(rollout)
        grid, slots = _grid(members)
        lengths = [len(prompt) for prompt in distinct]
        self._cache = DecodingCache(lengths, slots=slots, room=room)
        self._grid = grid.to(model.device)
        self._lengths = self._lengths.to(model.device)
        self._new = 0
        ids, kept = pad_left(distinct, 0, device=model.device)
        ids = left_aligned(ids, kept).ids
        states = self._forward(ids, torch.arange(ids.shape[1], device=ids.device).expand_as(ids))
        self._cache.finish_prefill()
        last = states[torch.arange(len(ids)), torch.tensor(lengths, device=ids.device) - 1]
        self.first_scores = self._head(last)[torch.tensor(where, device=ids.device)]

    def step(self, tokens: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Read the newest token of each rollout.

        Args:
            tokens: [rollouts]; those of rollouts that are done are not looked at.
            active: Bool, [rollouts], True = still being written.

        Returns:
            Which rollouts were read, [n], and the scores of their next token, [n, vocabulary].
        """
        self._shrink(active)
        flat = self._grid.flatten()
        alive = flat >= 0
        rollouts = flat.clamp(min=0)
        position = self._lengths[rollouts] + self._new
        states = self._forward(tokens[rollouts].unsqueeze(1), position.unsqueeze(1))
        self._cache.advance()
        self._new += 1
        return rollouts[alive], self._head(states[alive, -1])

    def _shrink(self, active: Tensor) -> None:
        """Drop rollouts that are done, once that makes the grid smaller by a good part."""
        alive = (self._grid >= 0) & active[self._grid.clamp(min=0)]
        rows = alive.any(dim=1).nonzero().flatten()
        slots = int(alive.sum(dim=1).max())
        if len(rows) * slots > _SHRINK_BELOW * self._grid.numel():
            return
        # Slots that are done come last in every row.
        order = (~alive[rows]).to(torch.int8).argsort(dim=1, stable=True)[:, :slots]
        kept = rows.unsqueeze(1) * self._grid.shape[1] + order
        self._cache.shrink(rows, kept.flatten(), slots=slots)
        still = alive.flatten()[kept]
        self._grid = self._grid.flatten()[kept].where(still, -1)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        output = self._model.base_model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=ids.new_ones(1, 1, 1, 1, dtype=torch.bool),
            use_cache=False,
            shared_prefix=self._cache,
        )
        states: Tensor = output.last_hidden_state
        return states

    def _head(self, states: Tensor) -> Tensor:
        scores: Tensor = self._model.get_output_embeddings()(states)
        cap = getattr(self._model.config.get_text_config(), "final_logit_softcapping", None)
        return (scores if cap is None else torch.tanh(scores / cap) * cap).float()


def _decode(decoder: _Decoder, settings: GenerationConfig) -> Tensor:
    """Return the new tokens, drawn as `generate` draws them: for all rows, in their order."""
    scores = decoder.first_scores
    warpers = _warpers(settings)
    ends = torch.tensor(_as_list(settings.eos_token_id), device=scores.device, dtype=torch.long)
    active = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    columns: list[Tensor] = []
    while True:
        warped = warpers(None, scores)
        if settings.do_sample:
            drawn = torch.multinomial(warped.softmax(-1), num_samples=1).squeeze(1)
        else:
            drawn = warped.argmax(-1)
        columns.append(drawn.where(active, settings.pad_token_id))
        active = active & ~torch.isin(drawn, ends)
        if len(columns) == settings.max_new_tokens or not bool(active.any()):
            return torch.stack(columns, dim=1)
        rollouts, found = decoder.step(drawn, active)
        scores = torch.zeros_like(scores).index_copy_(0, rollouts, found)


def pad_left(
    rows: Sequence[Sequence[int]], pad_token_id: int, *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return (token ids, attention mask), both [rows, longest], padded on the left."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_token_id)
    kept = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        kept[index, longest - len(row) :] = 1
    return ids.to(device), kept.to(device)


def cut_after_end(row: Tensor, end_ids: Tensor) -> list[int]:
    """Return the tokens up to and including the first end token."""
    ends = torch.isin(row, end_ids).nonzero()
    stop = int(ends[0]) + 1 if len(ends) else len(row)
    tokens: list[int] = row[:stop].tolist()
    return tokens


def _takes_packed_prompts(model: PreTrainedModel, tokens: int) -> bool:
    window = attention_window(model)
    fits = window is None or tokens <= window
    return fits and model.config.get_text_config()._attn_implementation == NAME


def _is_plain(settings: GenerationConfig) -> bool:
    """Return whether nothing but what `_warpers` knows changes the scores.

    Settings of an assistant model are beside the point: there is none.
    """
    neutral = GenerationConfig._get_default_generation_params()
    return all(
        name in _UNDERSTOOD or value is None or (name in neutral and neutral[name] == value)
        for name, value in settings.to_diff_dict().items()
    )


def _warpers(settings: GenerationConfig) -> LogitsProcessorList:
    """Return what `generate` does to the scores before it draws, in its order."""
    if not settings.do_sample:
        return LogitsProcessorList()
    chosen = [(warper, getattr(settings, name), off) for name, warper, off in _WARPERS]
    return LogitsProcessorList(
        warper(value) for warper, value, off in chosen if value is not None and value != off
    )


def _as_list(token_ids: int | Sequence[int] | None) -> list[int]:
    if token_ids is None:
        return []
    return [token_ids] if isinstance(token_ids, int) else list(token_ids)


def _distinct(rows: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Return the distinct rows in order of appearance, and where each row is among them."""
    places: dict[tuple[int, ...], int] = {}
    where = [places.setdefault(tuple(row), len(places)) for row in rows]
    return list(places), where


def _grid(members: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
    """Return [prompts, slots] of rollouts, -1 = empty, and the slots."""
    slots = max(map(len, members))
    return torch.tensor([[*row, *[-1] * (slots - len(row))] for row in members]), slots
