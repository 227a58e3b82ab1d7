"""Algorithms by name, and which parts of an algorithm a configuration really has.

An algorithm here is a trainer; what makes a run DAPO or GRPO is the configuration, in full, in
`conf/algorithm/`. So the parts are read from the values and never from the name.
"""

from typing import NamedTuple

from longact_cli.config.algorithm import TOKEN_MEAN_LOSSES, AlgorithmConfig
from longact_cli.registry import Registry
from longact_cli.training.rewards import overlong_cache_tokens

ALGORITHMS: Registry["Algorithm"] = Registry("algorithm.name")


class Algorithm(NamedTuple):
    """A named algorithm and where its published settings come from."""

    source: str


_ENTROPY = "arXiv 2505.22617"
_SOURCES = {
    "cispo": "arXiv 2506.13585",
    "clip-cov": f"{_ENTROPY}, the authors' 7B run",
    "clip-cov-verl": f"{_ENTROPY}, defaults of verl",
    "dapo": "arXiv 2503.14476",
    "dr-grpo": "arXiv 2503.20783",
    "grpo": "arXiv 2402.03300",
    "gspo": "arXiv 2507.18071",
    "kl-cov": f"{_ENTROPY}, the authors' 7B run",
    "kl-cov-32b": f"{_ENTROPY}, the authors' 32B run",
    "kl-cov-verl": f"{_ENTROPY}, defaults of verl",
    "sft": "supervised fine-tuning",
}
for _name, _source in _SOURCES.items():
    ALGORITHMS.register(_name)(Algorithm(_source))


class Part(NamedTuple):
    """One ingredient of an algorithm, on or off in this run."""

    name: str
    active: bool
    detail: str


def algorithm_parts(algorithm: AlgorithmConfig) -> tuple[Part, ...]:
    """Return every ingredient with whether this configuration has it.

    Raises:
        UnknownNameError: There is no such algorithm.
    """
    ALGORITHMS.get(algorithm.name)
    if algorithm.kind == "sft":
        return (Part("supervised", True, "mean log-likelihood of the reference answers' tokens"),)
    return (*_loss_parts(algorithm), *_sampling_parts(algorithm))


def _loss_parts(algorithm: AlgorithmConfig) -> tuple[Part, ...]:
    low, high = algorithm.clip_low, algorithm.clip_high
    updates = algorithm.updates_per_rollout
    clips = (low, high) != (None, None)
    token_mean = algorithm.loss_type in TOKEN_MEAN_LOSSES
    return (
        Part("clip-higher", clips and (high or 0.0) > (low or 0.0), _bounds(low, high)),
        Part("clipping acts", clips and updates > 1, f"{updates} updates per rollout; 1 never"),
        Part("token-level loss", token_mean, f"loss_type {algorithm.loss_type}"),
        Part(
            "sequence-level ratio",
            algorithm.importance_sampling_level == "sequence",
            f"importance ratio per {algorithm.importance_sampling_level}",
        ),
        Part(
            "covariance clip",
            algorithm.covariance == "clip_cov",
            f"{algorithm.cov_ratio:g} of the tokens in ({algorithm.cov_low:g}, "
            f"{algorithm.cov_high:g}) leave the loss",
        ),
        Part(
            "covariance KL",
            algorithm.covariance == "kl_cov" and updates > 1,
            f"{algorithm.cov_ratio:g} of the tokens pay {algorithm.cov_kl_coef:g} x |log ratio|",
        ),
        Part("KL penalty", algorithm.kl_coef > 0, f"kl_coef {algorithm.kl_coef}"),
    )


def _sampling_parts(algorithm: AlgorithmConfig) -> tuple[Part, ...]:
    cache = overlong_cache_tokens(algorithm.overlong_cache, algorithm.max_completion_tokens)
    return (
        Part(
            "dynamic sampling",
            algorithm.dynamic_sampling == "refill",
            f"groups of one accuracy are replaced, {algorithm.max_generation_batches} generations "
            "at most",
        ),
        Part(
            "group filter",
            algorithm.dynamic_sampling != "none",
            "groups of one accuracy are left out of the loss",
        ),
        Part(
            "overlong filtering",
            algorithm.mask_truncated_completions,
            "truncated completions are left out of the loss",
        ),
        Part(
            "soft overlong punishment",
            algorithm.overlong_cache > 0,
            f"the reward falls by 1 over the last {cache} tokens",
        ),
    )


def _bounds(low: float | None, high: float | None) -> str:
    below = "0" if low is None else f"1-{low:g}"
    above = "open" if high is None else f"1+{high:g}"
    return f"importance ratio clipped to [{below}, {above}]"


def describe_parts(algorithm: AlgorithmConfig) -> str:
    """Return one line, e.g. `dapo: clip-higher yes, ..., dynamic sampling no`."""
    parts = (f"{part.name} {'yes' if part.active else 'no'}" for part in algorithm_parts(algorithm))
    return f"{algorithm.name}: {', '.join(parts)}"
