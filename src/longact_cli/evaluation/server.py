"""An OpenAI-compatible server as backend, through lm-eval's own client."""

import logging
from typing import Any

from lm_eval.api.instance import Instance  # noqa: TID253 - subclassing needs lm-eval at import
from lm_eval.models.openai_completions import LocalCompletionsAPI  # noqa: TID253

from longact_cli.errors import PrerequisiteError

_ATTEMPTS = 3


def load_server(base_url: str, *, model: str, concurrent: int) -> "ServerLM":
    """Return a client that sends final prompts as text to `BASE_URL/completions`.

    Args:
        base_url: Address of the API, e.g. `http://localhost:8000/v1`.
        model: The name under which the server knows the model.
        concurrent: Requests under way at once.
    """
    address = base_url.rstrip("/")
    if not address.endswith("/completions"):
        address += "/completions"
    return ServerLM(
        base_url=address,
        model=model,
        tokenizer_backend=None,
        tokenized_requests=False,
        num_concurrent=max(2, concurrent),
        max_retries=_ATTEMPTS,
    )


class ServerLM(LocalCompletionsAPI):  # type: ignore[misc]  # lm-eval has no types
    """lm-eval's client, with its failures as errors and never as made-up answers."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return one completion per request.

        Raises:
            RuntimeError: The server failed, or sent no text.
            PrerequisiteError: There is no server.
        """
        from aiohttp import ClientConnectorError, ClientError

        logging.getLogger("lm_eval.models.api_models").setLevel(logging.CRITICAL)
        try:
            answers: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        except ClientConnectorError as error:
            raise PrerequisiteError(
                f"benchmark.base_url is {self.base_url}; no server answers there ({error}): "
                "start it, or give another --base-url"
            ) from None
        except (ClientError, KeyError, TimeoutError) as error:
            raise RuntimeError(f"the server failed: {error}") from error
        return answers

    @staticmethod
    def parse_generations(outputs: Any, **kwargs: Any) -> list[str]:
        """Return the texts of a reply.

        Raises:
            RuntimeError: A text is missing; lm-eval would put an empty answer in its place.
        """
        texts: list[str | None] = LocalCompletionsAPI.parse_generations(outputs, **kwargs)
        if None in texts:
            raise RuntimeError("the server sent no text")
        return [text for text in texts if text is not None]
