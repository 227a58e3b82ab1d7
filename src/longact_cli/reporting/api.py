"""Behind `longact_cli.load`: which study, which frame, which settings beside it."""

from typing import TYPE_CHECKING

from longact_cli.errors import ConfigError, NotFoundError
from longact_cli.registry import unknown_name
from longact_cli.tracking.query import list_studies

if TYPE_CHECKING:
    import pandas as pd


def only_study(uri: str) -> str:
    """Return the name of the one study in a store.

    Raises:
        NotFoundError: There is none.
        ConfigError: There are several.
        TrackingError: MLflow failed.
    """
    studies = list_studies(uri)
    if not studies:
        raise NotFoundError(f"{uri} holds no study yet; run `longact ablate` first")
    if len(studies) > 1:
        raise ConfigError(f"--experiment is not given; it must be one of: {', '.join(studies)}")
    return studies[0]


def load_frame(
    uri: str, experiment: str | None, *, level: str, settings: tuple[str, ...]
) -> "pd.DataFrame":
    """Return a study's frame; see `longact_cli.load`.

    Raises:
        NotFoundError: There is no such study, or nothing of it is finished.
        ConfigError: Several studies exist and none is named, or an argument is unknown.
        TrackingError: MLflow failed.
    """
    from longact_cli.reporting.frame import load_study  # imports pandas

    if level not in ("questions", "scores"):
        raise unknown_name("level", level, ("questions", "scores"))
    names = [word.strip() for word in (experiment or only_study(uri)).split(",")]
    study = load_study(uri, *filter(None, names))
    frame = study.samples if level == "questions" else study.scores
    known = {key for cell in study.scored for key in cell.params}
    for key in settings:
        if key not in known:
            raise unknown_name("settings", key, known)
        frame[key] = frame["cell"].map({cell.digest: cell.params.get(key) for cell in study.scored})
    return frame
