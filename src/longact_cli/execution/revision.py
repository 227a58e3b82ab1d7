"""The identity of starting weights, so that a digest never covers two different models."""

import hashlib
from functools import cache
from pathlib import Path

from longact_cli.config.schema import ModelConfig
from longact_cli.models.loading import checkpoint_sha256, resolve_checkpoint

_WHOLE_BYTES = 1 << 30
_SAMPLE_BYTES = 1 << 20


def model_revision(model: ModelConfig) -> str:
    """Return what identifies the weights `model` names.

    A local checkpoint up to 1 GiB is hashed whole; of a larger one, the size, the first and the
    last MiB of every file. A hub id is identified by its revision.

    Raises:
        ConfigError: The model does not resolve to a checkpoint.
    """
    checkpoint = resolve_checkpoint(model)
    if not Path(checkpoint).is_dir():
        return f"{checkpoint}@{model.revision or 'main'}"
    return _local_revision(checkpoint)


@cache
def _local_revision(checkpoint: str) -> str:
    files = sorted(Path(checkpoint).glob("*.safetensors"))
    if sum(path.stat().st_size for path in files) <= _WHOLE_BYTES:
        return checkpoint_sha256(checkpoint)
    digest = hashlib.sha256((Path(checkpoint) / "config.json").read_bytes())
    for path in files:
        digest.update(_sampled(path))
    return f"sampled-{digest.hexdigest()}"


def _sampled(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_SAMPLE_BYTES)
        stream.seek(max(0, size - _SAMPLE_BYTES))
        return f"{path.name} {size} ".encode() + head + stream.read()
