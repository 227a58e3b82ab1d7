"""Score the completions of a group with one pass over their common prompt.

A prompt and all its completions become one sequence. Completions start at the same position and do
not see each other, so every log-probability equals that of the separate sequences, while the prompt
is read once instead of once per completion. Memory for the mask is (prompt + all completions)^2
bytes per prompt.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

_LOGIT_CHANGES = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
    "output_router_logits",
)
_VOCABULARY_CHUNK = 32768


class PackedBatch(NamedTuple):
    """Prompts with their completions, one row per distinct prompt.

    Attributes:
        input_ids: [prompts, time].
        position_ids: [prompts, time]; every completion starts where its prompt ends.
        attention_mask: Bool [prompts, 1, time, time], True = the query may see the key.
        predictors: [completions, tokens]; where, in the flattened batch, the state lies that
            predicts each completion token.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    predictors: Tensor


def supports_shared_prefix(model: PreTrainedModel) -> bool:
    """Return whether the model computes plain attention over the whole context with a mask of ours.

    Sliding windows, other attention kernels and heads that rescale their logits are left to TRL.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ("full_attention",)
    return (
        config._attn_implementation == "sdpa"
        and set(layers) == {"full_attention"}
        and not any(getattr(config, name, None) for name in _LOGIT_CHANGES)
    )


def shares_prompts(prompt_ids: Tensor) -> bool:
    """Return whether at least two rows of [rows, time] are the same prompt."""
    return len(torch.unique(prompt_ids, dim=0)) < len(prompt_ids)


def pack(
    prompt_ids: Tensor, prompt_mask: Tensor, *, completion_ids: Tensor, completion_mask: Tensor
) -> PackedBatch:
    """Put every distinct prompt and its completions into one row.

    Args:
        prompt_ids: [completions, prompt time], padded on the left; equal rows share a prompt.
        prompt_mask: 1 = token, 0 = padding.
        completion_ids: [completions, tokens], padded on the right.
        completion_mask: 1 = token, 0 = padding.
    """
    columns = prompt_mask.bool().any(dim=0)
    prompt_ids, prompt_mask = prompt_ids[:, columns], prompt_mask[:, columns]
    group, slot, first = _groups(prompt_ids)
    prompt, tokens = prompt_ids.shape[1], completion_ids.shape[1]
    slots = int(slot.max()) + 1
    ids = _join(prompt_ids[first], completion_ids, group=group, slot=slot, slots=slots)
    kept = _join(prompt_mask[first], completion_mask, group=group, slot=slot, slots=slots).bool()
    offsets = torch.arange(tokens, device=ids.device)
    positions = torch.cat([torch.arange(prompt, device=ids.device), prompt + offsets.repeat(slots)])
    predictor = prompt + slot.unsqueeze(1) * tokens + offsets - 1
    predictor[:, 0] = prompt - 1
    return PackedBatch(
        input_ids=ids,
        position_ids=positions.expand_as(ids),
        attention_mask=_visible(kept, prompt=prompt, tokens=tokens).unsqueeze(1),
        predictors=group.unsqueeze(1) * ids.shape[1] + predictor,
    )


def completion_log_probs(
    model: PreTrainedModel, packed: PackedBatch, completion_ids: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return (log-probability, entropy) of every completion token, both [completions, tokens].

    Args:
        model: A causal language model, not wrapped.
        packed: The batch of these completions.
        completion_ids: [completions, tokens].
        temperature: Logits are divided by it.
    """
    from trl.kernels import ChunkedLogProbFunction

    output = model.base_model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=packed.attention_mask,
        use_cache=False,
    )
    states = output.last_hidden_state.flatten(0, 1)[packed.predictors.flatten()]
    head = model.get_output_embeddings()
    log_probs, entropy, *_ = ChunkedLogProbFunction.apply(
        states,
        head.weight,
        head.bias,
        completion_ids.flatten(),
        temperature,
        min(_VOCABULARY_CHUNK, head.weight.shape[0]),
        None,
        1.0,
        ("log_probs", "entropy"),
    )
    return log_probs.view_as(completion_ids), entropy.view_as(completion_ids)


def _groups(prompt_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's group and place in it, [rows], and the first row of each group."""
    first: dict[bytes, int] = {}
    order: dict[bytes, int] = {}
    sizes: dict[bytes, int] = {}
    group, slot = [], []
    for row, ids in enumerate(prompt_ids.cpu()):
        key = ids.numpy().tobytes()
        first.setdefault(key, row)
        group.append(order.setdefault(key, len(order)))
        slot.append(sizes.get(key, 0))
        sizes[key] = slot[-1] + 1
    rows = (group, slot, list(first.values()))
    group_of, slot_of, first_of = (torch.tensor(r, device=prompt_ids.device) for r in rows)
    return group_of, slot_of, first_of


def _join(
    prompts: Tensor, completions: Tensor, *, group: Tensor, slot: Tensor, slots: int
) -> Tensor:
    """Return [prompts, prompt time + slots x tokens]; slots without a completion hold zeros."""
    tail = completions.new_zeros(len(prompts), slots, completions.shape[1])
    tail[group, slot] = completions
    return torch.cat([prompts, tail.flatten(1).to(prompts.dtype)], dim=1)


def _visible(kept: Tensor, *, prompt: int, tokens: int) -> Tensor:
    """Return bool [prompts, query, key]: causal, within the prompt and one's own completion.

    Every position sees itself: a row without any visible key would turn into NaN.
    """
    time = kept.shape[1]
    index = torch.arange(time, device=kept.device)
    segment = torch.where(index < prompt, -1, (index - prompt) // tokens)
    same = (segment.unsqueeze(0) == -1) | (segment.unsqueeze(0) == segment.unsqueeze(1))
    causal = index.unsqueeze(0) <= index.unsqueeze(1)
    itself = index.unsqueeze(0) == index.unsqueeze(1)
    return (kept.unsqueeze(1) & same & causal) | itself
