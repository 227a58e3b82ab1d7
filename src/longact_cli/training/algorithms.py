"""RL algorithms by name, and which parts of an algorithm a configuration really has.

An algorithm here is a trainer; what makes a run DAPO or GRPO is the configuration, in full, in
`conf/algorithm/`. So the parts are read from the values and never from the name.
"""

from typing import TYPE_CHECKING, NamedTuple

from longact_cli.config.schema import AlgorithmConfig
from longact_cli.registry import Registry

if TYPE_CHECKING:
    from longact_cli.training.grpo import LongActGRPOTrainer

ALGORITHMS: Registry["Algorithm"] = Registry("algorithm.name")


class Algorithm(NamedTuple):
    """A named RL algorithm.

    Attributes:
        source: Where it was published.
        lacks: Published parts that no configuration of ours can switch on.
    """

    source: str
    lacks: tuple[str, ...] = ()

    def trainer(self) -> "type[LongActGRPOTrainer]":
        """Return the trainer class; TRL is imported here and not before."""
        from longact_cli.training.grpo import LongActGRPOTrainer

        return LongActGRPOTrainer


ALGORITHMS.register("dapo")(Algorithm("arXiv 2503.14476", lacks=("dynamic sampling",)))
ALGORITHMS.register("grpo")(Algorithm("arXiv 2402.03300"))


class Part(NamedTuple):
    """One ingredient of an algorithm, on or off in this run."""

    name: str
    active: bool
    detail: str


def algorithm_parts(algorithm: AlgorithmConfig) -> tuple[Part, ...]:
    """Return every ingredient with whether this configuration has it."""
    entry = ALGORITHMS.get(algorithm.name)
    low, high = algorithm.clip_low, algorithm.clip_high
    updates = algorithm.updates_per_rollout
    return (
        Part("clip-higher", high > low, f"importance ratio clipped to [1-{low}, 1+{high}]"),
        Part("clipping acts", updates > 1, f"{updates} updates per rollout; 1 never clips"),
        Part("token-level loss", algorithm.loss_type == "dapo", f"loss_type {algorithm.loss_type}"),
        Part(
            "overlong filtering",
            algorithm.mask_truncated_completions,
            "truncated completions are left out of the loss",
        ),
        Part("KL penalty", algorithm.kl_coef > 0, f"kl_coef {algorithm.kl_coef}"),
        *(Part(name, False, "not available") for name in entry.lacks),
    )


def describe_parts(algorithm: AlgorithmConfig) -> str:
    """Return one line, e.g. `dapo: clip-higher yes, ..., dynamic sampling no`."""
    parts = (f"{part.name} {'yes' if part.active else 'no'}" for part in algorithm_parts(algorithm))
    return f"{algorithm.name}: {', '.join(parts)}"
