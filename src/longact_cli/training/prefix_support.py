"""Whether a model's prompts can be shared exactly; if not, why."""

import torch
from transformers import PreTrainedModel

from longact_cli.training.prefix_attention import NAME, use_prefix_attention
from longact_cli.training.shared_prefix import hidden_states, pack

_LAYERS = frozenset({"full_attention", "sliding_attention"})
_LOGIT_CHANGES = (
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
    "output_router_logits",
)
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
_COARSE = 5e-2  # bfloat16 and float16


def refusal(model: PreTrainedModel) -> str | None:
    """Return why this model's prompts cannot be shared exactly; None where they can.

    What its configuration does not tell is found out on a few tokens, packed and apart.

    Args:
        model: A causal language model, not wrapped. It is left on `use_prefix_attention` where
            nothing speaks against it.
    """
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in ("sdpa", NAME):
        return f"its attention is {attention}, not sdpa"
    strange = set(getattr(config, "layer_types", None) or ()) - _LAYERS
    if strange:
        return f"it has layers of type {', '.join(sorted(strange))}"
    if getattr(config, "attn_logit_softcapping", None):
        return "its attention caps the scores (attn_logit_softcapping)"
    if getattr(config, "attention_dropout", None) or getattr(config, "attn_pdrop", None):
        return "it has attention dropout"
    changed = [name for name in _LOGIT_CHANGES if getattr(config, name, None) not in (None, False)]
    if changed:
        return f"it changes its logits or loss ({', '.join(changed)})"
    window = attention_window(model)
    if window is not None and window < _CHECK_TOKENS:
        return f"its attention window is {window} tokens"
    return _difference(model)


def attention_window(model: PreTrainedModel) -> int | None:
    """Return how far the layers with the shortest view look back; None where all see everything."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    return window if layers is None or "sliding_attention" in layers else None


_CHECK_PROMPT, _CHECK_COMPLETION = 5, 3
_CHECK_TOKENS = _CHECK_PROMPT + _CHECK_COMPLETION


def _difference(model: PreTrainedModel) -> str | None:
    """Compare the states of four short sequences, packed and apart."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, (4, _CHECK_TOKENS), generator=generator).to(device)
    kept = torch.ones_like(ids)
    ids[:3, :_CHECK_PROMPT] = ids[0, :_CHECK_PROMPT]
    kept[3, :2] = 0  # a shorter prompt, padded on the left
    kept[1, -1] = 0  # a shorter completion
    before = model.config.get_text_config()._attn_implementation
    training = model.training
    model.eval()
    try:
        use_prefix_attention(model)
        with torch.autocast(device.type, enabled=False):
            largest = _largest_difference(model, ids, kept)
    except (RuntimeError, TypeError, ValueError) as error:
        model.set_attn_implementation(before)
        return f"it does not take packed prompts ({str(error).splitlines()[0]})"
    finally:
        model.train(training)
    if largest > _TOLERANCE.get(model.dtype, _COARSE):
        model.set_attn_implementation(before)
        return f"its states differ by {largest:.1e} when prompts are packed"
    return None


@torch.no_grad()
def _largest_difference(model: PreTrainedModel, ids: torch.Tensor, kept: torch.Tensor) -> float:
    """Return the largest difference of states that predict completions, in parts of the largest."""
    apart = model.base_model(input_ids=ids, attention_mask=kept, use_cache=False)
    states = apart.last_hidden_state[:, _CHECK_PROMPT - 1 : -1]
    packed = pack(
        ids[:, :_CHECK_PROMPT],
        kept[:, :_CHECK_PROMPT],
        completion_ids=ids[:, _CHECK_PROMPT:],
        completion_mask=kept[:, _CHECK_PROMPT:],
    )
    together = hidden_states(model, packed).flatten(0, 1)[packed.predictors]
    wanted = states[packed.scored]
    return float((together - wanted).abs().max() / wanted.abs().max())
