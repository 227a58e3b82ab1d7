"""The identity of starting weights and data: a digest never covers two different ones."""

import hashlib
from functools import cache
from pathlib import Path

from longact_cli.config.schema import ModelConfig, RunConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.inputs import data_sha256
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


def with_data_hash(config: RunConfig) -> RunConfig:
    """Return the configuration with the hash of the benchmark's local files in it.

    Raises:
        ConfigError: A file is missing, or the files are not those that the configuration names.
    """
    asked = config.benchmark
    if asked.data_dir is None:
        return config
    found = data_sha256(asked)
    if asked.data_sha256 not in (None, found):
        raise ConfigError(
            f"benchmark.data_sha256 is {asked.data_sha256}; the files in {asked.data_dir} have "
            f"{found}: give the folder with the data that was meant, or leave the hash out"
        )
    changed = asked.model_copy(update={"data_sha256": found})
    return config.model_copy(update={"benchmark": changed})


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
