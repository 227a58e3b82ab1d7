"""From a model setting to a checkpoint, its tokenizer, its weights and its identity."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longact_cli.config.schema import ModelConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.models.micro import MICRO_NAME, micro_checkpoint_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def resolve_checkpoint(model: ModelConfig) -> str:
    """Return the local folder, or the hub id, that `model` names.

    Raises:
        ConfigError: `model.path` is needed, or names a folder that does not exist or holds no
            checkpoint.
    """
    if model.path is None:
        if model.name == MICRO_NAME:
            return str(micro_checkpoint_path())
        raise ConfigError(
            f"model.path is null and model.name is '{model.name}'; only '{MICRO_NAME}' is "
            "embedded: set model.path to a local Hugging Face folder or a hub id"
        )
    folder = Path(model.path).expanduser()
    if (folder / "config.json").is_file():
        return str(folder.resolve())
    if folder.exists() or not _looks_like_hub_id(model.path):
        raise ConfigError(
            f"model.path is '{model.path}'; it must be a folder with a config.json or a hub id "
            "such as Qwen/Qwen3-4B: check the path, or use --model micro"
        )
    return model.path


def _looks_like_hub_id(text: str) -> bool:
    """Tell whether `text` can be `owner/name` (or a bare `name`) rather than a path."""
    return not text.startswith((".", "/", "~")) and text.count("/") <= 1 and text != ""


def local_checkpoint(model: ModelConfig) -> str:
    """Return a local folder with the checkpoint `model` names, downloading a hub id if needed.

    Raises:
        ConfigError: `model.path` names nothing.
        PrerequisiteError: The hub cannot be reached, or does not hold it.
    """
    checkpoint = resolve_checkpoint(model)
    if Path(checkpoint).is_dir():
        return checkpoint
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.jinja"]
    try:
        return str(snapshot_download(checkpoint, revision=model.revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PrerequisiteError(
            f"'{checkpoint}' is neither on this machine nor to be downloaded now ({reason}); "
            f"get it with: hf download {checkpoint}"
        ) from None


def load_tokenizer(
    checkpoint: str, *, trust_remote_code: bool = False, revision: str | None = None
) -> "PreTrainedTokenizerBase":
    """Load the tokenizer for generation: padding on the left, a padding token always set.

    `revision` is that of a hub id; a local folder has none.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint, trust_remote_code=trust_remote_code, revision=revision or "main"
    )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(checkpoint: str, *, model: ModelConfig) -> "PreTrainedModel":
    """Load the weights as float32 masters, whatever precision they are stored in.

    bfloat16 masters would lose most updates of RL's size to rounding (arXiv 2511.08567).
    """
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        checkpoint,
        revision=model.revision,
        dtype=torch.float32,
        attn_implementation=model.attn_implementation,
        trust_remote_code=model.trust_remote_code,
    )


def context_window(checkpoint: str, *, revision: str | None = None) -> int:
    """Return the largest number of positions (prompt + completion) the model is configured for.

    YaRN that is written in `config.json` itself, as Qwen3's model card shows it, counts.

    Raises:
        PrerequisiteError: `config.json` does not say.
    """
    settings = checkpoint_config(checkpoint, revision=revision)
    window = settings.get("max_position_embeddings")
    if not isinstance(window, int):
        raise PrerequisiteError(
            f"{checkpoint}/config.json has no max_position_embeddings; set model.max_context"
        )
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if "yarn" not in (rope.get("rope_type"), rope.get("type")):
        return window
    original = rope.get("original_max_position_embeddings") or window
    return max(window, int(rope.get("factor", 1) * original))


def checkpoint_config(checkpoint: str, *, revision: str | None = None) -> dict[str, Any]:
    """Return the `config.json` of a checkpoint.

    Raises:
        PrerequisiteError: It is not on this machine.
    """
    path = _checkpoint_file(checkpoint, "config.json", revision=revision)
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings


def checkpoint_sha256(checkpoint: str) -> str:
    """Return one hash over `config.json` and all safetensors files, in name order.

    Raises:
        PrerequisiteError: The checkpoint has no safetensors file.
    """
    folder = _checkpoint_file(checkpoint, "config.json").parent
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise PrerequisiteError(
            f"{checkpoint} has no .safetensors file; save the model with transformers >= 5"
        )
    return _sha256_of([folder / "config.json", *weights])


def tokenizer_sha256(checkpoint: str) -> str:
    """Return one hash over the tokenizer's files, chat template included, in fixed order."""
    folder = _checkpoint_file(checkpoint, "tokenizer_config.json").parent
    return _sha256_of([folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()])


def _sha256_of(paths: list[Path]) -> str:
    """Hash names and contents, so that moving bytes between files changes the result."""
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def _checkpoint_file(checkpoint: str, name: str, *, revision: str | None = None) -> Path:
    """Return a file of a local folder, or of a hub checkpoint in the local cache.

    Raises:
        PrerequisiteError: The file is in neither place.
    """
    local = Path(checkpoint) / name
    if local.is_file():
        return local
    from huggingface_hub import try_to_load_from_cache

    cached = None
    if not Path(checkpoint).exists():
        cached = try_to_load_from_cache(checkpoint, name, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    raise PrerequisiteError(
        f"{name} of '{checkpoint}' is not on this machine; download the checkpoint first: "
        f"hf download {checkpoint}"
    )
