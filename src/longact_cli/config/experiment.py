"""Study files: a sweep written down, with its question, under `experiments/`."""

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from yaml import YAMLError

from longact_cli.errors import ConfigError

Scalar = str | int | float | bool | None
Value = Scalar | tuple[Scalar, ...]


class Experiment(BaseModel):
    """What a study file may hold.

    Attributes:
        study: Name of the study.
        question: What it is to settle, for people.
        model: Comma list of models, as `--model` takes it.
        controls: Whether random and dense controls are added.
        sweep: Setting to its value or list of values; each list is an axis. A value that is a list
            itself (`data.context_lengths`) stands in a list of such.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str | None = None
    question: str = ""
    model: str | None = None
    controls: bool = True
    sweep: dict[str, Scalar | tuple[Value, ...]] = {}

    @property
    def overrides(self) -> tuple[str, ...]:
        """The sweep as `key=value` texts."""
        return tuple(f"{key}={_text(value)}" for key, value in self.sweep.items())


def _text(value: Scalar | tuple[Value, ...]) -> str:
    return ",".join(map(_item, value)) if isinstance(value, tuple) else _item(value)


def _item(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(_item, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    except ValidationError as error:
        reason = "; ".join(dict.fromkeys(map(_complaint, error.errors())))
    except OSError as error:
        reason = str(error.strerror)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
    raise ConfigError(f"--experiment {path} does not fit: {reason}")


def _complaint(error: ErrorDetails) -> str:
    """Say what is wrong with one entry, and what is allowed there."""
    key = ".".join(map(str, error["loc"][:1])) or "the file"
    if error["type"] == "extra_forbidden":
        return f"'{key}' is not one of {', '.join(Experiment.model_fields)}"
    if key == "sweep" and len(error["loc"]) > 1:
        return f"sweep: {error['loc'][1]} must be a value or a list of values"
    return f"{key}: {error['msg'][:1].lower()}{error['msg'][1:]}"
