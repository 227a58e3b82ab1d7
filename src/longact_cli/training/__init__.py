"""Train a model: GRPO-family reinforcement learning under a row mask."""
