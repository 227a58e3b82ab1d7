"""Which figures a study gets, each with its points as CSV."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from longact_cli.reporting.curves import reward_curves
from longact_cli.reporting.figures import draw, paint_rewards, paint_sparsity, reward_points
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.reporting.render import FORMATS
from longact_cli.reporting.table import Provenance, Table
from longact_cli.reporting.tables import TABLES


def figure_files(
    uri: str, study: Study, formats: Sequence[str], provenance: Provenance
) -> Iterator[tuple[str, bytes]]:
    """Yield file names with contents: reward curves, and score by sparsity for each section.

    Raises:
        TrackingError: MLflow failed.
    """
    arms = collect_arms(study)
    if curves := reward_curves(uri, study.cells, arms):
        yield from draw("rewards", paint_rewards(curves), formats, provenance)
        yield "rewards.csv", _csv(reward_points(curves, study.name, provenance))
    sections = [(key, list(group)) for key, group in groupby(arms, lambda arm: arm.section)]
    for i, (section, group) in enumerate(sections, start=1):
        name = "score_by_sparsity" + (f"_{i}" if len(sections) > 1 else "")
        yield from draw(name, paint_sparsity(section, group), formats, provenance)
    yield "score_by_sparsity.csv", _csv(TABLES.get("sparsity")(study, provenance))


def _csv(table: Table) -> bytes:
    return FORMATS.get("csv")(table).encode("utf-8")
