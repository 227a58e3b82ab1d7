"""What the answers of one evaluation have cost so far: tokens, seconds, prefix-cache hits."""

from pathlib import Path
from typing import NamedTuple

from longact_cli.files import read_json, write_json


class Usage(NamedTuple):
    """Sums over the batches that were answered, over all processes of an evaluation.

    `reserved_tokens` are the answer budgets, of which `generated_tokens` were used. The last two
    are 0 where the backend does not say: tokens looked up in its prefix cache, and found there.
    """

    samples: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reserved_tokens: int = 0
    cache_queries: int = 0
    cache_hits: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the sums of both."""
        return Usage(
            self.samples + other.samples,
            self.seconds + other.seconds,
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.reserved_tokens + other.reserved_tokens,
            self.cache_queries + other.cache_queries,
            self.cache_hits + other.cache_hits,
        )

    @property
    def tokens(self) -> int:
        """Tokens through the model."""
        return self.prompt_tokens + self.generated_tokens

    @property
    def hit_share(self) -> float | None:
        """Share of the prompts' tokens that the prefix cache served; None where not measured."""
        return self.cache_hits / self.cache_queries if self.cache_queries else None


def usage_path(samples_path: Path) -> Path:
    """Return where the usage of a samples file lies."""
    return samples_path.with_suffix(".usage.json")


def read_usage(path: Path) -> Usage:
    """Return what was used; nothing where there is no such record."""
    found = read_json(path)
    return Usage(**found) if isinstance(found, dict) else Usage()


def write_usage(path: Path, usage: Usage) -> None:
    """Replace the record."""
    write_json(path, usage._asdict())
