from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.masking import MaskManifest, MaskSchedule, MaskSettings, load_mask, save_mask

from .masking_toys import K, Q, Toy, toy_mask

MASK = toy_mask([True, False, False, True], [False, True])
MANIFEST = MaskManifest(model="toy", strategy="salient", sparsity=0.5, seed=7, step=3)


def test_a_mask_comes_back_with_its_manifest(tmp_path: Path) -> None:
    save_mask(tmp_path / "m.safetensors", MASK, MANIFEST)
    saved = load_mask(tmp_path / "m.safetensors")
    assert saved.manifest == MANIFEST
    assert all(torch.equal(saved.mask[name], rows) for name, rows in MASK.items())
    assert len(saved.sha256) == 64


def test_any_safetensors_reader_gets_bool_rows_by_parameter_name(tmp_path: Path) -> None:
    save_mask(tmp_path / "m.safetensors", MASK, MANIFEST)
    plain = load_file(tmp_path / "m.safetensors")
    assert {name: (rows.dtype, rows.tolist()) for name, rows in plain.items()} == {
        Q: (torch.bool, [True, False, False, True]),
        K: (torch.bool, [False, True]),
    }


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_mask(tmp_path / name, MASK, MANIFEST)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_changed_mask_a_foreign_file_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_mask(path, MASK, MANIFEST)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="does not match its checksum"):
        load_mask(path)
    save_file(MASK, path)
    with pytest.raises(ConfigError, match="longact-mask-1"):
        load_mask(path)
    path.write_text("no")
    with pytest.raises(ConfigError, match="not safetensors"):
        load_mask(path)
    with pytest.raises(NotFoundError, match="longact mask export"):
        load_mask(tmp_path / "other")


def test_the_file_strategy_uses_the_saved_rows(tmp_path: Path) -> None:
    save_mask(tmp_path / "m.safetensors", MASK, MANIFEST)
    settings = MaskSettings("file", 1.0, file=str(tmp_path / "m.safetensors"))
    schedule = MaskSchedule(Toy(), settings)
    schedule.arm(0)
    assert all(torch.equal(schedule.row_mask.mask[name], rows) for name, rows in MASK.items())


def test_the_file_strategy_without_a_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set mask\.file"):
        MaskSchedule(Toy(), MaskSettings("file"))
