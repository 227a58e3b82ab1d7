"""lm-eval's model backends, loaded with the settings that a fair comparison needs."""

from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch
from lm_eval.api.model import LM
from transformers import GenerationConfig, PreTrainedTokenizerBase

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import PrerequisiteError

_VLLM_BATCHES_PER_CALL = 16


class BackendPlan(NamedTuple):
    """How answers will be generated: enough to load the backend, and to tell two runs apart."""

    checkpoint: str
    model: ModelConfig
    backend: str
    dtype: str
    window: int
    """Prompt + completion, in tokens."""
    samples_per_call: int


def plan_backend(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> BackendPlan:
    """Decide precision and batch size without loading anything.

    Raises:
        PrerequisiteError: The backend's package is not installed.
    """
    if benchmark.backend == "vllm":
        _require_vllm()
    calls = _VLLM_BATCHES_PER_CALL if benchmark.backend == "vllm" else 1
    return BackendPlan(
        checkpoint=checkpoint,
        model=model,
        backend=benchmark.backend,
        dtype="bfloat16" if torch.cuda.is_available() else "float32",
        window=max(benchmark.context_lengths),
        samples_per_call=benchmark.batch_size * calls,
    )


def load_backend(plan: BackendPlan, *, tokenizer: PreTrainedTokenizerBase) -> LM:
    """Load the model into the planned backend."""
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


def _require_vllm() -> None:
    try:
        version("vllm")
    except PackageNotFoundError:
        raise PrerequisiteError(
            "benchmark.backend is vllm, but vLLM is not installed; install it with "
            "pip install 'longact[vllm]', or set benchmark.backend=hf"
        ) from None


def _load_vllm(plan: BackendPlan) -> LM:
    """Load lm-eval's vLLM backend."""
    from lm_eval.models.vllm_causallms import VLLM

    return VLLM(
        pretrained=plan.checkpoint,
        revision=plan.model.revision,
        dtype=plan.dtype,
        max_model_len=plan.window,
        trust_remote_code=plan.model.trust_remote_code,
        batch_size="auto",
    )
