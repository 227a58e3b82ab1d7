"""Generate rollouts with one prefill per distinct prompt.

The rollouts of a group share their prompt. Reading it once and repeating the key-value cache makes
the long part of generation cheaper by the group size. Used through TRL's `rollout_func`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

if TYPE_CHECKING:
    from trl import GRPOTrainer


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

    prompt_ids = trainer.processing_class(list(prompts), add_special_tokens=False)["input_ids"]
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped, trainer.accelerator, generation_kwargs=trainer.generation_kwargs
        ) as model,
        torch.no_grad(),
    ):
        generated = generate(model, prompt_ids, generation_config=trainer.generation_config)
    end_ids = torch.tensor(trainer.eos_token_ids, device=generated.device)
    completion_ids = [cut_after_end(row, end_ids) for row in generated]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def generate(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], *, generation_config: Any
) -> Tensor:
    """Return generated tokens, [prompts, new tokens], padded after the end token.

    Args:
        model: A causal language model.
        prompt_ids: Tokens per prompt; equal ones are read once.
        generation_config: Sampling settings; its padding token pads the prompts.
    """
    distinct, where = _distinct(prompt_ids)
    ids, kept = pad_left(distinct, generation_config.pad_token_id, device=model.device)
    cache = DynamicCache(config=model.config)
    positions = (kept.cumsum(dim=-1) - 1).clamp(min=0)
    model.base_model(
        input_ids=ids[:, :-1],
        attention_mask=kept[:, :-1],
        position_ids=positions[:, :-1],
        past_key_values=cache,
        use_cache=True,
    )
    rows = torch.tensor(where, device=model.device)
    cache.batch_select_indices(rows)
    output: Tensor = model.generate(
        input_ids=ids[rows],
        attention_mask=kept[rows],
        past_key_values=cache,
        generation_config=generation_config,
    )
    return output[:, ids.shape[1] :]


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


def _distinct(rows: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """Return the distinct rows in order of appearance, and where each row is among them."""
    places: dict[tuple[int, ...], int] = {}
    where = [places.setdefault(tuple(row), len(places)) for row in rows]
    return list(places), where
