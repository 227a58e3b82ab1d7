"""How much device memory a training run needs: arithmetic on the model's shape, no measurement.

States are exact: float32 weights, gradients and both AdamW moments are 16 bytes per parameter.
Activations count the tensors that a decoder layer keeps for its backward pass and leave out the
allocator's fragmentation: expect the real peak within about a quarter above the sum.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.schema import ParallelConfig, VllmConfig

_STATE_BYTES = 16
_MASTER_BYTES = 4
_HALF_BYTES = 2


class ModelShape(NamedTuple):
    """The sizes of a decoder that decide its memory."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied_embeddings: bool

    @property
    def layer_parameters(self) -> int:
        """Weights of attention and gated feed-forward of one layer; norms are left out."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All weights, without norms and biases."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return self.layers * self.layer_parameters + embeddings


KNOWN_SHAPES = {
    "Qwen/Qwen3-4B": ModelShape(36, 2560, 9728, 32, 8, 128, 151936, tied_embeddings=True),
    "Qwen/Qwen3-8B": ModelShape(36, 4096, 12288, 32, 8, 128, 151936, tied_embeddings=False),
}
"""Shapes of the models that the project names, for plans made before their download."""


class Layout(NamedTuple):
    """How processes share a model.

    Attributes:
        processes: One for each device.
        sharded: Whether weights and optimizer states are split over them.
        engine_gpus: Devices that share one vLLM engine.
        server: Whether vLLM runs on devices of its own.
    """

    processes: int = 1
    sharded: bool = False
    engine_gpus: int = 1
    server: bool = False

    @classmethod
    def of(cls, parallel: ParallelConfig, vllm: VllmConfig) -> "Layout":
        """Return the layout that a configuration asks for."""
        return cls(
            parallel.processes, parallel.sharding == "fsdp2", vllm.gpus, vllm.mode == "server"
        )


ONE_DEVICE = Layout()


class MemoryEstimate(NamedTuple):
    """Bytes on one device.

    Attributes:
        states: Weights, gradients and AdamW moments in float32.
        half_weights: Copies of the weights to compute with: all of them in bfloat16 under
            autocast, or what FSDP2 has gathered.
        gradients: Whole gradients that FSDP2 adds up between micro-batches counted in rollouts;
            with a budget of tokens each micro-batch is reduced at once.
        reference: Weights of the reference model of the KL penalty.
        activations: Of one micro-batch, at the end of its forward pass.
        rollouts: Weights and key-value cache of generation; vLLM can use more for its cache.
    """

    states: int
    half_weights: int
    gradients: int
    reference: int
    activations: int
    rollouts: int

    @property
    def total(self) -> int:
        """Peak in bytes: training and rollouts keep their memory at the same time."""
        return sum(self)


def estimate_memory(
    shape: ModelShape,
    algorithm: AlgorithmConfig,
    *,
    sequence_tokens: int,
    layout: Layout = ONE_DEVICE,
) -> MemoryEstimate:
    """Return the memory of one process and its device.

    Under FSDP2 states are split; a process holds the whole of two decoder layers (the one at work
    and the next one) and of the embeddings while it needs them.

    Args:
        shape: The model.
        algorithm: Micro-batch or budget, precision, checkpointing and kind of rollouts.
        sequence_tokens: Prompt and completion of the longest rollout; the completion takes
            `max_completion_tokens` of them.
        layout: How many processes share the work, and how.
    """
    precise = 0 if algorithm.bf16 else 1
    width = _MASTER_BYTES if precise else _HALF_BYTES
    tokens = _micro_batch_tokens(algorithm, sequence_tokens, layout)
    split = layout.processes if layout.sharded else 1
    if layout.sharded:
        embeddings = shape.parameters - shape.layers * shape.layer_parameters
        gathered = width * (2 * shape.layer_parameters + embeddings)
    else:
        gathered = 0 if precise else _HALF_BYTES * shape.parameters
    return MemoryEstimate(
        states=_STATE_BYTES * shape.parameters // split,
        half_weights=gathered,
        gradients=_MASTER_BYTES * shape.parameters if _adds_up(algorithm, layout) else 0,
        reference=_MASTER_BYTES * shape.parameters // split if algorithm.kl_coef else 0,
        activations=tokens * _activation_width(shape, algorithm) * width,
        rollouts=_rollout_bytes(shape, algorithm, sequence_tokens, layout),
    )


def _micro_batch_tokens(algorithm: AlgorithmConfig, sequence_tokens: int, layout: Layout) -> int:
    """Return the tokens of the largest micro-batch where every rollout has the longest length."""
    processes = layout.processes
    rows = algorithm.micro_batch(processes)
    tokens = rows * sequence_tokens
    share = algorithm.share_prompt_prefix and algorithm.kind != "sft"
    if share and _keeps_groups(algorithm, rows, processes):
        completion = min(algorithm.max_completion_tokens, sequence_tokens)
        members = min(rows, algorithm.group_size)
        prompts = -(-rows // members)
        tokens = prompts * (sequence_tokens - completion + members * completion)
    if algorithm.micro_batch_tokens is None or not algorithm.fills_tokens:
        return tokens
    # A rollout above the budget goes alone.
    return max(min(algorithm.micro_batch_tokens, tokens), sequence_tokens)


def _keeps_groups(algorithm: AlgorithmConfig, rows: int, processes: int) -> bool:
    """Return whether the rollouts of a prompt are sure to meet: dealt so, or not dealt out."""
    step = algorithm.prompts_per_step * algorithm.group_size // processes
    undivided = rows == step and algorithm.updates_per_rollout == 1
    return algorithm.whole_groups or undivided


def _adds_up(algorithm: AlgorithmConfig, layout: Layout) -> bool:
    """Return whether whole gradients wait for the last micro-batch of a step."""
    rows = algorithm.prompts_per_step // layout.processes
    rows *= 1 if algorithm.kind == "sft" else algorithm.group_size
    return layout.sharded and algorithm.micro_batch(layout.processes) < rows


def _activation_width(shape: ModelShape, algorithm: AlgorithmConfig) -> int:
    """Return the values kept per token: layer inputs, and what is recomputed at a time."""
    layer = _layer_width(shape)
    if algorithm.gradient_checkpointing:
        return shape.layers * shape.hidden + layer
    return shape.layers * layer


def _layer_width(shape: ModelShape) -> int:
    """Return the values a layer keeps per token.

    Inputs of both norms and of both blocks, queries and keys before and after their norm and after
    the rotary embedding, values, the attention's output, and gate, up, activation and product.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return 4 * shape.hidden + 4 * queries + 4 * keys + 4 * shape.intermediate


def _rollout_bytes(
    shape: ModelShape, algorithm: AlgorithmConfig, sequence_tokens: int, layout: Layout
) -> int:
    """Return the key-value cache of a process's rollouts, or of vLLM weights and one sequence.

    Without vLLM all rollouts of a set are generated at once, on the float32 weights. A server has
    devices of its own.
    """
    if algorithm.kind == "sft" or (algorithm.use_vllm and layout.server):
        return 0
    cached = 2 * shape.layers * shape.kv_heads * shape.head_dim * sequence_tokens
    if algorithm.use_vllm:
        return _HALF_BYTES * (shape.parameters + cached) // layout.engine_gpus
    rollouts = algorithm.prompts_per_step * algorithm.group_size * algorithm.updates_per_rollout
    return _MASTER_BYTES * cached * rollouts // layout.processes


def checkpoint_shape(checkpoint: str) -> ModelShape | None:
    """Return the shape of a local checkpoint or a known hub id; None where it is not known."""
    path = Path(checkpoint) / "config.json"
    if path.is_file():
        return shape_of(json.loads(path.read_text(encoding="utf-8")))
    return KNOWN_SHAPES.get(checkpoint)


def shape_of(config: Mapping[str, object]) -> ModelShape | None:
    """Return the shape in a Hugging Face `config.json`; None where it is not such a decoder."""
    numbers = {name: value for name, value in config.items() if isinstance(value, int)}
    try:
        hidden, heads = numbers["hidden_size"], numbers["num_attention_heads"]
        return ModelShape(
            layers=numbers["num_hidden_layers"],
            hidden=hidden,
            intermediate=numbers["intermediate_size"],
            heads=heads,
            kv_heads=numbers.get("num_key_value_heads", heads),
            head_dim=numbers.get("head_dim", hidden // heads),
            vocabulary=numbers["vocab_size"],
            tied_embeddings=bool(config.get("tie_word_embeddings", True)),
        )
    except KeyError:
        return None
