"""The embedded micro model: where its checkpoint lies and which architecture it has."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import Qwen3Config

MICRO_NAME = "micro"
MAX_POSITIONS = 2048


class MicroShape(NamedTuple):
    """The sizes of a micro model; everything else is Qwen3 as transformers builds it."""

    hidden_size: int = 64
    intermediate_size: int = 128
    layers: int = 4
    query_heads: int = 4
    key_value_heads: int = 2
    head_dim: int = 16


def micro_checkpoint_path() -> Path:
    """Return the folder of the checkpoint that ships inside the package."""
    return Path(__file__).parent / "micro_checkpoint"


def micro_config(
    shape: MicroShape, *, vocabulary_size: int, eos_id: int, pad_id: int
) -> "Qwen3Config":
    """Build an untouched Qwen3 configuration: QK norm, RoPE, grouped queries, SwiGLU, tied head.

    `initializer_range` 0.05 instead of Qwen's 0.02 suits a width of 64.
    """
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
    )
