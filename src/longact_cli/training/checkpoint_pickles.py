"""Files of a checkpoint that libraries write as pickles: read without running what is in them.

Transformers reads optimizer, scheduler and random states with torch's restricted reader. Torch's
own reader of sharded checkpoints (FSDP2) unpickles `.metadata` as it is, and its entries without
`weights_only` (torch/distributed/checkpoint/filesystem.py, default_planner.py).
"""

import os
import pickle  # noqa: TID251 - torch writes them; read with an allow-list only
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed.checkpoint.api import CheckpointException

from longact_cli.errors import CellFailedError

_CHECKPOINT = "torch.distributed.checkpoint"
_METADATA = (
    *("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties", "_MEM_FORMAT_ENCODING"),
    *("TensorStorageMetadata", "ChunkStorageMetadata", "BytesStorageMetadata"),
)
_ALLOWED = frozenset(
    {(f"{_CHECKPOINT}.metadata", name) for name in _METADATA}
    | {(f"{_CHECKPOINT}.filesystem", "_StorageInfo")}
    | {("torch", "Size"), ("torch.serialization", "_get_layout")}
    | {("pathlib", "PosixPath"), ("pathlib._local", "PosixPath")}
)
# Makes torch.load restricted wherever it is called, and undoes the opposite.
_FORCED = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}


class _Reader(pickle.Unpickler):
    """Makes what describes tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        """Return a class by its name.

        Raises:
            UnpicklingError: It does not describe a tensor.
        """
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if dtype or (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")


@contextmanager
def without_code(checkpoint: Path | None) -> Iterator[None]:
    """Go on from a checkpoint inside the block; nothing in its files is run.

    Args:
        checkpoint: Its folder; None where there is none to go on from.

    Raises:
        CellFailedError: A file holds something else than numbers and their description.
    """
    before = {name: os.environ.get(name) for name in _FORCED}
    os.environ |= _FORCED
    try:
        if checkpoint is not None:
            _check_metadata(checkpoint)
        yield
    except (pickle.UnpicklingError, CheckpointException) as error:
        found = _refusal(error)
        if checkpoint is None or found is None:
            raise
        raise CellFailedError(
            f"a file in {checkpoint} is no part of a checkpoint and was not read ({found}); "
            "remove that folder and run the same command again: it goes on from the one before"
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _refusal(error: BaseException) -> str | None:
    """Return what a restricted reader has found, in short; None where it is another error."""
    if isinstance(error, CheckpointException):
        refused = [_refusal(one) for one, _ in error.failures.values()]
        return next((one for one in refused if one is not None), None)
    if not isinstance(error, pickle.UnpicklingError):
        return None
    text = " ".join(str(error).split())
    # torch goes on to recommend reading the file without care.
    name = re.search(r"GLOBAL (\S+)", text)
    return "it is not what torch writes" if name is None else f"it asks for {name.group(1)}"


def _check_metadata(checkpoint: Path) -> None:
    for path in sorted(checkpoint.rglob("*.metadata")):
        with path.open("rb") as stream:
            _Reader(stream).load()
