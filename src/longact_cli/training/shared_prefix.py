"""Score the completions of a group with one pass over their common prompt.

A prompt and all its completions become one row. Completions go on where the prompt ends and do not
see each other, so every log-probability and every gradient equals that of the separate sequences,
while the prompt is read once instead of once per completion. The language-model head only sees the
states that predict a completion token.
"""

import functools
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from longact_cli.masking.tokens import left_aligned, prompt_keys
from longact_cli.training.flex_block import block_mask
from longact_cli.training.prefix_attention import (
    PrefixLayout,
    needs_no_mask,
    use_prefix_attention,
)

_VOCABULARY_CHUNK = 32768


class PackedBatch(NamedTuple):
    """Prompts with their completions, one row per distinct prompt.

    Attributes:
        input_ids: [prompts, prompt + slots x tokens].
        position_ids: As `input_ids`; the columns that the tokens have in the separate sequences.
        layout: Where prompts and completions lie.
        predictors: [scored tokens]; where, in the flattened batch, the state lies that predicts
            each completion token that is not padding, row by row.
        targets: [scored tokens]; those tokens.
        scored: Bool [completions, completion time], True = the token is scored.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: PrefixLayout
    predictors: Tensor
    targets: Tensor
    scored: Tensor


class Scores(NamedTuple):
    """Log-probability and entropy of every completion token, [completions, tokens]; padding: 0."""

    log_probs: Tensor
    entropies: Tensor


def shares_prompts(prompt_ids: Tensor, prompt_mask: Tensor) -> bool:
    """Return whether at least two rows of [rows, time] are the same prompt."""
    keys = prompt_keys(prompt_ids, prompt_mask)
    return len(set(keys)) < len(keys)


def pack(
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    *,
    completion_ids: Tensor,
    completion_mask: Tensor,
    flex: bool = False,
) -> PackedBatch:
    """Put every distinct prompt and its completions into one row.

    Args:
        prompt_ids: [completions, prompt time], padded on either side.
        prompt_mask: 1 = token, 0 = padding.
        completion_ids: [completions, tokens], padded on the right.
        completion_mask: 1 = token, 0 = padding.
        flex: The completions' block goes through FlexAttention.
    """
    group, slot, first = _groups(prompt_keys(prompt_ids, prompt_mask), device=prompt_ids.device)
    scored = completion_mask.bool()
    used = scored.any(dim=0).nonzero()  # padding that all share is left out
    tokens = int(used[-1]) + 1 if len(used) else 1
    prompts = left_aligned(prompt_ids[first], prompt_mask[first])
    width, slots = prompts.ids.shape[1], int(slot.max()) + 1
    tail = completion_ids.new_zeros(len(first), slots, tokens)
    tail[group, slot] = completion_ids[:, :tokens]
    offsets = torch.arange(tokens, device=prompt_ids.device)
    lengths = prompts.kept.sum(dim=1)
    end = prompts.columns.gather(1, lengths.unsqueeze(1) - 1)
    after = end + 1 + offsets.repeat(slots)
    predictor = width + slot.unsqueeze(1) * tokens + offsets - 1
    predictor[:, 0] = lengths[group] - 1
    predictor += group.unsqueeze(1) * (width + slots * tokens)
    counted = scored[:, :tokens]
    layout = PrefixLayout(width, slots, tokens, tuple(lengths.tolist()), None)
    return PackedBatch(
        input_ids=torch.cat([prompts.ids, tail.flatten(1)], dim=1),
        position_ids=torch.cat([prompts.columns, after], dim=1),
        layout=_with_view(layout, prompt_ids.device, flex=flex),
        predictors=predictor[counted],
        targets=completion_ids[:, :tokens][counted],
        scored=scored,
    )


def _with_view(layout: PrefixLayout, device: torch.device, *, flex: bool) -> PrefixLayout:
    """Return the layout with what the completions' block takes on this device."""
    if flex:
        return with_blocks(layout, device)
    return layout if needs_no_mask(device) else with_mask(layout, device)


def with_blocks(layout: PrefixLayout, device: torch.device) -> PrefixLayout:
    """Return the layout with the blocks that FlexAttention computes, made once for all layers."""
    lengths = torch.tensor(layout.lengths, device=device)
    mask = block_mask(lengths, prompt=layout.prompt, slots=layout.slots, tokens=layout.tokens)
    return layout._replace(mask=mask)


def with_mask(layout: PrefixLayout, device: torch.device) -> PrefixLayout:
    """Return the layout with the mask of the completions' block, for devices that need one."""
    prompt, tokens = layout.prompt, layout.tokens
    own = torch.arange(layout.slots * tokens, device=device)
    lengths = torch.tensor(layout.lengths, device=device).unsqueeze(1)
    shared = (torch.arange(prompt, device=device) < lengths)[:, None].expand(-1, len(own), -1)
    same = own.unsqueeze(1) // tokens == own.unsqueeze(0) // tokens
    causal = same & (own.unsqueeze(1) >= own.unsqueeze(0))
    mask = torch.cat([shared, causal.expand(len(lengths), -1, -1)], dim=2)
    return layout._replace(mask=mask.unsqueeze(1))


def add_prefix_scores(model: PreTrainedModel, *, temperature: float) -> None:
    """Let `model(shared_prefix=PackedBatch)` return `Scores`; all other calls stay as they are.

    Part of the model's own forward, so that what wraps the model (DDP) sees the pass.

    Args:
        model: A causal language model that `refusal` finds nothing against.
        temperature: Logits are divided by it.
    """
    plain = model.forward

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel,
        *arguments: Any,
        shared_prefix: PackedBatch | None = None,
        **keywords: Any,
    ) -> Any:
        if shared_prefix is None:
            return plain(*arguments, **keywords)
        return _scores(self, shared_prefix, temperature=temperature)

    use_prefix_attention(model)
    model.forward = types.MethodType(forward, model)


def hidden_states(model: PreTrainedModel, packed: PackedBatch) -> Tensor:
    """Return the decoder's last states, [prompts, time, channels]."""
    output = model.base_model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        # A mask of four dimensions is handed on as it is: the layout decides what is visible.
        attention_mask=packed.input_ids.new_ones(1, 1, 1, 1, dtype=torch.bool),
        use_cache=False,
        shared_prefix=packed.layout,
    )
    states: Tensor = output.last_hidden_state
    return states


def _scores(model: PreTrainedModel, packed: PackedBatch, *, temperature: float) -> Scores:
    from trl.kernels import ChunkedLogProbFunction

    states = hidden_states(model, packed).flatten(0, 1)[packed.predictors]
    head = model.get_output_embeddings()
    log_probs, entropies, *_ = ChunkedLogProbFunction.apply(
        states,
        head.weight,
        head.bias,
        packed.targets,
        temperature,
        min(_VOCABULARY_CHUNK, head.weight.shape[0]),
        getattr(model.config.get_text_config(), "final_logit_softcapping", None),
        1.0,
        ("log_probs", "entropy"),
    )
    empty = log_probs.new_zeros(packed.scored.shape)
    # masked_scatter keeps the graph where nothing is scored: such a micro-batch has zero gradients.
    return Scores(
        empty.masked_scatter(packed.scored, log_probs),
        empty.masked_scatter(packed.scored, entropies),
    )


def _groups(keys: Sequence[bytes], *, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's group and place in it, [rows], and the first row of each group."""
    first: dict[bytes, int] = {}
    order: dict[bytes, int] = {}
    sizes: dict[bytes, int] = {}
    group, slot = [], []
    for row, key in enumerate(keys):
        first.setdefault(key, row)
        group.append(order.setdefault(key, len(order)))
        slot.append(sizes.get(key, 0))
        sizes[key] = slot[-1] + 1
    rows = (group, slot, list(first.values()))
    group_of, slot_of, first_of = (torch.tensor(r, device=device) for r in rows)
    return group_of, slot_of, first_of
