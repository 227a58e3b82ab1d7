"""longact: RL on long contexts with saliency-masked query/key gradients, reproduced and tested."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(
    runs_dir: str | Path = "runs",
    experiment: str | None = None,
    *,
    level: Literal["questions", "scores"] = "questions",
    settings: tuple[str, ...] = (),
    tracking_uri: str | None = None,
) -> "pd.DataFrame":
    """Return the tidy frame that all tables are made from.

    Args:
        runs_dir: The store, as `--runs-dir`.
        experiment: Study, or a comma list read as one; None: the only one there is.
        level: `questions` has one row per answered question and run (`score` in 0..1, NaN exactly
            where `failed`); `scores` has one row per task, context length and run, as the
            benchmark counted it.
        settings: Configuration keys to add as columns of text, e.g. `("mask.scope",)`.
        tracking_uri: MLflow store, where it is not the database in `runs_dir`.

    Raises:
        NotFoundError: There is no such study, or nothing of it is finished.
        ConfigError: Several studies exist and none is named, or an argument is unknown.
        TrackingError: MLflow failed.
    """
    from longact_cli.reporting.api import load_frame
    from longact_cli.tracking import default_tracking_uri

    uri = tracking_uri or default_tracking_uri(Path(runs_dir))
    return load_frame(uri, experiment, level=level, settings=settings)
