"""Building the micro model: by steps, from a seed, to the same bytes."""

import json
from pathlib import Path

import pytest
import torch

from longact_cli.training.micro.batches import Mixture
from longact_cli.training.micro.build import build_micro
from longact_cli.training.micro.pretrain import Phase, Recipe, learning_rate_factor, phase_at


def test_phases_change_at_their_share_of_the_steps() -> None:
    early, late = Phase(0.0, Mixture({}, 8, 1)), Phase(0.5, Mixture({}, 16, 2))
    recipe = Recipe(steps=10, phases=(early, late))
    assert [phase_at(recipe, step) is late for step in (0, 4, 5, 9)] == [False, False, True, True]


def test_the_learning_rate_warms_up_holds_and_decays() -> None:
    recipe = Recipe(steps=1000, phases=(), warmup_steps=100, decay_from=0.6, final_share=0.05)
    factors = [learning_rate_factor(recipe, step) for step in (0, 49, 300, 800, 999)]
    assert factors == pytest.approx([0.01, 0.5, 1.0, 0.5, 0.05])


@pytest.mark.slow
def test_the_same_seed_gives_identical_files(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    steps: list[tuple[int, int]] = []
    for name in ("one", "two"):
        torch.rand(3)
        build_micro(
            tmp_path / name,
            seed=5,
            steps=4,
            progress=lambda done, total, _loss: steps.append((done, total)),
        )
    torch.random.set_rng_state(state)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "PROVENANCE.json"} <= names
    for name in sorted(names):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2


@pytest.mark.slow
def test_provenance_states_the_command_and_what_was_trained(tmp_path: Path) -> None:
    made = build_micro(tmp_path / "model", seed=6, steps=2, progress=lambda *_: None)
    stored = json.loads((tmp_path / "model" / "PROVENANCE.json").read_text())
    assert stored["command"] == "longact models build --out DIR --seed 6 --steps 2"
    assert (stored["seed"], stored["steps"]) == (6, 2)
    assert stored["checkpoint_sha256"] == made.checkpoint_sha256
    assert set(stored["answer_accuracy"]) == set(made.answer_accuracy)
