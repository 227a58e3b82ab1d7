"""Random decoders of every layout, small enough for a second."""

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "qwen2 (bias)": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3 (QK norm)": Qwen3Config(**SIZES, head_dim=4),
    "qwen3-moe": Qwen3MoeConfig(
        **SIZES, head_dim=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8
    ),
    "llama": LlamaConfig(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "gemma": GemmaConfig(**SIZES, head_dim=4),
    "phi3 (fused qkv)": Phi3Config(**SIZES),
    "gpt2 (Conv1D)": GPT2Config(
        vocab_size=64,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.3,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
}
LORA = {
    "llama + LoRA": ("llama", ["q_proj", "k_proj"]),
    "gpt2 + LoRA": ("gpt2 (Conv1D)", ["c_attn"]),
}
LAYOUTS = (*CONFIGS, *LORA)


def tiny_model(layout: str) -> nn.Module:
    """Return a random model in evaluation mode; the same weights each time."""
    name, adapted = LORA.get(layout, (layout, []))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32)
        if not adapted:
            return model.eval()
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=2, target_modules=adapted, task_type="CAUSAL_LM")
        )
        return model.eval()


def batch() -> dict[str, torch.Tensor]:
    """Return two rows of nine tokens, labels included."""
    ids = torch.randint(1, 64, (2, 9), generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
