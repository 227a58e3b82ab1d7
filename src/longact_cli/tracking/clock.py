"""One clock for all who write to a server: its own."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from longact_cli.tracking import is_server
from longact_cli.tracking.client import translated


def server_time(uri: str) -> int:
    """Return the server's clock, in milliseconds; ours where it does not tell.

    Raises:
        TrackingError: It does not answer.
    """
    with translated(uri):
        answer = http_request(get_default_host_creds(uri), "/health", "GET")
    told = answer.headers.get("Date")
    return int(parsedate_to_datetime(told).timestamp() * 1000) if told else _now()


def clock_of(uri: str) -> Callable[[], int]:
    """Return what tells the time of a store, in milliseconds; a server is asked once, when needed.

    Raises:
        TrackingError: The server does not answer.
    """
    if not is_server(uri):
        return _now
    ahead: list[int] = []

    def now() -> int:
        if not ahead:
            ahead.append(server_time(uri) - _now())
        return _now() + ahead[0]

    return now


def _now() -> int:
    return int(time.time() * 1000)
