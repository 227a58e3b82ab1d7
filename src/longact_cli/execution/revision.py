"""The identity of weights and input files, so that a digest never covers two different ones."""

import hashlib
from functools import cache
from pathlib import Path

from longact_cli.config.schema import ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.files import sha256_file
from longact_cli.models.loading import checkpoint_sha256, resolve_checkpoint
from longact_cli.plan import InputFile

_WHOLE_BYTES = 1 << 30
_SAMPLE_BYTES = 1 << 20


def revision(source: ModelConfig | InputFile) -> str:
    """Return what identifies a model's weights, or the content of an input file.

    In a folder every file counts, with its name. What is neither file nor folder is the id of a
    dataset on a hub and stands for itself.

    Raises:
        ConfigError: The model does not resolve to a checkpoint, or a file does not exist.
    """
    if isinstance(source, ModelConfig):
        return model_revision(source)
    path = Path(source.path).expanduser()
    if path.is_dir():
        return _folder_revision(path)
    if path.is_file():
        stat = path.stat()
        return _file_revision(path, stat.st_size, stat.st_mtime_ns)
    if path.is_absolute() or path.suffix:
        raise ConfigError(
            f"{source.key} is {source.path}; there is no such file: give the path of one"
        )
    return source.path


@cache
def _file_revision(path: Path, _size: int, _changed: int) -> str:
    return sha256_file(path)


def _folder_revision(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = path.stat()
        content = _file_revision(path, stat.st_size, stat.st_mtime_ns)
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


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
