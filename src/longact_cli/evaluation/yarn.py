"""YaRN: a longer window, only where it was asked for, and the same for every backend.

Source: arXiv 2309.00071; the model cards of Qwen3 (factor 4 over 32 768 positions).
"""

from typing import Any, NamedTuple

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.models.loading import checkpoint_config, context_window

_QWEN3_WINDOW, _QWEN3_ORIGINAL = 40_960, 32_768
"""Qwen3's window holds 8 192 positions for the answer, over which it was not pre-trained."""


class Yarn(NamedTuple):
    """How rotary positions are stretched. Lengths in tokens."""

    factor: float
    original: int
    """Positions that the model was trained on."""

    @property
    def window(self) -> int:
        """Prompt + completion, at most."""
        return int(self.factor * self.original)

    def __str__(self) -> str:
        """Return what the results say, e.g. `yarn 4 x 32768`."""
        return f"yarn {self.factor:g} x {self.original}"


def plan_yarn(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> Yarn | None:
    """Return how the window is extended; None where nobody asked for it.

    Raises:
        ConfigError: The checkpoint has YaRN already, or its positions cannot be stretched.
        PrerequisiteError: Its configuration is not on this machine.
    """
    factor = benchmark.yarn_factor
    if factor is None:
        return None
    settings = checkpoint_config(checkpoint, revision=model.revision)
    rope = rope_settings(settings)
    kind = rope.get("rope_type", rope.get("type", "default" if rope else "none"))
    if kind == "none" and "rope_theta" in settings:
        kind = "default"  # the old spelling, without a section of its own
    if kind != "default":
        raise ConfigError(
            f"benchmark.yarn_factor is {factor:g}; config.json of {model.name} has rotary "
            f"positions of type '{kind}', which YaRN cannot extend: leave it out"
        )
    native = context_window(checkpoint, revision=model.revision)
    known = _QWEN3_ORIGINAL if native == _QWEN3_WINDOW else native
    return Yarn(factor, benchmark.yarn_original or known)


def rope_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary settings of a `config.json`, old spelling or new."""
    found = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    return dict(found)


def config_overrides(yarn: Yarn | None, checkpoint: str, *, revision: str | None) -> dict[str, Any]:
    """Return the configuration keys that both backends replace in the model's own."""
    if yarn is None:
        return {}
    settings = checkpoint_config(checkpoint, revision=revision)
    theta = rope_settings(settings).get("rope_theta", settings.get("rope_theta"))
    return {
        "max_position_embeddings": yarn.window,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original,
        },
    }


def usable_window(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> int:
    """Return the window that prompts and answers may fill: the model's, or YaRN's.

    Raises:
        ConfigError: YaRN was asked for and does not suit the checkpoint.
        PrerequisiteError: The checkpoint's configuration is not on this machine.
    """
    yarn = plan_yarn(checkpoint, model=model, benchmark=benchmark)
    window = yarn.window if yarn else context_window(checkpoint, revision=model.revision)
    return window if model.max_context is None else min(window, model.max_context)


def check_window(checkpoint: str, *, model: ModelConfig, benchmark: BenchmarkConfig) -> None:
    """Check that every context length fits into the window.

    Raises:
        ConfigError: One does not.
        PrerequisiteError: The checkpoint's configuration is not on this machine.
    """
    window = usable_window(checkpoint, model=model, benchmark=benchmark)
    longest = max(benchmark.context_lengths)
    if longest <= window:
        return
    way_out = ""
    if benchmark.yarn_factor is None and model.max_context is None:
        way_out = ", or extend it with YaRN where the model allows that (benchmark.yarn_factor)"
    limit = f"{model.name} has a window of {window} tokens"
    if model.max_context == window:
        limit = f"model.max_context is {window}"
    raise ConfigError(
        f"benchmark.context_lengths is {longest}; {limit}: "
        f"give lengths of at most {window}{way_out}"
    )
