"""Checkpoints that are known to be whole: a marker with checksums is written last."""

import logging
import shutil
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from longact_cli.files import flush_tree, read_json, sha256_file, write_json

_LOG = logging.getLogger(__name__)
MARKER = "COMPLETE"
KEEP_LAST = 2
_PREFIX = "checkpoint-"


def mark_complete(checkpoint: Path) -> None:
    """Write the marker, the SHA-256 of every file in the checkpoint, once they are on the disk."""
    checksums = {name: sha256_file(checkpoint / name) for name in _file_names(checkpoint)}
    flush_tree(checkpoint)
    write_json(checkpoint / MARKER, checksums)


def is_complete(checkpoint: Path) -> bool:
    """Return whether the marker is there and every file it names is unchanged."""
    checksums = read_json(checkpoint / MARKER)
    if not checksums:
        return False
    present = set(_file_names(checkpoint))
    return all(
        name in present and sha256_file(checkpoint / name) == checksum
        for name, checksum in checksums.items()
    )


def checkpoint_step(checkpoint: Path) -> int:
    """Return the optimizer step of `.../checkpoint-<step>`."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def list_checkpoints(folder: Path) -> tuple[Path, ...]:
    """Return all checkpoint folders, whole or not, the newest first."""
    if not folder.is_dir():
        return ()
    found = [
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name.removeprefix(_PREFIX).isdigit()
    ]
    return tuple(sorted(found, key=checkpoint_step, reverse=True))


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, or None; torn ones are passed over."""
    return next((path for path in list_checkpoints(folder) if is_complete(path)), None)


def discard_newer(folder: Path, checkpoint: Path | None) -> None:
    """Remove checkpoints after `checkpoint` (all, where it is None): they are torn."""
    kept_step = -1 if checkpoint is None else checkpoint_step(checkpoint)
    for path in list_checkpoints(folder):
        if checkpoint_step(path) > kept_step:
            used = "the start" if checkpoint is None else checkpoint.name
            _LOG.warning("%s is torn; removed it, going on from %s", path.name, used)
            shutil.rmtree(path)


def _file_names(checkpoint: Path) -> list[str]:
    return sorted(
        str(path.relative_to(checkpoint))
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name != MARKER
    )


class MarkerCallback(TrainerCallback):  # type: ignore[misc]
    """Marks every checkpoint as whole; it must be the last callback that acts on a save."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Write the marker of the checkpoint that every process has finished writing to."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"{_PREFIX}{state.global_step}")
