"""Secrets in text: found by their shape, or by the environment variable that holds them."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TextIO, cast

MARK = "***"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIAL", re.I)
# Names that match above and hold no secret.
_HARMLESS = re.compile(r"TOKENIZERS?_|_TOKENIZERS?$|MAX_TOKENS|TOKEN_PATH|_FILE$|_DIR$", re.I)
_SHORTEST = 8

_SHAPES = (
    # scheme://user:password@host, scheme://token@host
    (re.compile(r"(?<=://)[^\s/?#@'\"]+(?=@)"), MARK),
    # Hugging Face, OpenAI, GitHub, Slack, AWS, Weights & Biases API keys
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), MARK),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), MARK),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{16,}"), MARK),
    (re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"), MARK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MARK),
    (
        re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?\w+|bearer)\s+[\w.~+/=-]{12,}"),
        rf"\1 {MARK}",
    ),
    # ...token=value, "api_key": "value", PASSWORD: value
    (
        re.compile(
            r"(?i)((?:auth|access|api|hf|hub|secret|private)[_-]?(?:token|key)|secret|passw(?:or)?d)"
            r"(['\"]?\s*[=:]\s*['\"]?)(?!null\b|none\b|true\b|false\b)[^\s'\"&,;]{6,}"
        ),
        rf"\1\2{MARK}",
    ),
)


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables whose name says that they are secret, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name) and not _HARMLESS.search(name)
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


@cache
def own_secrets() -> tuple[str, ...]:
    """Return the secrets of this process's environment, as they were at the first call."""
    return secret_values(os.environ)


def redact(text: str, *, known: Iterable[str] | None = None) -> str:
    """Return `text` with every secret replaced by `***`.

    Args:
        text: Any text that is printed or stored.
        known: Secrets to replace wherever they occur; default: those of this process's environment.
    """
    for value in own_secrets() if known is None else known:
        text = text.replace(value, MARK)
    for pattern, replacement in _SHAPES:
        text = pattern.sub(replacement, text)
    return text


def holds_secret(text: str) -> bool:
    """Return whether `redact` would change the text."""
    return redact(text) != text


class RedactingStream:
    """A text stream that replaces secrets in what is written to it; the rest is passed on."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write one piece of text; a secret that spans two writes is not seen."""
        self._stream.write(redact(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def redact_output() -> None:
    """Replace secrets in what this process prints from now on, tracebacks and logs included."""
    sys.stdout = cast(TextIO, RedactingStream(sys.stdout))
    sys.stderr = cast(TextIO, RedactingStream(sys.stderr))
