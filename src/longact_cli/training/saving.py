"""The trained model as a plain Hugging Face folder."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from longact_cli.files import flush_tree

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer


def whole_weights(trainer: "Trainer") -> dict[str, "Tensor"] | None:
    """Return the weights of a sharded model, complete on the first process; None where not sharded.

    A collective call.
    """
    if not trainer.is_fsdp_enabled:
        return None
    weights: dict[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return weights


def save_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    *,
    weights: dict[str, "Tensor"] | None = None,
) -> None:
    """Write float32 weights, configuration and tokenizer; `folder` appears whole or not at all.

    Args:
        model: Its own weights are written where none are given.
        tokenizer: Of the model.
        folder: Replaced in one step.
        weights: The whole of a sharded model.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".model."))
    try:
        model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
        temporary.chmod(0o755)
        flush_tree(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
