"""What rollouts of an engine inside the training process find in its prefix cache."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator
    from trl import GRPOTrainer

_LOG = logging.getLogger(__name__)
HITS = "sampling/prefix_cache_hits"
QUERIES = "sampling/prefix_cache_queries"


class EngineCache:
    """Sums up the prompt tokens that vLLM has looked up in its prefix cache, and found there.

    TRL sends the completions of a group as requests of their own, all at once: the first pays for
    the prompt. It empties the cache whenever it writes new weights, so a hit is never older than
    the weights.
    """

    def __init__(self, engine: Any, accelerator: "Accelerator", *, copies: int) -> None:
        """Count from now on.

        Args:
            engine: vLLM's `LLM`; its outputs name the tokens found, and TRL drops that.
            accelerator: Of the trainer.
            copies: Processes that every request goes to (tensor parallelism).
        """
        self._accelerator = accelerator
        self._copies = copies
        self._queries = self._hits = 0
        generate = engine.generate

        def counted(*arguments: Any, **keywords: Any) -> list[Any]:
            outputs: list[Any] = generate(*arguments, **keywords)
            self._queries += sum(len(one.prompt_token_ids or ()) for one in outputs)
            self._hits += sum(one.num_cached_tokens or 0 for one in outputs)
            return outputs

        engine.generate = counted
        if not engine.llm_engine.vllm_config.cache_config.enable_prefix_caching:
            _LOG.warning(
                "vLLM has switched its prefix cache off for this model or machine: it computes the "
                "prompt of a group once for every completion"
            )

    def take(self) -> Mapping[str, float]:
        """Return the tokens since last time, over all processes; nothing where there were none.

        A collective call.
        """
        own = torch.tensor([self._queries, self._hits], device=self._accelerator.device)
        self._queries = self._hits = 0
        queries, hits = (self._accelerator.reduce(own) // self._copies).tolist()
        return {QUERIES: float(queries), HITS: float(hits)} if queries else {}


def engine_cache(trainer: "GRPOTrainer") -> EngineCache | None:
    """Return the counter of a trainer's own engine; None where it has none."""
    settings = trainer.args
    if not settings.use_vllm or settings.vllm_mode != "colocate":
        return None
    engine, copies = trainer.vllm_generation.llm, settings.vllm_tensor_parallel_size
    return EngineCache(engine, trainer.accelerator, copies=copies)
