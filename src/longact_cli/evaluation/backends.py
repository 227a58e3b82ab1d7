"""lm-eval's model backends, loaded with the settings that a fair comparison needs."""

from typing import NamedTuple

import torch
from lm_eval.api.model import LM
from transformers import GenerationConfig, PreTrainedTokenizerBase

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.evaluation.inputs import check_backend
from longact_cli.evaluation.vllm_counts import load_counting_vllm
from longact_cli.evaluation.vllm_cpu import prepare_vllm_cpu
from longact_cli.evaluation.yarn import Yarn, config_overrides, plan_yarn, usable_window

_VLLM_BATCHES_PER_CALL = 16
_CPU_MEMORY = 0.2


class BackendPlan(NamedTuple):
    """How answers will be generated: enough to load the backend, and to tell two runs apart."""

    checkpoint: str
    model: ModelConfig
    backend: str
    dtype: str
    window: int
    """Prompt + completion, in tokens."""
    samples_per_call: int
    base_url: str | None = None
    """Address of the server, for `openai`."""
    yarn: Yarn | None = None


def plan_backend(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> BackendPlan:
    """Decide precision and batch size without loading anything.

    Raises:
        PrerequisiteError: The backend's package is not installed.
        ConfigError: The server's address is missing.
    """
    check_backend(benchmark)
    calls = _VLLM_BATCHES_PER_CALL if benchmark.backend == "vllm" else 1
    return BackendPlan(
        checkpoint=checkpoint,
        model=model,
        backend=benchmark.backend,
        dtype="bfloat16" if torch.cuda.is_available() else "float32",
        window=_window(checkpoint, model=model, benchmark=benchmark),
        samples_per_call=benchmark.batch_size * calls,
        base_url=benchmark.base_url,
        yarn=plan_yarn(checkpoint, model=model, benchmark=benchmark),
    )


def _window(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> int:
    """Return what a backend must hold: lm-eval's prompts may pass the length that they are for."""
    if benchmark.protocol == "lm-eval" and benchmark.name == "ruler":
        return usable_window(checkpoint, model=model, benchmark=benchmark)
    return max(benchmark.context_lengths)


def load_backend(plan: BackendPlan, *, tokenizer: PreTrainedTokenizerBase) -> LM:
    """Load the model into the planned backend."""
    if plan.backend == "openai":
        from longact_cli.evaluation.server import load_server

        address = str(plan.base_url)
        name = plan.model.path or plan.model.name
        return load_server(address, model=name, concurrent=plan.samples_per_call)
    return _load_vllm(plan) if plan.backend == "vllm" else _load_hf(plan, tokenizer)


def _load_hf(plan: BackendPlan, tokenizer: PreTrainedTokenizerBase) -> LM:
    """Load lm-eval's Hugging Face backend.

    The checkpoint's own sampling defaults are replaced: a repetition penalty, for one, would change
    even greedy answers. Its end-of-sequence tokens are kept and the tokenizer's is added, so that
    generation stops at whichever comes first.
    """
    from lm_eval.models.huggingface import HFLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    backend = HFLM(
        pretrained=plan.checkpoint,
        revision=plan.model.revision or "main",
        tokenizer=tokenizer,
        dtype=plan.dtype,
        device="cuda" if torch.cuda.is_available() else "cpu",
        batch_size=plan.samples_per_call,
        max_length=plan.window,
        trust_remote_code=plan.model.trust_remote_code,
        attn_implementation=plan.model.attn_implementation,
        **config_overrides(plan.yarn, plan.checkpoint, revision=plan.model.revision),
    )
    stops = backend.model.generation_config.eos_token_id
    known = stops if isinstance(stops, list) else [stops]
    backend.model.generation_config = GenerationConfig(
        eos_token_id=sorted(
            {token for token in [*known, tokenizer.eos_token_id] if token is not None}
        ),
        pad_token_id=tokenizer.pad_token_id,
    )
    return backend


def _load_vllm(plan: BackendPlan) -> LM:
    """Load lm-eval's vLLM backend.

    The checkpoint's sampling defaults are left out, as with the other backend.
    """
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        prepare_vllm_cpu()
    cpu = {"enforce_eager": True, "gpu_memory_utilization": _CPU_MEMORY} if on_cpu else {}
    replaced = config_overrides(plan.yarn, plan.checkpoint, revision=plan.model.revision)
    overrides = {"hf_overrides": replaced} if replaced else {}
    return load_counting_vllm(
        pretrained=plan.checkpoint,
        revision=plan.model.revision,
        dtype=plan.dtype,
        max_model_len=plan.window,
        trust_remote_code=plan.model.trust_remote_code,
        batch_size="auto",
        generation_config="vllm",
        enable_prefix_caching=True,
        **cpu,
        **overrides,
    )
