"""Small training cells for the integration tests."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from longact_cli.config.schema import RunConfig
from longact_cli.training.rewards import REWARDS

CONF = Path(__file__).parents[2] / "conf"
SMALL = {
    "steps": 4,
    "prompts_per_step": 2,
    "group_size": 4,
    "micro_batch_size": 4,
    "updates_per_rollout": 2,
    "checkpoint_every": 2,
    "max_completion_tokens": 6,
    "learning_rate": 1.0e-2,
    "warmup_steps": 0,
    "max_grad_norm": 1.0e9,
    "mask_truncated_completions": False,
    "dynamic_sampling": "none",
    "overlong_cache": 0.0,
    "share_prompt_prefix": True,
}


if "test_length" not in REWARDS.names():

    @REWARDS.register("test_length")
    def length_reward(completion: str, references: Sequence[str]) -> float:
        """A reward that a random model earns now and then, so that groups differ."""
        return len(completion) % 5 / 4

    @REWARDS.register("test_rare")
    def rare_reward(completion: str, references: Sequence[str]) -> float:
        """A reward that about a third of all groups of a random model never earn."""
        return float(len(completion) % 11 == 0)


def cell(
    checkpoint: Path,
    *,
    algorithm: str = "dapo",
    strategy: str = "salient",
    reward: str = "test_length",
    seed: int = 0,
    **changes,
) -> RunConfig:
    """A cell that trains in a few seconds; `changes` are algorithm settings."""

    def group(name: str) -> dict:
        return yaml.safe_load((CONF / f"{name}.yaml").read_text())

    return RunConfig.model_validate(
        {
            "model": {"name": "path", "path": str(checkpoint)},
            "data": {
                **group("data/ruler_train"),
                "tasks": ["niah_single_1"],
                "context_lengths": [400],
                "reward": reward,
            },
            "algorithm": {**group(f"algorithm/{algorithm}"), **SMALL, **changes},
            "mask": group(f"mask/{strategy}"),
            "benchmark": group("benchmark/ruler"),
            "executor": group("executor/local"),
            "seed": seed,
        }
    )


def with_many_end_tokens(checkpoint: Path, folder: Path) -> Path:
    """A copy whose random model often ends by itself: a quarter of all tokens are end tokens."""
    import json

    shutil.copytree(checkpoint, folder)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    ends = sorted({settings["eos_token_id"], *range(3, vocabulary, 4)})
    path.write_text(json.dumps({**settings, "eos_token_id": ends}))
    return folder
