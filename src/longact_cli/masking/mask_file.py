"""A mask as a file: safetensors with one bool vector per projection and a manifest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.files import write_bytes
from longact_cli.masking.report import rows_ratio
from longact_cli.masking.types import UpdateMask

FORMAT = "longact-mask-1"


class MaskManifest(NamedTuple):
    """Where a mask comes from.

    Attributes:
        model: Name or folder of the model it was taken on.
        model_revision: Hash or revision of its weights.
        strategy: Mask strategy.
        site: Where activations were read.
        statistic: How a channel's activations became one number.
        scope: Within what rows were counted out.
        sparsity: Fraction of rows asked to be updated, 0..1.
        mass: Share of the scores' sum that the rows hold; None without that rule.
        seed: Of random strategies and generated prompts.
        step: Optimizer steps finished when it was taken.
        prompts: What the activations were measured on.
    """

    model: str = ""
    model_revision: str = ""
    strategy: str = ""
    site: str = ""
    statistic: str = ""
    scope: str = "matrix"
    sparsity: float = 0.0
    mass: float | None = None
    seed: int = 0
    step: int = 0
    prompts: str = "training"


class SavedMask(NamedTuple):
    """A mask read from a file.

    Attributes:
        mask: Bool [rows] per projection; True = updated.
        manifest: Where it comes from.
        sha256: Of names and rows, in hex.
    """

    mask: UpdateMask
    manifest: MaskManifest
    sha256: str


def mask_digest(mask: UpdateMask) -> str:
    """Return the SHA-256 of a mask's names and rows, in hex, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(mask):
        digest.update(f"{name} {len(mask[name])} ".encode())
        digest.update(bytes(mask[name].int().tolist()))
    return digest.hexdigest()


def save_mask(path: Path, mask: UpdateMask, manifest: MaskManifest) -> None:
    """Write a mask in one step; any safetensors reader opens it."""
    header: Mapping[str, object] = {
        "format": FORMAT,
        **manifest._asdict(),
        "achieved_ratio": rows_ratio(mask),
        "sha256": mask_digest(mask),
    }
    tensors = {name: rows.cpu().contiguous() for name, rows in mask.items()}
    # One entry: safetensors writes several in an order of its own, and equal masks equal bytes.
    metadata = {"longact": json.dumps(header, sort_keys=True)}
    write_bytes(path, save(tensors, metadata=metadata))


def load_mask(path: Path) -> SavedMask:
    """Read a mask and check it against its manifest.

    Raises:
        NotFoundError: There is no such file.
        ConfigError: It is not a mask file, or not the one its manifest describes.
    """
    if not path.is_file():
        raise NotFoundError(f"mask file {path} does not exist; write one with longact mask export")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            mask = {name: stream.get_tensor(name).bool() for name in stream.keys()}
    except SafetensorError as error:
        raise ConfigError(f"mask file {path} is not safetensors: {error}") from None
    header = json.loads(metadata.get("longact", "{}"))
    if header.get("format") != FORMAT:
        raise ConfigError(
            f"mask file {path} has format {header.get('format')}; it must be {FORMAT}: write it "
            "with longact mask export"
        )
    if header["sha256"] != mask_digest(mask):
        raise ConfigError(f"mask file {path} does not match its checksum; write it again")
    manifest = MaskManifest(**{name: header[name] for name in MaskManifest._fields})
    return SavedMask(mask, manifest, header["sha256"])
