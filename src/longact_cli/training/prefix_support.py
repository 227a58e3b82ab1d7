"""Whether a model's prompts can be shared exactly, and by FlexAttention; if not, why."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from longact_cli.training.prefix_attention import (
    NAME,
    PrefixLayout,
    attend_completions,
    use_prefix_attention,
)
from longact_cli.training.shared_prefix import hidden_states, pack, with_blocks, with_mask

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
_FORWARD_ONLY = frozenset({"cpu", "mps"})
_TRIALS = (  # of two sizes: the first compiles a kernel for itself, the second one for all sizes
    PrefixLayout(200, 2, 90, (200, 130), None),
    PrefixLayout(150, 3, 100, (140, 150, 1), None),
)


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


def flex_refusal(model: PreTrainedModel, *, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why FlexAttention cannot take this model's completions; None where it can.

    It is compiled for the device, run forward and backward and compared with SDPA.

    Args:
        model: A causal language model that `refusal` finds nothing against; only its configuration
            is read.
        device: Where it is trained.
        dtype: Of the attention, which autocast decides.
    """
    if device.type in _FORWARD_ONLY:
        return f"torch's FlexAttention has no backward pass on the {device.type.upper()}"
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    try:
        with torch.enable_grad():
            largest = max(
                _flex_difference(layout, (heads, key_heads, size), device=device, dtype=dtype)
                for layout in _TRIALS
            )
    except Exception as error:  # noqa: BLE001 - compilers raise anything, and SDPA does the same
        reason = (str(error).splitlines() or [""])[0]
        return f"torch's FlexAttention fails here: {type(error).__name__}: {reason}"
    if not largest <= _TOLERANCE.get(dtype, _COARSE):
        return f"the results of torch's FlexAttention differ by {largest:.1e} here"
    return None


def _flex_difference(
    layout: PrefixLayout,
    shape: tuple[int, int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    """Return the largest difference to SDPA, in parts of the largest entry, gradients included."""
    heads, key_heads, size = shape
    rows, own = len(layout.lengths), layout.slots * layout.tokens
    generator = torch.Generator().manual_seed(0)
    sizes = ((heads, own), (key_heads, layout.prompt + own), (key_heads, layout.prompt + own))
    query, key, value = (
        torch.randn(rows, *pair, size, generator=generator).to(device, dtype).requires_grad_()
        for pair in sizes
    )
    weights = torch.randn(rows, heads, own, size, generator=generator).to(device, dtype)

    def results(view: PrefixLayout) -> tuple[Tensor, ...]:
        output = attend_completions(query, key, value=value, layout=view, scale=size**-0.5)
        gradients = torch.autograd.grad(output, (query, key, value), weights)
        return output.detach(), *gradients

    pairs = zip(
        results(with_blocks(layout, device)), results(with_mask(layout, device)), strict=True
    )
    return max(float((ours - wanted).abs().max() / wanted.abs().max()) for ours, wanted in pairs)
