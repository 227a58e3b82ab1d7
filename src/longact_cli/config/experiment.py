"""Study files: a sweep written down, with its question, under `experiments/`."""

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError
from yaml import YAMLError

from longact_cli.errors import ConfigError

Scalar = str | int | float | bool


class Experiment(BaseModel):
    """What a study file may hold.

    Attributes:
        study: Name of the study.
        question: What it is to settle, for people.
        model: Comma list of models, as `--model` takes it.
        controls: Whether random and dense controls are added.
        sweep: Setting to its value or list of values; each list is an axis.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str | None = None
    question: str = ""
    model: str | None = None
    controls: bool = True
    sweep: dict[str, Scalar | tuple[Scalar, ...]] = {}

    @property
    def overrides(self) -> tuple[str, ...]:
        """The sweep as `key=value` texts."""
        return tuple(f"{key}={_text(value)}" for key, value in self.sweep.items())


def _text(value: Scalar | tuple[Scalar, ...]) -> str:
    items = value if isinstance(value, tuple) else (value,)
    return ",".join(str(item).lower() if isinstance(item, bool) else str(item) for item in items)


def load_experiment(path: Path) -> Experiment:
    """Read a study file.

    Raises:
        ConfigError: It does not exist or does not fit.
    """
    if not path.is_file():
        raise ConfigError(f"--experiment is {path}; there is no such file: see experiments/")
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        return Experiment.model_validate(tree)
    except (OmegaConfBaseException, YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--experiment {path} does not fit: {reason}") from None
