"""lm-eval's vLLM backend, which also tells how often the prefix cache was hit."""

from typing import Any

from lm_eval.api.model import LM  # noqa: TID253 - imported where a backend is loaded


def load_counting_vllm(**settings: Any) -> LM:
    """Load the backend; `take_cache_counts()` returns tokens looked up and found since last time.

    vLLM reports the tokens found per request; lm-eval drops that with the rest of the output.
    """
    from lm_eval.models.vllm_causallms import VLLM

    class CountingVLLM(VLLM):  # type: ignore[misc]  # lm-eval has no types
        """Sums up what each request found in the prefix cache."""

        _queries = _hits = 0

        def _model_generate(self, *args: Any, **kwargs: Any) -> list[Any]:
            outputs: list[Any] = super()._model_generate(*args, **kwargs)
            self._queries += sum(len(one.prompt_token_ids or ()) for one in outputs)
            self._hits += sum(one.num_cached_tokens or 0 for one in outputs)
            return outputs

        def take_cache_counts(self) -> tuple[int, int]:
            counts = (self._queries, self._hits)
            self._queries = self._hits = 0
            return counts

    return CountingVLLM(**settings)
