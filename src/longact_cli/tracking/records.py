"""What is written to MLflow, and read from it, beside cells."""

from collections.abc import Mapping
from typing import NamedTuple


class Unfinished(NamedTuple):
    """A run that MLflow takes for running: of a `plan` or a `cell`, and its digest."""

    run_id: str
    kind: str
    digest: str


class AnalysisRecord(NamedTuple):
    """An analysis as MLflow keeps it.

    Attributes:
        digest: Of its settings and models: one run each.
        name: Of the run.
        command: The command line.
        params: Settings.
        metrics: Numbers.
    """

    digest: str
    name: str
    command: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
