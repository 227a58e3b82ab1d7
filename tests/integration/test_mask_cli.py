"""`longact mask` and the choices of probe prompts, on the embedded model."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from longact_cli.cli.app import app
from longact_cli.config.compose import compose, parse
from longact_cli.errors import ConfigError
from longact_cli.masking import load_mask
from longact_cli.models.loading import load_tokenizer, local_checkpoint
from longact_cli.training.probe_prompts import probe_prompts


def export(out: Path, *settings: str) -> dict[str, object]:
    result = CliRunner().invoke(app, ["mask", "export", "--json", "--out", str(out), *settings])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_an_exported_mask_is_shown_used_and_repeats_to_the_byte(tmp_path: Path) -> None:
    first = export(tmp_path / "a", "--model", "micro", "--sparsity", "0.5")
    export(tmp_path / "b", "--model", "micro", "--sparsity", "0.5")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first["update_ratio"] == 0.5
    assert len(str(first["model_revision"])) == 64
    saved = load_mask(tmp_path / "a")
    assert {len(rows) for rows in saved.mask.values()} == {64, 32}
    shown = CliRunner().invoke(app, ["mask", "show", str(tmp_path / "a")])
    assert "50.0% updated" in shown.output
    again = export(tmp_path / "c", "--mask", "file", f"mask.file={tmp_path / 'a'}")
    assert again["sha256"] == first["sha256"]


@pytest.mark.slow
def test_short_prompts_give_a_mask_of_their_own(tmp_path: Path) -> None:
    short = export(tmp_path / "s", "mask.prompts=short", "mask.prompt_length=256")
    training = export(tmp_path / "t")
    assert (short["prompts"], training["prompts"]) == ("short", "training")
    assert short["sha256"] != training["sha256"]


def test_a_gradient_mask_cannot_be_exported(tmp_path: Path) -> None:
    command = ["mask", "export", "--out", str(tmp_path / "m"), "--mask", "gradient"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "no gradient without training" in result.output


def test_probe_prompts_have_the_asked_length_and_differ_between_steps() -> None:
    config = compose(parse(["mask.prompts=long", "mask.prompt_length=700"]))
    tokenizer = load_tokenizer(local_checkpoint(config.model))
    prompts = probe_prompts(config, tokenizer=tokenizer, max_prompt_tokens=1900)
    ids, kept = prompts(0)
    assert len(ids) == config.algorithm.prompts_per_step
    assert 500 < int(kept.sum(dim=1).min()) <= 700
    assert torch.equal(prompts(0)[0], ids)
    assert prompts(1)[0].shape != ids.shape or not torch.equal(prompts(1)[0], ids)
    assert probe_prompts(compose([]), tokenizer=tokenizer, max_prompt_tokens=1900) is None


def test_probe_prompts_from_a_file_are_those_of_every_step(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one two"}\n{"prompt": "three"}\n')
    config = compose(parse(["mask.prompts=file", f"mask.prompts_file={path}"]))
    tokenizer = load_tokenizer(local_checkpoint(config.model))
    ids, kept = probe_prompts(config, tokenizer=tokenizer, max_prompt_tokens=100)(5)
    texts = [tokenizer.decode(row[mask.bool()]) for row, mask in zip(ids, kept, strict=True)]
    assert texts == ["one two", "three"]
    path.write_text('{"question": "one"}\n')
    with pytest.raises(ConfigError, match="line 1: not a JSON object with a 'prompt'"):
        probe_prompts(config, tokenizer=tokenizer, max_prompt_tokens=100)
